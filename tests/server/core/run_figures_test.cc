#include "server/core/run_figures.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::server {
namespace {

v1::AgentSample SampleOf(uint32_t second, uint64_t established, const std::vector<uint64_t>& latencies_us = {}) {
  v1::AgentSample sample;
  sample.set_elapsed_s(second);
  sample.set_workers_expected(1);
  sample.set_workers_merged(1);
  sample.mutable_figures()->mutable_gauges()->set_connections_established(established);
  sample.mutable_figures()->mutable_counters()->set_requests_answered(latencies_us.size());
  metrics::Histogram latency;
  for (const uint64_t us : latencies_us) latency.Record(us);
  latency.ToProto(sample.mutable_figures()->mutable_latency());
  return sample;
}

class RunFiguresTest : public testing::Test {
 protected:
  RunFiguresTest() : figures_({"127.0.0.1:1"}, {"node1"}, 10) {
    figures_.Join("a", true);
    figures_.Join("b", true);
  }
  std::vector<v1::Snapshot> Publish(uint32_t due) {
    std::vector<v1::Snapshot> out;
    figures_.Publish(due, [&](v1::Snapshot* snapshot) { out.push_back(*snapshot); });
    return out;
  }
  RunFigures figures_;
};

TEST_F(RunFiguresTest, SecondIsGivenOutWhenEveryAgentHasDeliveredIt) {
  figures_.Add("a", SampleOf(0, 3));
  EXPECT_TRUE(Publish(0).empty());
  figures_.Add("b", SampleOf(0, 4));
  const auto snapshots = Publish(0);
  ASSERT_EQ(snapshots.size(), 1u);
  EXPECT_EQ(snapshots[0].figures().gauges().connections_established(), 7u);
  EXPECT_EQ(snapshots[0].missing_agents_size(), 0);
}

TEST_F(RunFiguresTest, LateAgentIsNamedAndItsPartIsAddedWhenItComes) {
  figures_.Add("a", SampleOf(0, 3));
  auto snapshots = Publish(1);
  ASSERT_EQ(snapshots.size(), 1u);
  ASSERT_EQ(snapshots[0].missing_agents_size(), 1);
  EXPECT_EQ(snapshots[0].missing_agents(0), "b");
  figures_.Add("b", SampleOf(0, 4));
  snapshots = Publish(1);
  ASSERT_EQ(snapshots.size(), 1u);
  EXPECT_EQ(snapshots[0].to_elapsed_s(), 0u);
  EXPECT_EQ(snapshots[0].figures().gauges().connections_established(), 7u);
  EXPECT_EQ(snapshots[0].missing_agents_size(), 0);
  EXPECT_TRUE(Publish(1).empty());
}

// Every endpoint with latencies of all sizes up to 40 ms.
v1::AgentSample ManyEndpoints(uint32_t second, uint32_t endpoints) {
  v1::AgentSample sample = SampleOf(second, 1);
  metrics::Histogram latency;
  for (uint64_t us = 1; us < 40'000; ++us) latency.Record(us, 200);
  for (uint32_t i = 0; i < endpoints; ++i) {
    v1::EndpointFigures* endpoint = sample.add_endpoints();
    endpoint->set_endpoint(absl::StrCat("127.0.0.1:", i));
    endpoint->mutable_counters()->set_requests_answered(7);
    latency.ToProto(endpoint->mutable_latency());
  }
  return sample;
}
std::vector<std::string> Endpoints(uint32_t count) {
  std::vector<std::string> all;
  for (uint32_t i = 0; i < count; ++i) all.push_back(absl::StrCat("127.0.0.1:", i));
  return all;
}

TEST(RunFigures, WhatIsHandedOutFitsAMessageHoweverManyEndpoints) {
  RunFigures figures(Endpoints(1024), {}, 10);
  figures.Join("a", true);
  const v1::AgentSample sample = ManyEndpoints(0, 1024);
  ASSERT_GT(sample.ByteSizeLong(), size_t{16} << 20) << "else this proves nothing";
  figures.Add("a", sample);
  v1::Snapshot snapshot;
  figures.Publish(1, [&](v1::Snapshot* each) { snapshot = *each; });
  EXPECT_LT(snapshot.ByteSizeLong(), size_t{8} << 20);
  EXPECT_TRUE(snapshot.endpoint_latency_left_out());
  ASSERT_EQ(snapshot.endpoints_size(), 1024);
  EXPECT_FALSE(snapshot.endpoints(5).has_latency()) << "absent, not empty";
  EXPECT_EQ(snapshot.endpoints(5).counters().requests_answered(), 7u);
  v1::Run run;
  EXPECT_TRUE(figures.EndpointTotals(run.mutable_endpoint_totals()));
  EXPECT_LT(run.ByteSizeLong(), size_t{8} << 20);
  EXPECT_FALSE(run.endpoint_totals(5).has_latency());
  EXPECT_EQ(run.endpoint_totals(5).counters().requests_answered(), 7u);
}

TEST(RunFigures, LatencyByEndpointOfAPartIsNotTakenForTheWhole) {
  RunFigures figures(Endpoints(1), {}, 10);
  figures.Join("a", true);
  figures.Join("b", true);
  figures.Add("a", ManyEndpoints(0, 1));
  v1::AgentSample without = ManyEndpoints(0, 1);
  without.mutable_endpoints(0)->clear_latency();
  without.set_endpoint_latency_left_out(true);
  figures.Add("b", without);
  figures.Add("a", ManyEndpoints(1, 1));
  figures.Add("b", ManyEndpoints(1, 1));
  std::vector<v1::Snapshot> snapshots;
  figures.Publish(0, [&](v1::Snapshot* each) { snapshots.push_back(*each); });
  ASSERT_EQ(snapshots.size(), 2u);
  EXPECT_TRUE(snapshots[0].endpoint_latency_left_out());
  EXPECT_FALSE(snapshots[0].endpoints(0).has_latency());
  EXPECT_FALSE(snapshots[1].endpoint_latency_left_out());
  EXPECT_TRUE(snapshots[1].endpoints(0).has_latency());
  v1::Run run;
  EXPECT_TRUE(figures.EndpointTotals(run.mutable_endpoint_totals()));
  EXPECT_FALSE(run.endpoint_totals(0).has_latency());
}

TEST_F(RunFiguresTest, HostsFiguresCarryTheirAgentAndWhatNodesSaidBeforeIsInNoSecond) {
  v1::AgentSample sample = SampleOf(0, 1);
  sample.mutable_host()->set_seconds(1);
  sample.mutable_host()->set_listen_drops(3);
  const auto says = [](uint64_t accepted, v1::NodeFigures* node) {
    node->set_node("node1");
    node->set_reachable(true);
    node->set_accepted_total(accepted);
  };
  says(5, sample.add_nodes_before());
  says(8, sample.add_nodes());
  figures_.Add("a", sample);
  figures_.Add("b", SampleOf(0, 1));
  const auto snapshots = Publish(0);
  ASSERT_EQ(snapshots.size(), 1u);
  ASSERT_EQ(snapshots[0].hosts_size(), 1) << "of b's host nothing is known";
  EXPECT_EQ(snapshots[0].hosts(0).agent(), "a");
  EXPECT_EQ(snapshots[0].hosts(0).listen_drops(), 3u);
  ASSERT_EQ(snapshots[0].nodes_size(), 1);
  EXPECT_EQ(snapshots[0].nodes(0).accepted_total(), 8u);
  EXPECT_EQ(figures_.strain().nodes.at("node1").before->accepted_total(), 5u);
  EXPECT_EQ(figures_.strain().nodes.at("node1").after->accepted_total(), 8u);
  EXPECT_EQ(figures_.strain().hosts.at("a").figures.listen_drops(), 3u);
}

TEST(RunFigures, GapsAreBoundedAndSaySo) {
  RunFigures figures({}, {}, 10);
  figures.Join("a", true);
  for (uint32_t k = 1; k < 2 * RunFigures::kMaxGaps + 10; k += 2) figures.Add("a", SampleOf(k, 1));
  const std::vector<std::string> gaps = figures.Gaps();
  ASSERT_EQ(gaps.size(), RunFigures::kMaxGaps + 1);
  EXPECT_EQ(gaps.back(), "and 5 more");
}

TEST_F(RunFiguresTest, RepeatCountsForNothing) {
  EXPECT_EQ(figures_.Add("a", SampleOf(0, 3, {10, 20})), RunFigures::Taken::kMerged);
  EXPECT_EQ(figures_.Add("a", SampleOf(0, 3, {10, 20})), RunFigures::Taken::kRepeat);
  EXPECT_EQ(figures_.totals().counters().requests_answered(), 2u);
}

TEST_F(RunFiguresTest, MalformedSecondChangesNothing) {
  v1::AgentSample sample = SampleOf(0, 3, {10});
  sample.mutable_figures()->mutable_latency()->add_counts(1);  // one more than indexes
  EXPECT_EQ(figures_.Add("a", sample), RunFigures::Taken::kMalformed);
  EXPECT_EQ(figures_.totals().counters().requests_answered(), 0u);
  EXPECT_EQ(figures_.recorded_s(), 0u);
}

TEST_F(RunFiguresTest, SecondThatNobodyMeasuredIsAbsentAndNotZero) {
  figures_.Add("a", SampleOf(1, 3));
  figures_.Add("b", SampleOf(1, 3));
  const auto snapshots = Publish(0);
  ASSERT_EQ(snapshots.size(), 2u);
  EXPECT_FALSE(snapshots[0].has_figures());
  EXPECT_EQ(snapshots[0].missing_agents_size(), 2);
  EXPECT_TRUE(snapshots[1].has_figures());
}

TEST_F(RunFiguresTest, GapsAreRangesAndAFinishedAgentHasNoneAtItsEnd) {
  for (const uint32_t k : {0u, 1u, 4u}) figures_.Add("a", SampleOf(k, 1));
  for (uint32_t k = 0; k <= 6; ++k) {
    if (k != 5) figures_.Add("b", SampleOf(k, 1));
  }
  figures_.Close("a", false);
  EXPECT_EQ(figures_.Gaps(), (std::vector<std::string>{"a:2-3", "a:5-6", "b:5"}));
  figures_.Close("b", true);
  figures_.PublishAll([](v1::Snapshot*) {});
  EXPECT_EQ(figures_.recorded_s(), 6u) << "nobody measured second 5";
}

TEST_F(RunFiguresTest, PeakIsOfOneSecondOverAllAgents) {
  figures_.Add("a", SampleOf(0, 10));
  figures_.Add("b", SampleOf(0, 1));
  figures_.Add("a", SampleOf(1, 1));
  figures_.Add("b", SampleOf(1, 12));
  figures_.PublishAll([](v1::Snapshot*) {});
  EXPECT_EQ(figures_.peak_connections(), 13u);
}

TEST_F(RunFiguresTest, AgentThatNeverDeliversDoesNotGrowMemoryWithoutEnd) {
  for (uint32_t k = 0; k < RunFigures::kMaxOpenSeconds + 50; ++k) figures_.Add("a", SampleOf(k, k));
  EXPECT_GE(Publish(0).size(), 50u);
}

// Two agents, known latencies: the merged percentiles are those of one histogram of all observations.
TEST_F(RunFiguresTest, MergedPercentilesEqualThoseOfASingleHistogramOfAllObservations) {
  std::mt19937_64 random(7);
  metrics::Histogram single;
  for (uint32_t k = 0; k < 30; ++k) {
    for (const char* agent : {"a", "b"}) {
      std::vector<uint64_t> latencies;
      for (int i = 0; i < 200; ++i) {
        // One agent is a hundred times slower: an average of percentiles would be far off.
        latencies.push_back(1 + random() % (agent[0] == 'a' ? 2'000 : 200'000));
        single.Record(latencies.back());
      }
      figures_.Add(agent, SampleOf(k, 1, latencies));
    }
  }
  EXPECT_EQ(figures_.totals().latency().ToPercentiles().SerializeAsString(),
            single.ToPercentiles().SerializeAsString());
}

}  // namespace
}  // namespace loadstar::server
