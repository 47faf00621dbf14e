// Who opens how many connections: a pure function from a test and the agents to an assignment, or to a refusal that
// names the limit, its figure and the scale that would fit.
//
// The rules:
//   1. Connections are split evenly over all workers (lib/plan/split.h), so a plan is a number of workers for each
//   agent.
//   2. Workers in all, unless the test says: for every agent the larger of ceil(share / per_worker) (descriptors) and
//      min(cores, ceil(share / 1,000)) (cores are of use only to a load that is large enough), at least 1, where its
//      share of the peak is in proportion to its free capacity. When that number cannot be dealt so that every agent
//      holds what it gets, a few more workers are tried: smaller parts deal finer.
//   3. Workers are dealt by highest averages (each next one to the agent with the largest free / (workers + 1)): that
//      maximises the least headroom, so when any dealing of so many workers fits, this one does.
//   4. It must fit: one worker holds at most per_worker connections; one agent at most its capacity less what its other
//      runs hold; one agent to these endpoints at most per_address_pair x max(1, source addresses) x endpoints, less
//      what its other runs hold of them (beyond half of the ports connect() crawls, see docs).
//   5. The kernel's limit of socket memory counts connections with bytes under way: where what the test has in flight
//   at
//      most (MostInFlight), beside what the agent's other runs have, is not more than it allows, it is no limit of the
//      connections held.
//   6. What a plan takes of a host's memory is told beforehand, from what the host's kernel takes for a socket and what
//      workers and nodes were measured to take: a projection, held against the measurement at the end of the run.
//   7. A refusal names the hosts, the limit and its figure, and what to do: a scale that fits, or what to change there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loadstar/v1/run.pb.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::server {

// An agent as a candidate for a run.
struct Candidate {
  std::string name;
  std::string host;  // its host's name; empty: not known
  uint32_t cores = 1;
  v1::Capacity capacity;
  // Connections that other active runs of it may hold at most.
  uint64_t held = 0;
  // The part of those that goes to an endpoint of this test.
  uint64_t held_to_endpoints = 0;
  // Requests and heartbeats that those runs may have in flight at most, at the highest rate that they were given so
  // far.
  uint64_t held_in_flight = 0;
  // Of the test's endpoints, those on this host: the other ends of their connections take its memory too.
  uint32_t endpoints_here = 0;
  // Processes of loadstar-target behind those, where the coordinator deployed them.
  uint32_t node_processes_here = 0;
};

// Workers of one agent; agents without any are left out.
struct Assigned {
  std::string agent;
  uint32_t first_worker = 0;
  uint32_t worker_count = 0;
  // Absent when the agent cannot say what a socket takes.
  std::optional<v1::MemoryNeed> memory;
};

// Why a plan does not fit.
struct Misfit {
  std::string limit;    // "descriptors", "ports", "workers", or the agent's own binding limit
  std::string message;  // the limit and its figure
  std::string remedy;   // what to do; with the scale that fits, when one does
  double scale = 0;     // the largest scale that fits, in thousandths rounded down; 0: none
};

// Either assignment or misfit, as ok() says.
struct Plan {
  std::vector<Assigned> assignment;
  uint32_t workers_total = 0;
  Misfit misfit;
  bool ok() const { return workers_total > 0; }
};

inline constexpr uint32_t kMaxWorkers = 4096;
inline constexpr uint64_t kConnectionsWorthACore = 1000;

// `endpoints` and `candidates` are not empty; candidates are in the order in which workers are numbered.
Plan MakePlan(const v1::TestSpec& test, const std::vector<std::string>& endpoints,
              const std::vector<Candidate>& candidates);

// The most connections that `workers` of `workers_total` hold of a test: what a run reserves of an agent's capacity.
uint64_t Reserved(const v1::TestSpec& test, uint32_t workers, uint32_t workers_total);

// The most requests and heartbeats that those workers have in flight: of requests what the connections' pipelines
// allow, and in the open model no more than becomes due within their timeout (a burst of a total rate whole; of Poisson
// arrivals five standard deviations more than the mean); of heartbeats one on each connection, or where they are rarer
// than their timeout the part of them that is sent within it. Schedules of connections and heartbeats are taken as
// spread evenly over time. It is of the test as written and of workers that are on time: a rate that is raised later
// (UpdateLoad) is not planned for, and what a worker sends at once when it was held up comes on top, within the
// pipelines. When socket memory runs out by that, the verdict says so (socket-memory).
uint64_t MostInFlight(const v1::TestSpec& test, uint32_t workers, uint32_t workers_total);

}  // namespace loadstar::server
