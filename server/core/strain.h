// How hard a run drove what takes part in it: workers, nodes and hosts, second by second. What the rules of the verdict
// (server/core/verdict.h) look at beside the load's own figures.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "loadstar/v1/metrics.pb.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::server {

// A worker's core is full when it used more than this of an interval.
inline constexpr double kFullCore = 0.95;
// A worker is starved in a second when it was ready to run and waited for a core for more than this share of it.
inline constexpr double kStarvedWait = 0.10;
// Time of the host's cores that the hypervisor gave to others: below this it is noise.
inline constexpr double kStolenTime = 0.05;
// One core takes the network's interrupts while others have room: it is full, the interrupts take half of a core and
// more, and the cores together are less busy than this.
inline constexpr double kSoftirqOfACore = 0.5;
inline constexpr double kRoomElsewhere = 0.8;

// A part of a whole, 0 to 1; 0 when there is no whole.
double Share(uint64_t part, uint64_t whole);

// A worker's seconds of load that it measured in full: one that it was late to close, or that was cut short by the end,
// says nothing of how busy it was.
struct WorkerLoad {
  uint32_t seconds = 0;
  uint32_t saturated = 0;  // in which its core was full
  uint32_t starved = 0;
  uint32_t crowded = 0;  // starved ones in which it also never idled: what it used and what it waited fill a core
  // Over the saturated and over the starved ones: what it used, what it waited, of how long, in
  // how many turns.
  uint64_t saturated_cpu_ns = 0;
  uint64_t saturated_ns = 0;
  uint64_t saturated_turns = 0;
  uint64_t starved_wait_ns = 0;
  uint64_t starved_ns = 0;
  uint64_t starved_turns = 0;
  // Longest time for which it closed no second although one was over.
  uint64_t stall_ns = 0;
  uint64_t loop_turns = 0;
  uint64_t queue_overflows = 0;
};

struct HostLoad {
  uint32_t seconds = 0;  // of load
  uint32_t stolen = 0;
  uint32_t softirq_bound = 0;
  double softirq_bound_cores = 0;  // what interrupts took in those, of each second, added up
  bool has_nodes = false;          // of the run's deployment
  v1::HostFigures figures;         // over the whole run
  // Memory unused ahead of the load, and the least of any second.
  std::optional<uint64_t> memory_before_bytes;
  std::optional<uint64_t> memory_least_bytes;
};

struct NodeLoad {
  uint32_t processes = 0;  // each with one thread that serves; 0: not known
  uint32_t seconds = 0;    // of load between two readings
  uint32_t saturated = 0;  // in which the cores of its processes were full
  double cores_most = 0;   // between two readings
  // What it said ahead of the load and at last; absent when it did not.
  std::optional<v1::NodeFigures> before;
  std::optional<v1::NodeFigures> after;
};

struct Strain {
  std::map<uint32_t, WorkerLoad> workers;  // by index in the run
  std::map<std::string, HostLoad> hosts;   // by agent
  std::map<std::string, NodeLoad> nodes;   // by name
  // Requests sent, and those that became due, in seconds in which a worker of the agent was saturated, and the time of
  // its workers in them.
  uint64_t saturated_sent = 0;
  uint64_t saturated_due = 0;
  uint64_t saturated_worker_ns = 0;

  // One second of one agent; `under_load`: the profile is not over yet. Seconds of an agent come in order.
  void Add(const std::string& agent, const v1::AgentSample& sample, bool under_load);
};

// Whether an endpoint is on loopback, and so on the host of whoever connects to it.
bool OnLoopback(absl::string_view endpoint);

// Processes of the nodes whose processes are known: those of loadstar-target.
std::map<std::string, uint32_t> NodeProcesses(const v1::StackSpec& stack);

}  // namespace loadstar::server
