#include "server/core/strain.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace loadstar::server {
namespace {

constexpr uint64_t kMs = 1'000'000;

struct Usage {
  uint32_t worker = 0;
  uint64_t cpu_ms = 0;
  uint64_t interval_ms = 1000;
  uint64_t wait_ms = 0;
};

v1::AgentSample SampleOf(uint32_t second, std::initializer_list<Usage> usages, uint64_t sent = 0, uint64_t due = 0) {
  v1::AgentSample sample;
  sample.set_elapsed_s(second);
  sample.mutable_figures()->mutable_counters()->set_requests_sent(sent);
  sample.mutable_figures()->mutable_counters()->set_requests_due(due);
  for (const Usage& each : usages) {
    v1::WorkerUsage* usage = sample.add_workers();
    usage->set_worker_index(each.worker);
    usage->set_cpu_ns(each.cpu_ms * kMs);
    usage->set_interval_ns(each.interval_ms * kMs);
    usage->set_core_wait_ns(each.wait_ms * kMs);
    usage->set_loop_turns(10);
    usage->set_queue_overflows(1);
  }
  return sample;
}

TEST(Strain, CpuAndWaitsAreSharesOfTheIntervalThatTheWorkerMeasured) {
  Strain strain;
  strain.Add("a", SampleOf(0, {{0, 960, 1000, 0}, {1, 960, 1020, 110}}, 500, 450), true);
  strain.Add("a", SampleOf(1, {{0, 940, 1000, 90}, {1, 100, 1000, 100}}, 700, 800), true);
  EXPECT_EQ(strain.workers[0].seconds, 2u);
  EXPECT_EQ(strain.workers[0].saturated, 1u);
  EXPECT_EQ(strain.workers[0].saturated_cpu_ns, 960 * kMs);
  EXPECT_EQ(strain.workers[0].saturated_turns, 10u);
  EXPECT_EQ(strain.workers[0].starved, 0u);
  EXPECT_EQ(strain.workers[1].saturated, 0u) << "94 % of 1.02 s";
  EXPECT_EQ(strain.workers[1].starved, 1u);
  EXPECT_EQ(strain.workers[1].starved_wait_ns, 110 * kMs);
  EXPECT_EQ(strain.workers[1].starved_turns, 10u);
  EXPECT_EQ(strain.workers[1].crowded, 1u) << "1.07 s of 1.02: it never idled";
  strain.Add("a", SampleOf(2, {{1, 600, 1000, 300}}), true);
  EXPECT_EQ(strain.workers[1].starved, 2u);
  EXPECT_EQ(strain.workers[1].crowded, 1u);
  EXPECT_EQ(strain.workers[1].loop_turns, 30u);
  EXPECT_EQ(strain.workers[1].queue_overflows, 3u);
  EXPECT_EQ(strain.saturated_sent, 500u);
  EXPECT_EQ(strain.saturated_due, 450u);
  EXPECT_EQ(strain.saturated_worker_ns, 2'020 * kMs);
}

TEST(Strain, IntervalThatIsNotThatOfItsSecondSaysAStallAndNothingOfBusyness) {
  Strain strain;
  strain.Add("a", SampleOf(0, {{0, 3'100, 3'200, 0}}), true);  // it closed the second more than two late
  strain.Add("a", SampleOf(1, {{0, 1, 1, 0}}), true);          // and then caught up
  strain.Add("a", SampleOf(2, {{0, 200, 200, 150}}), true);    // cut short by the end
  EXPECT_EQ(strain.workers[0].seconds, 0u);
  EXPECT_EQ(strain.workers[0].saturated, 0u);
  EXPECT_EQ(strain.workers[0].starved, 0u);
  EXPECT_EQ(strain.workers[0].stall_ns, 2'200 * kMs);
}

TEST(Strain, SecondsAfterTheProfileAreOfNoLoad) {
  Strain strain;
  strain.Add("a", SampleOf(0, {{0, 1000, 1000, 0}}), false);
  EXPECT_EQ(strain.workers.size(), 0u);
}

v1::AgentSample HostSample(uint32_t second, uint64_t busy_ms, uint64_t softirq_ms, uint64_t steal_ms, double busiest,
                           uint64_t available) {
  v1::AgentSample sample;
  sample.set_elapsed_s(second);
  v1::HostFigures* host = sample.mutable_host();
  host->set_seconds(1);
  host->set_cores(4);
  host->set_cpu_ns(4'000 * kMs);
  host->set_cpu_busy_ns(busy_ms * kMs);
  host->set_cpu_softirq_ns(softirq_ms * kMs);
  host->set_cpu_steal_ns(steal_ms * kMs);
  host->set_busiest_core_ratio(busiest);
  host->set_memory_unused_bytes(available);
  return sample;
}

TEST(Strain, CoreThatInterruptsFillIsSeenWhereOthersHaveRoom) {
  Strain strain;
  v1::AgentSample first = HostSample(0, 2'000, 900, 0, 0.97, 1'000);
  first.set_memory_unused_before_bytes(1'500);
  strain.Add("a", first, true);
  strain.Add("a", HostSample(1, 3'900, 900, 0, 0.97, 400), true);  // all are full: no matter of one core
  strain.Add("a", HostSample(2, 2'000, 300, 0, 0.97, 700), true);  // full of something else
  strain.Add("a", HostSample(3, 2'000, 900, 0, 0.90, 800), true);
  const HostLoad& host = strain.hosts["a"];
  EXPECT_EQ(host.seconds, 4u);
  EXPECT_EQ(host.softirq_bound, 1u);
  EXPECT_DOUBLE_EQ(host.softirq_bound_cores, 0.9) << "of that second alone";
  EXPECT_EQ(host.stolen, 0u);
  EXPECT_EQ(host.memory_before_bytes, 1'500u) << "ahead of the load, not at the end of its first second";
  EXPECT_EQ(host.memory_least_bytes, 400u);
  EXPECT_EQ(host.figures.cpu_softirq_ns(), 3'000 * kMs);
  EXPECT_FALSE(host.has_nodes);
}

TEST(Strain, TimeThatTheHypervisorTookIsSeen) {
  Strain strain;
  strain.Add("a", HostSample(0, 2'000, 0, 210, 0.5, 1), true);
  strain.Add("a", HostSample(1, 2'000, 0, 190, 0.5, 1), true);
  EXPECT_EQ(strain.hosts["a"].stolen, 1u);
}

v1::AgentSample NodeSample(uint32_t second, double clock_s, double cpu_s) {
  v1::AgentSample sample;
  sample.set_elapsed_s(second);
  v1::NodeFigures* node = sample.add_nodes();
  node->set_node("node1");
  node->set_reachable(true);
  node->set_clock_s(clock_s);
  node->set_cpu_seconds_total(cpu_s);
  node->set_accepted_total(second + 10);
  return sample;
}

TEST(Strain, NodeIsSaturatedWhenTheCoresOfItsProcessesAreFull) {
  Strain strain;
  strain.nodes["node1"].processes = 2;
  v1::AgentSample first = NodeSample(0, 100, 11);
  *first.add_nodes_before() = first.nodes(0);
  first.mutable_nodes_before(0)->set_accepted_total(3);
  first.mutable_nodes_before(0)->set_clock_s(97);
  strain.Add("b", first, true);
  strain.Add("b", NodeSample(1, 101, 12.95), true);
  strain.Add("b", NodeSample(2, 102, 14.0), true);
  v1::AgentSample silent = NodeSample(3, 103, 0);
  silent.mutable_nodes(0)->set_reachable(false);
  strain.Add("b", silent, true);
  strain.Add("b", NodeSample(4, 104, 17.9), true);
  const NodeLoad& node = strain.nodes["node1"];
  EXPECT_EQ(node.seconds, 3u);
  EXPECT_EQ(node.saturated, 2u) << "1.95 in second 1, 1.95 a second in 3 and 4";
  EXPECT_DOUBLE_EQ(node.cores_most, 1.95);
  ASSERT_TRUE(node.before.has_value());
  EXPECT_EQ(node.before->accepted_total(), 3u);
  EXPECT_EQ(node.after->accepted_total(), 14u);
  EXPECT_TRUE(strain.hosts["b"].has_nodes);
}

TEST(Strain, NodesCoresAreByItsOwnClockWheneverItWasAsked) {
  Strain strain;
  NodeLoad& node = strain.nodes["node1"];
  node.processes = 2;
  strain.Add("b", NodeSample(0, 100.0, 10), true);
  strain.Add("b", NodeSample(1, 101.5, 13), true);  // it answered half a second late
  EXPECT_DOUBLE_EQ(node.cores_most, 2.0) << "not three of two cores";
  strain.Add("b", NodeSample(2, 102.0, 13.9), true);
  EXPECT_EQ(node.saturated, 1u) << "0.9 s in half a second";
  strain.Add("b", NodeSample(3, 103.0, 1.0), true);
  EXPECT_EQ(node.seconds, 2u) << "it was started again";
  v1::AgentSample without = NodeSample(4, 0, 99);
  without.mutable_nodes(0)->clear_clock_s();
  strain.Add("b", without, true);
  strain.Add("b", NodeSample(5, 105.0, 100), true);
  EXPECT_EQ(node.seconds, 2u) << "over what time nobody knows";
  EXPECT_DOUBLE_EQ(node.cores_most, 2.0);
}

TEST(Strain, ProcessesAreKnownOfLoadstarsOwnNodesOnly) {
  v1::StackSpec stack;
  v1::NodeSpec* own = stack.add_nodes();
  own->set_name("own");
  own->set_processes(3);
  v1::NodeSpec* other = stack.add_nodes();
  other->set_name("other");
  other->add_command("/bin/server");
  EXPECT_EQ(NodeProcesses(stack), (std::map<std::string, uint32_t>{{"own", 3}}));
}

}  // namespace
}  // namespace loadstar::server
