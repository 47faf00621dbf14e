// What a subscriber and an exporter are given, straight from a store.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "lib/metrics/histogram.h"
#include "server/service/documents.h"
#include "server/service/export_source.h"
#include "server/service/metrics_feed.h"
#include "server/service/snapshot_merger.h"
#include "server/store/store.h"
#include "tests/server/temporary_folder.h"

namespace loadstar::server {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

v1::Snapshot MakeSnapshot(uint32_t second, uint64_t answered, uint64_t latency_us) {
  v1::Snapshot snapshot;
  snapshot.set_run_id("a-1");
  snapshot.set_from_elapsed_s(second);
  snapshot.set_to_elapsed_s(second);
  snapshot.set_stage_index(second / 10);
  snapshot.mutable_figures()->mutable_counters()->set_requests_answered(answered);
  snapshot.mutable_figures()->mutable_gauges()->set_connections_established(100 + second);
  metrics::Histogram histogram;
  histogram.Record(latency_us, answered);
  histogram.ToProto(snapshot.mutable_figures()->mutable_latency());
  *snapshot.mutable_latency() = histogram.ToPercentiles();
  v1::EndpointFigures* endpoint = snapshot.add_endpoints();
  endpoint->set_endpoint("e");
  *endpoint->mutable_counters() = snapshot.figures().counters();
  endpoint->mutable_gauges()->set_connections_established(100 + second);
  v1::WorkerUsage* usage = snapshot.add_workers();
  usage->set_worker_index(1);
  usage->set_cpu_ns(1000);
  usage->set_loop_max_ns(second);
  usage->set_rss_bytes(second);
  v1::HostFigures* host = snapshot.add_hosts();
  host->set_agent("host1");
  host->set_seconds(1);
  host->set_tcp_timeouts(2);
  if (second == 1) snapshot.add_missing_agents("host2");
  return snapshot;
}

class FeedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = Store::Open(folder_.path());
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
    auto reader = Reader::Open(store_->path());
    ASSERT_TRUE(reader.ok()) << reader.status();
    reader_ = std::move(*reader);
  }
  void PutState(v1::RunState state, int events = 0) {
    v1::Run run;
    run.set_run_id("a-1");
    run.set_state(state);
    for (int i = 0; i < events; ++i) run.add_events()->set_code("code");
    ASSERT_TRUE(store_->Apply({PutRun{run, ""}}, kNow).ok());
  }
  void PutSeconds(uint32_t from, uint32_t to) {
    std::vector<Action> batch;
    for (uint32_t second = from; second <= to; ++second) {
      batch.push_back(PutSnapshot{MakeSnapshot(second, 10, 1000 + second)});
    }
    ASSERT_TRUE(store_->Apply(batch, kNow).ok());
  }
  static MetricsFeed MakeFeed(int64_t from) {
    v1::StreamMetricsRequest request;
    request.set_run_id("a-1");
    request.set_from_elapsed_s(from);
    return MetricsFeed(request);
  }
  // Late figures come in for a second.
  void Change(uint32_t second, uint64_t answered) {
    ASSERT_TRUE(store_->Apply({PutSnapshot{MakeSnapshot(second, answered, 1000 + second)}}, kNow).ok());
  }
  // "run STATE", "FROM-TO", "corrected FROM-TO", "nothing" or "end CODE".
  std::string Next(MetricsFeed* feed) {
    message_.Clear();
    absl::Status end;
    switch (feed->Next(reader_.get(), &message_, &end)) {
      case rpc::Pulled::kNothing:
        return "nothing";
      case rpc::Pulled::kEnd:
        return "end " + absl::StatusCodeToString(end.code());
      case rpc::Pulled::kMessage:
        break;
    }
    if (message_.has_run()) return "run " + std::to_string(message_.run().state());
    return std::string(message_.snapshot().correction() ? "corrected " : "") +
           std::to_string(message_.snapshot().from_elapsed_s()) + "-" +
           std::to_string(message_.snapshot().to_elapsed_s());
  }

  TemporaryFolder folder_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Reader> reader_;
  v1::StreamMetricsResponse message_;
};

