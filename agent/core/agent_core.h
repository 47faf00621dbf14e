// agent/core: everything the agent decides about its session, its runs and its commands. Deterministic, as server/core:
// the shell (agent/session, agent/supervisor, agent/deployer, agent/host) feeds it on one thread and carries its
// actions out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "loadstar/v1/agent_service.pb.h"
#include "loadstar/v1/worker.pb.h"

namespace loadstar::agent {

// A worker process, numbered by the core; never reused.
using WorkerId = uint64_t;

// ---- Inputs

// The session's stream is open: the core says hello.
struct SessionUp {};
struct SessionDown {};
struct CoordinatorSaid {
  v1::SessionResponse message;
};
struct WorkerSaid {
  WorkerId worker;
  v1::WorkerToAgent message;
};
// A worker's process ended (or could not be started): `cause` for people ("killed by signal 9"), clean = exit code 0.
struct WorkerExited {
  WorkerId worker;
  bool clean;
  std::string cause;
};
// A node changed its state (from agent/deployer).
struct NodeChanged {
  v1::NodeReport report;
};
// A DeployNodes or TeardownNodes came to its end.
struct DeployEnded {
  std::string command_id;
  absl::Status status;
};
// A step of a Tune was made (from agent/tuning.h).
struct TuneStepMade {
  std::string command_id;
  v1::TuneStep step;
};
// A Tune came to its end.
struct TuneEnded {
  std::string command_id;
  absl::Status status;
};
// The nodes of a run's deployment said this about its second `elapsed_s`; or, `before`, ahead of the load.
struct NodesObserved {
  std::string run_id;
  uint32_t elapsed_s;
  std::vector<v1::NodeFigures> nodes;
  bool before = false;
};
// What the host's kernel counted in the seconds of a run up to and with `elapsed_s`; or, `before`, how its gauges stood
// ahead of the load.
struct HostObserved {
  std::string run_id;
  uint32_t elapsed_s;
  v1::HostFigures host;
  bool before = false;
};
// The host was read: what it is, and what it could hold on top of the connections that it has.
struct HostRead {
  v1::HostFacts host;
  v1::Capacity capacity;
};
struct Tick {};
using Input = std::variant<SessionUp, SessionDown, CoordinatorSaid, WorkerSaid, WorkerExited, NodeChanged, DeployEnded,
                           TuneStepMade, TuneEnded, NodesObserved, HostObserved, HostRead, Tick>;

// ---- Actions, in order

struct SendToCoordinator {
  v1::SessionRequest message;
};
struct SpawnWorker {
  WorkerId worker;
};
struct SendToWorker {
  WorkerId worker;
  v1::AgentToWorker message;
};
// SIGKILL.
struct KillWorker {
  WorkerId worker;
};
struct Deploy {
  std::string command_id;
  std::string deployment;
  std::vector<v1::NodeSpec> nodes;
};
struct Teardown {
  std::string command_id;  // empty: on the core's own account, no DeployEnded wanted
  std::string deployment;
};
// Tune this host: TuneStepMade for each step, then TuneEnded.
struct Tune {
  std::string command_id;
  v1::TuneHost order;
};
// Read the host, and the deployment's nodes, ahead of the run and at the end of each second of it until StopObserving.
struct Observe {
  std::string run_id;
  std::string deployment;  // empty: no nodes
  int64_t start_monotonic_ns;
};
struct StopObserving {
  std::string run_id;
};
using Action = std::variant<SendToCoordinator, SpawnWorker, SendToWorker, KillWorker, Deploy, Teardown, Tune, Observe,
                            StopObserving>;

struct AgentOptions {
  std::string name;
  std::string instance_id;  // drawn by the shell at start
  std::string version;
  // A second whose last worker is this late is reported without it.
  int64_t sample_patience_ns = 3'000'000'000;
  // Reports kept for resending, bytes; past it the oldest samples go to the spill (see ReportLog).
  uint64_t outbox_memory_bytes = 64ull << 20;
  // With its coordinator out of reach for longer, a run is ended by the agent itself (every run is bounded).
  int64_t orphan_after_ns = 600'000'000'000;
  // What this host's own configuration allows, whatever the coordinator says; pure. Null admits all (tests).
  std::function<absl::Status(const v1::PrepareRun&)> admit_run;
  std::function<absl::Status(const v1::DeployNodes&)> admit_nodes;
};

// Where unacknowledged reports go past the memory bound: an append-only file in production, a vector in tests.
class ReportSpill {
 public:
  virtual ~ReportSpill() = default;
  virtual absl::Status Append(const v1::Report& report) = 0;
  // The spilled reports with sequence > after, in order, at most `limit`.
  virtual std::vector<v1::Report> Read(uint64_t after, size_t limit) = 0;
  // Everything up to here is acknowledged.
  virtual void Trim(uint64_t through) = 0;
};

class AgentCore {
 public:
  AgentCore(const AgentOptions& options, ReportSpill* spill, v1::HostFacts host, v1::Capacity capacity,
            std::vector<std::string> adopted_deployments);
  ~AgentCore();

  // Takes one input; appends what follows to *actions. `now_ns` is CLOCK_MONOTONIC and never goes back.
  void Handle(Input input, int64_t now_ns, std::vector<Action>* actions);
  // When it wants a Tick at the latest, CLOCK_MONOTONIC ns.
  int64_t NextTick() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace loadstar::agent
