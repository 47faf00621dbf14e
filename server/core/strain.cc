#include "server/core/strain.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "lib/metrics/usage.h"

namespace loadstar::server {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
// An interval that is longer or shorter than a second by more than half of it is not that of its second.
constexpr uint64_t kShortestNs = kSecondNs / 2;
constexpr uint64_t kLongestNs = kSecondNs + kSecondNs / 2;
// Indexes are the planner's, which gives out fewer; a worker that says another is not believed.
constexpr uint32_t kIndexes = 1 << 16;

void AddWorker(const v1::WorkerUsage& usage, WorkerLoad* load) {
  load->loop_turns += usage.loop_turns();
  load->queue_overflows += usage.queue_overflows();
  const uint64_t interval = usage.interval_ns();
  if (interval > kSecondNs) load->stall_ns = std::max(load->stall_ns, interval - kSecondNs);
  if (interval < kShortestNs || interval > kLongestNs) return;
  ++load->seconds;
  if (Share(usage.cpu_ns(), interval) > kFullCore) {
    ++load->saturated;
    load->saturated_cpu_ns += usage.cpu_ns();
    load->saturated_ns += interval;
    load->saturated_turns += usage.loop_turns();
  }
  if (usage.has_core_wait_ns() && Share(usage.core_wait_ns(), interval) > kStarvedWait) {
    ++load->starved;
    if (Share(usage.cpu_ns() + usage.core_wait_ns(), interval) > kFullCore) ++load->crowded;
    load->starved_wait_ns += usage.core_wait_ns();
    load->starved_ns += interval;
    load->starved_turns += usage.loop_turns();
  }
}

void AddHost(const v1::HostFigures& host, bool under_load, HostLoad* load) {
  metrics::AddLater(host, &load->figures);
  if (host.has_memory_unused_bytes()) {
    const uint64_t unused = host.memory_unused_bytes();
    load->memory_least_bytes = std::min(load->memory_least_bytes.value_or(unused), unused);
  }
  if (!under_load || !host.has_cpu_ns()) return;
  ++load->seconds;
  if (Share(host.cpu_steal_ns(), host.cpu_ns()) > kStolenTime) ++load->stolen;
  const double softirq_cores = Share(host.cpu_softirq_ns(), host.cpu_ns()) * host.cores();
  if (host.busiest_core_ratio() >= kFullCore && softirq_cores >= kSoftirqOfACore &&
      Share(host.cpu_busy_ns(), host.cpu_ns()) < kRoomElsewhere) {
    ++load->softirq_bound;
    load->softirq_bound_cores += softirq_cores;
  }
}

// Cores that a node used between two readings, by its own clock: it is asked once a second, but answers when it gets to
// it. nullopt when it did not say, or was started again in between.
std::optional<double> CoresBetween(const v1::NodeFigures& before, const v1::NodeFigures& after) {
  if (!before.has_cpu_seconds_total() || !before.has_clock_s() || !after.has_cpu_seconds_total() ||
      !after.has_clock_s() || after.cpu_seconds_total() < before.cpu_seconds_total() ||
      after.clock_s() <= before.clock_s()) {
    return std::nullopt;
  }
  return (after.cpu_seconds_total() - before.cpu_seconds_total()) / (after.clock_s() - before.clock_s());
}

void AddNode(const v1::NodeFigures& node, bool under_load, NodeLoad* load) {
  const std::optional<double> cores = load->after ? CoresBetween(*load->after, node) : std::nullopt;
  if (under_load && cores) {
    ++load->seconds;
    load->cores_most = std::max(load->cores_most, *cores);
    if (load->processes > 0 && *cores > kFullCore * load->processes) ++load->saturated;
  }
  load->after = node;
}

}  // namespace

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

void Strain::Add(const std::string& agent, const v1::AgentSample& sample, bool under_load) {
  bool saturated = false;
  uint64_t worker_ns = 0;
  for (const v1::WorkerUsage& usage : sample.workers()) {
    if (!under_load || usage.worker_index() >= kIndexes) continue;
    WorkerLoad& load = workers[usage.worker_index()];
    const uint32_t before = load.saturated;
    AddWorker(usage, &load);
    saturated = saturated || load.saturated > before;
    worker_ns += usage.interval_ns();
  }
  if (saturated) {
    saturated_sent += sample.figures().counters().requests_sent();
    saturated_due += sample.figures().counters().requests_due();
    saturated_worker_ns += worker_ns;
  }
  if (sample.has_memory_unused_before_bytes()) {
    hosts[agent].memory_before_bytes = sample.memory_unused_before_bytes();
  }
  if (sample.has_host()) AddHost(sample.host(), under_load, &hosts[agent]);
  if (sample.nodes_size() + sample.nodes_before_size() > 0) hosts[agent].has_nodes = true;
  for (const v1::NodeFigures& node : sample.nodes_before()) {
    if (node.reachable()) nodes[node.node()].before = node;
  }
  for (const v1::NodeFigures& node : sample.nodes()) {
    if (node.reachable()) AddNode(node, under_load, &nodes[node.node()]);
  }
}

bool OnLoopback(absl::string_view endpoint) {
  return absl::StartsWith(endpoint, "127.") || absl::StartsWith(endpoint, "[::1]");
}

std::map<std::string, uint32_t> NodeProcesses(const v1::StackSpec& stack) {
  std::map<std::string, uint32_t> processes;
  for (const v1::NodeSpec& node : stack.nodes()) {
    if (node.command().empty()) processes[node.name()] = std::max<uint32_t>(node.processes(), 1);
  }
  return processes;
}

}  // namespace loadstar::server