TEST_F(FeedTest, GivesTheRunThenItsSecondsThenTheFinishedRunThenEnds) {
  PutState(v1::RUN_STATE_RUNNING);
  PutSeconds(0, 1);
  MetricsFeed feed = MakeFeed(0);
  EXPECT_EQ(Next(&feed), "run 3");
  EXPECT_EQ(Next(&feed), "0-0");
  EXPECT_EQ(Next(&feed), "1-1");
  EXPECT_EQ(Next(&feed), "nothing");
  PutSeconds(2, 2);
  EXPECT_EQ(Next(&feed), "2-2");
  PutState(v1::RUN_STATE_STOPPING);
  EXPECT_EQ(Next(&feed), "run 4");
  PutSeconds(3, 4);
  PutState(v1::RUN_STATE_FINISHED);
  EXPECT_EQ(Next(&feed), "3-3") << "the finished run is the last message";
  EXPECT_EQ(Next(&feed), "4-4");
  EXPECT_EQ(Next(&feed), "run 5");
  EXPECT_EQ(Next(&feed), "end OK");
}

TEST_F(FeedTest, AnEventGivesTheRunAgain) {
  PutState(v1::RUN_STATE_RUNNING);
  MetricsFeed feed = MakeFeed(0);
  EXPECT_EQ(Next(&feed), "run 3");
  EXPECT_EQ(Next(&feed), "nothing");
  PutState(v1::RUN_STATE_RUNNING, 1);
  EXPECT_EQ(Next(&feed), "run 3");
  EXPECT_EQ(Next(&feed), "nothing");
}

TEST_F(FeedTest, AFinishedRunIsReplayedSecondBySecond) {
  PutState(v1::RUN_STATE_FINISHED);
  PutSeconds(0, 5);
  MetricsFeed feed = MakeFeed(3);
  EXPECT_EQ(Next(&feed), "run 5") << "first what run it is";
  EXPECT_EQ(Next(&feed), "3-3");
  EXPECT_EQ(Next(&feed), "4-4");
  EXPECT_EQ(Next(&feed), "5-5");
  EXPECT_EQ(Next(&feed), "run 5");
  EXPECT_EQ(Next(&feed), "end OK");
  EXPECT_EQ(Next(&feed), "end OK");
}

TEST_F(FeedTest, FromNowOnSkipsWhatWas) {
  PutState(v1::RUN_STATE_RUNNING);
  PutSeconds(0, 5);
  MetricsFeed feed = MakeFeed(-1);
  EXPECT_EQ(Next(&feed), "run 3");
  EXPECT_EQ(Next(&feed), "nothing");
  PutSeconds(6, 6);
  EXPECT_EQ(Next(&feed), "6-6");
}

