#include "agent/core/run_seconds.h"

#include <gtest/gtest.h>

#include <map>

namespace loadstar::agent {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

v1::WorkerSample SampleOf(uint32_t second, uint64_t established, uint64_t outstanding = 0, uint64_t backlog = 0) {
  v1::WorkerSample sample;
  sample.set_elapsed_s(second);
  sample.mutable_figures()->mutable_counters()->set_requests_answered(1);
  v1::Gauges* gauges = sample.mutable_figures()->mutable_gauges();
  gauges->set_connections_established(established);
  gauges->set_requests_outstanding(outstanding);
  gauges->set_requests_backlog(backlog);
  v1::EndpointFigures* endpoint = sample.add_endpoints();
  endpoint->set_endpoint("127.0.0.1:1");
  *endpoint->mutable_gauges() = *gauges;
  return sample;
}

class RunSecondsTest : public testing::Test {
 protected:
  static RunSeconds Make(uint32_t workers, bool observing = false, int64_t host_patience_ns = 0) {
    RunSeconds::Options options;
    options.run_id = "run";
    options.first_worker = 4;
    options.worker_count = workers;
    options.endpoints = {"127.0.0.1:1"};
    options.nodes = {"node1"};
    options.observing = observing;
    options.patience_ns = 3 * kSecond;
    options.host_patience_ns = host_patience_ns;
    return RunSeconds(options);
  }
  static std::vector<v1::AgentSample> Report(RunSeconds* seconds, int64_t elapsed_ns) {
    std::vector<v1::AgentSample> samples;
    seconds->Report(elapsed_ns, [&](v1::AgentSample sample) { samples.push_back(std::move(sample)); });
    return samples;
  }
};

TEST_F(RunSecondsTest, SecondIsReportedWhenEveryWorkerHasDeliveredIt) {
  RunSeconds seconds = Make(2);
  EXPECT_TRUE(seconds.Add(0, SampleOf(0, 10)));
  EXPECT_TRUE(Report(&seconds, 2 * kSecond).empty());
  EXPECT_TRUE(seconds.Add(1, SampleOf(0, 20)));
  const auto samples = Report(&seconds, 2 * kSecond);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].figures().gauges().connections_established(), 30u);
  EXPECT_EQ(samples[0].workers_merged(), 2u);
  EXPECT_EQ(samples[0].workers_expected(), 2u);
  EXPECT_EQ(samples[0].workers(1).worker_index(), 5u);
  EXPECT_EQ(samples[0].endpoints(0).node(), "node1");
}

TEST_F(RunSecondsTest, LateWorkerIsMissedAndItsFiguresCountInTheNextSecond) {
  RunSeconds seconds = Make(2);
  ASSERT_TRUE(seconds.Add(0, SampleOf(0, 10)));
  EXPECT_TRUE(Report(&seconds, 4 * kSecond - 1).empty());
  auto samples = Report(&seconds, 4 * kSecond);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].workers_merged(), 1u);
  EXPECT_EQ(samples[0].workers_expected(), 2u);
  ASSERT_TRUE(seconds.Add(1, SampleOf(0, 20)));
  ASSERT_TRUE(seconds.Add(1, SampleOf(1, 20)));
  ASSERT_TRUE(seconds.Add(0, SampleOf(1, 10)));
  samples = Report(&seconds, 4 * kSecond);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].figures().counters().requests_answered(), 3u) << "nothing measured is dropped";
  EXPECT_EQ(samples[0].figures().gauges().connections_established(), 30u) << "gauges of the past are";
}

TEST_F(RunSecondsTest, RepeatedSecondIsNotTaken) {
  RunSeconds seconds = Make(1);
  EXPECT_TRUE(seconds.Add(0, SampleOf(0, 1)));
  EXPECT_FALSE(seconds.Add(0, SampleOf(0, 1)));
}

TEST_F(RunSecondsTest, WorkerThatDiedLosesItsConnectionsInTheNextSecondAndLedgersClose) {
  RunSeconds seconds = Make(2);
  ASSERT_TRUE(seconds.Add(0, SampleOf(0, 10, 3, 2)));
  ASSERT_TRUE(seconds.Add(1, SampleOf(0, 20)));
  seconds.End(0, RunSeconds::Ending::kDied);
  ASSERT_TRUE(seconds.Add(1, SampleOf(1, 20)));
  const auto samples = Report(&seconds, 2 * kSecond);
  ASSERT_EQ(samples.size(), 2u);
  const v1::LoadFigures& after = samples[1].figures();
  EXPECT_EQ(after.counters().connections_lost(), 10u);
  EXPECT_EQ(after.counters().requests_failed(), 3u);
  EXPECT_EQ(after.counters().requests_dropped(), 2u);
  EXPECT_EQ(after.gauges().connections_established(), 20u);
  EXPECT_EQ(samples[1].endpoints(0).counters().connections_lost(), 10u);
  std::map<v1::ErrorPhase, uint64_t> errors;
  for (const v1::ErrorCount& error : after.errors()) {
    EXPECT_EQ(error.kind(), v1::ERROR_KIND_WORKER_LOST);
    errors[error.phase()] = error.count();
  }
  EXPECT_EQ(errors[v1::ERROR_PHASE_CONNECTION], 10u);
  EXPECT_EQ(errors[v1::ERROR_PHASE_REQUEST], 3u);
  EXPECT_EQ(samples[1].workers_merged(), 1u);
  EXPECT_EQ(samples[1].workers_expected(), 2u) << "it is missed to the end";
}