TEST_F(FeedTest, AReaderThatFellBehindIsGivenOneMergedSnapshotAndMissesNothing) {
  PutState(v1::RUN_STATE_RUNNING);
  MetricsFeed feed = MakeFeed(0);
  EXPECT_EQ(Next(&feed), "run 3");
  PutSeconds(0, 29);
  EXPECT_EQ(Next(&feed), "0-29");
  const v1::Snapshot& merged = message_.snapshot();
  EXPECT_EQ(merged.figures().counters().requests_answered(), 300u);
  EXPECT_EQ(merged.figures().gauges().connections_established(), 129u) << "gauges are the last second's";
  EXPECT_EQ(merged.latency().count(), 300u);
  EXPECT_EQ(merged.latency().max_us(), 1029u);
  EXPECT_EQ(merged.latency().p50_us(), 1014u) << "read from the merged histogram";
  EXPECT_EQ(merged.stage_index(), 2u);
  ASSERT_EQ(merged.endpoints_size(), 1);
  EXPECT_EQ(merged.endpoints(0).counters().requests_answered(), 300u);
  ASSERT_EQ(merged.workers_size(), 1);
  EXPECT_EQ(merged.workers(0).cpu_ns(), 30'000u);
  EXPECT_EQ(merged.workers(0).loop_max_ns(), 29u);
  ASSERT_EQ(merged.hosts_size(), 1);
  EXPECT_EQ(merged.hosts(0).agent(), "host1");
  EXPECT_EQ(merged.hosts(0).seconds(), 30u);
  EXPECT_EQ(merged.hosts(0).tcp_timeouts(), 60u);
  EXPECT_THAT(merged.missing_agents(), ::testing::ElementsAre("host2"));
  PutSeconds(30, 31);
  EXPECT_EQ(Next(&feed), "30-30") << "two behind is not behind";
  EXPECT_EQ(Next(&feed), "31-31");
}

TEST_F(FeedTest, ASecondThatChangedAfterItWasGivenIsGivenAgainAsACorrection) {
  PutState(v1::RUN_STATE_RUNNING);
  PutSeconds(0, 3);
  MetricsFeed feed = MakeFeed(0);
  EXPECT_EQ(Next(&feed), "run 3");
  for (const char* given : {"0-0", "1-1", "2-2"}) EXPECT_EQ(Next(&feed), given);
  Change(1, 15);
  Change(3, 17);  // not given yet
  EXPECT_EQ(Next(&feed), "corrected 1-1");
  EXPECT_EQ(message_.snapshot().figures().counters().requests_answered(), 15u);
  EXPECT_EQ(Next(&feed), "3-3") << "what was not given yet is no correction";
  EXPECT_EQ(message_.snapshot().figures().counters().requests_answered(), 17u);
  EXPECT_EQ(Next(&feed), "nothing") << "each change once";
  PutSeconds(4, 4);
  EXPECT_EQ(Next(&feed), "4-4");
  Change(0, 20);
  Change(4, 20);
  EXPECT_EQ(Next(&feed), "corrected 0-0");
  Change(0, 21);  // behind a pass that is under way
  EXPECT_EQ(Next(&feed), "corrected 4-4");
  EXPECT_EQ(Next(&feed), "corrected 0-0");
  EXPECT_EQ(message_.snapshot().figures().counters().requests_answered(), 21u);
  EXPECT_EQ(Next(&feed), "nothing");
  Change(2, 30);
  PutState(v1::RUN_STATE_FINISHED);
  EXPECT_EQ(Next(&feed), "corrected 2-2") << "before the finished run, which ends it";
  EXPECT_EQ(Next(&feed), "run 5");
  EXPECT_EQ(Next(&feed), "end OK");
}

TEST_F(FeedTest, AMergedIntervalIsCorrectedAsAWhole) {
  PutState(v1::RUN_STATE_RUNNING);
  MetricsFeed feed = MakeFeed(0);
  EXPECT_EQ(Next(&feed), "run 3");
  PutSeconds(0, 9);
  EXPECT_EQ(Next(&feed), "0-9");
  PutSeconds(10, 10);
  EXPECT_EQ(Next(&feed), "10-10");
  Change(3, 20);
  Change(4, 20);
  Change(10, 20);
  EXPECT_EQ(Next(&feed), "corrected 0-9");
  EXPECT_EQ(message_.snapshot().figures().counters().requests_answered(), 120u);
  EXPECT_EQ(Next(&feed), "corrected 10-10");
  EXPECT_EQ(Next(&feed), "nothing");
}

TEST_F(FeedTest, WhatAStreamDidNotGiveItDoesNotCorrect) {
  PutState(v1::RUN_STATE_RUNNING);
  PutSeconds(0, 5);
  MetricsFeed feed = MakeFeed(4);
  EXPECT_EQ(Next(&feed), "run 3");
  EXPECT_EQ(Next(&feed), "4-4");
  Change(1, 20);
  Change(4, 20);
  EXPECT_EQ(Next(&feed), "corrected 4-4");
  EXPECT_EQ(Next(&feed), "5-5");
  EXPECT_EQ(Next(&feed), "nothing");
}

TEST_F(FeedTest, ExportOfARunThatIsDeletedMeanwhileIsNotTakenForAllOfIt) {
  PutState(v1::RUN_STATE_FINISHED);
  PutSeconds(0, 9'999);
  ExportSource source("a-1", "1.0");
  v1::ExportRunResponse piece;
  absl::Status end;
  ASSERT_EQ(source.Next(reader_.get(), &piece, &end), rpc::Pulled::kMessage);
  Retention keep;
  keep.age = absl::ZeroDuration();
  ASSERT_TRUE(store_->Tidy(keep, kNow).ok());
  while (source.Next(reader_.get(), &piece, &end) == rpc::Pulled::kMessage) {
  }
  EXPECT_EQ(end.code(), absl::StatusCode::kNotFound) << end;
}

TEST_F(FeedTest, NoRunIsNotFound) {
  MetricsFeed feed = MakeFeed(0);
  EXPECT_EQ(Next(&feed), "end NOT_FOUND");
}

TEST_F(FeedTest, ExportGivesTheFilesOneAfterTheOtherInPiecesThatFit) {
  PutState(v1::RUN_STATE_FINISHED);
  PutSeconds(0, 9'999);
  ExportSource source("a-1", "1.0");
  std::vector<std::string> order;
  std::map<std::string, std::string> files;
  while (true) {
    v1::ExportRunResponse piece;
    absl::Status end;
    if (source.Next(reader_.get(), &piece, &end) != rpc::Pulled::kMessage) {
      EXPECT_TRUE(end.ok()) << end;
      break;
    }
    EXPECT_LE(piece.content().size(), size_t{256} << 10);
    if (order.empty() || order.back() != piece.file_name()) order.push_back(piece.file_name());
    files[piece.file_name()] += piece.content();
  }
  EXPECT_THAT(order, ::testing::ElementsAre("connections.csv", "latency.csv", "node-metrics.csv", "host-metrics.txt",
                                            "run.json", "summary.txt"));
  EXPECT_EQ(std::count(files["connections.csv"].begin(), files["connections.csv"].end(), '\n'), 10'001);
  EXPECT_EQ(std::count(files["latency.csv"].begin(), files["latency.csv"].end(), '\n'), 10'001);
  EXPECT_THAT(files["latency.csv"], ::testing::HasSubstr("\n9999,10,"));
}

TEST_F(FeedTest, ExportOfARunThatIsNotFinishedIsRefused) {
  PutState(v1::RUN_STATE_RUNNING);
  ExportSource source("a-1", "1.0");
  v1::ExportRunResponse piece;
  absl::Status end;
  EXPECT_EQ(source.Next(reader_.get(), &piece, &end), rpc::Pulled::kEnd);
  EXPECT_EQ(end.code(), absl::StatusCode::kFailedPrecondition);
}

TEST(SnapshotMerger, RefusesAMalformedHistogram) {
  v1::Snapshot snapshot = MakeSnapshot(0, 1, 1);
  snapshot.mutable_figures()->mutable_latency()->add_counts(5);
  SnapshotMerger merger;
  EXPECT_FALSE(merger.Add(snapshot));
}

TEST(Documents, AnUpdateThatChangesNothingOrTooMuchIsRefusedWithTheField) {
  v1::UpdateLoadRequest request;
  request.set_run_id("a-1");
  EXPECT_THAT(std::string(CheckUpdate(request).message()), ::testing::HasSubstr("changes nothing"));
  request.mutable_update()->set_connections(1'000'000'000'000);
  EXPECT_THAT(std::string(CheckUpdate(request).message()), ::testing::HasSubstr("update.connections"));
  request.mutable_update()->set_connections(10);
  EXPECT_TRUE(CheckUpdate(request).ok());
  request.mutable_update()->mutable_ramp()->set_seconds(-1);
  EXPECT_THAT(std::string(CheckUpdate(request).message()), ::testing::HasSubstr("update.ramp"));
  request.mutable_update()->clear_ramp();
  request.mutable_update()->set_rate_per_s(-1);
  EXPECT_THAT(std::string(CheckUpdate(request).message()), ::testing::HasSubstr("update.rate_per_s"));
  request.set_run_id("../etc");
  EXPECT_THAT(std::string(CheckUpdate(request).message()), ::testing::HasSubstr("run_id"));
}

}  // namespace
}  // namespace loadstar::server