TEST_F(RunSecondsTest, WorkerThatFinishedEarlierIsNotMissed) {
  RunSeconds seconds = Make(2);
  ASSERT_TRUE(seconds.Add(0, SampleOf(0, 0)));
  seconds.End(0, RunSeconds::Ending::kFinished);
  ASSERT_TRUE(seconds.Add(1, SampleOf(0, 5)));
  ASSERT_TRUE(seconds.Add(1, SampleOf(1, 0)));
  const auto samples = Report(&seconds, kSecond);
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[1].workers_expected(), 1u);
  EXPECT_FALSE(seconds.Through());
  seconds.End(1, RunSeconds::Ending::kFinished);
  EXPECT_TRUE(seconds.Through());
}

TEST_F(RunSecondsTest, NodesAreWaitedForAsLongAsWorkers) {
  RunSeconds seconds = Make(1, true);
  ASSERT_TRUE(seconds.Add(0, SampleOf(0, 1)));
  EXPECT_TRUE(Report(&seconds, 2 * kSecond).empty());
  seconds.AddNodes(0, {v1::NodeFigures()});
  auto samples = Report(&seconds, 2 * kSecond);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].nodes_size(), 1);
  ASSERT_TRUE(seconds.Add(0, SampleOf(1, 1)));
  samples = Report(&seconds, 5 * kSecond);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].nodes_size(), 0);
}

TEST_F(RunSecondsTest, WhereNoWorkerHasSpokenNothingIsReportedAndNoTickIsAskedFor) {
  RunSeconds seconds = Make(1, true);
  seconds.AddNodes(0, {v1::NodeFigures()});
  EXPECT_TRUE(Report(&seconds, 100 * kSecond).empty()) << "a zero that nobody measured";
  EXPECT_EQ(seconds.NextInstant(), INT64_MAX) << "time changes nothing: a tick would be a busy loop";
}

v1::HostFigures HostOf(uint64_t overflows) {
  v1::HostFigures host;
  host.set_seconds(1);
  host.set_listen_overflows(overflows);
  return host;
}

TEST_F(RunSecondsTest, HostsReadingIsWaitedForNoLongerThanItsPatienceAndCountsLater) {
  RunSeconds seconds = Make(1, false, kSecond / 2);
  ASSERT_TRUE(seconds.Add(0, SampleOf(0, 1)));
  EXPECT_TRUE(Report(&seconds, kSecond + kSecond / 4).empty());
  EXPECT_EQ(seconds.NextInstant(), kSecond + kSecond / 2);
  seconds.AddHost(0, HostOf(2));
  auto samples = Report(&seconds, kSecond + kSecond / 4);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].host().listen_overflows(), 2u);

  ASSERT_TRUE(seconds.Add(0, SampleOf(1, 1)));
  samples = Report(&seconds, 2 * kSecond + kSecond / 2);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_FALSE(samples[0].has_host()) << "absent, not zero";
  seconds.AddHost(1, HostOf(3));
  seconds.AddHost(2, HostOf(4));
  ASSERT_TRUE(seconds.Add(0, SampleOf(2, 1)));
  samples = Report(&seconds, 3 * kSecond + kSecond / 4);
  ASSERT_EQ(samples.size(), 1u);
  EXPECT_EQ(samples[0].host().listen_overflows(), 7u) << "nothing that was counted is dropped";
  EXPECT_EQ(samples[0].host().seconds(), 2u);
}

TEST_F(RunSecondsTest, SecondThatTheEndCutsShortIsNotHeldBackForTheHost) {
  RunSeconds seconds = Make(1, false, kSecond / 2);
  ASSERT_TRUE(seconds.Add(0, SampleOf(0, 1)));
  seconds.AddHost(0, HostOf(0));
  ASSERT_TRUE(seconds.Add(0, SampleOf(1, 0)));
  EXPECT_EQ(Report(&seconds, kSecond + kSecond / 4).size(), 1u);
  seconds.End(0, RunSeconds::Ending::kFinished);
  EXPECT_EQ(Report(&seconds, kSecond + kSecond / 4).size(), 1u);
  EXPECT_TRUE(seconds.Through());
  seconds.AddHost(1, HostOf(1));
  EXPECT_TRUE(seconds.Through()) << "it is of no load";
}

TEST_F(RunSecondsTest, HowThingsStoodAheadOfTheLoadIsReportedOnceWithTheFirstSecond) {
  RunSeconds seconds = Make(1, true);
  v1::NodeFigures node;
  node.set_node("node1");
  node.set_accepted_total(5);
  seconds.AddNodesBefore({node});
  seconds.AddMemoryBefore(1'000);
  ASSERT_TRUE(seconds.Add(0, SampleOf(0, 1)));
  seconds.AddNodes(0, {});  // this time it says nothing
  node.set_accepted_total(8);
  seconds.AddNodes(1, {node});
  ASSERT_TRUE(seconds.Add(0, SampleOf(1, 1)));
  const auto samples = Report(&seconds, 2 * kSecond);
  ASSERT_EQ(samples.size(), 2u);
  ASSERT_EQ(samples[0].nodes_before_size(), 1);
  EXPECT_EQ(samples[0].nodes_before(0).accepted_total(), 5u);
  EXPECT_EQ(samples[0].nodes_size(), 0) << "what it said ahead is not of the second";
  EXPECT_EQ(samples[0].memory_unused_before_bytes(), 1'000u);
  EXPECT_EQ(samples[1].nodes_before_size(), 0);
  EXPECT_FALSE(samples[1].has_memory_unused_before_bytes());
  ASSERT_EQ(samples[1].nodes_size(), 1);
  EXPECT_EQ(samples[1].nodes(0).accepted_total(), 8u);
}

}  // namespace
}  // namespace loadstar::agent
