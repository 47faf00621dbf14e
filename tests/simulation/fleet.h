// A whole fleet in one process: one coordinator core over a store model, agent cores with model workers and nodes, and
// the links between them, in simulated time and by one seed.
//
// What can go wrong is what can go wrong with the real transport: a stream is ordered and reliable while it is up; when
// it drops, what was on the way is lost from some message on, in each direction; the sides notice at different moments,
// so that old sessions linger while new ones stand; the agent dials again. A coordinator that crashes loses its memory
// and every batch that was not committed. An agent that crashes loses its memory and its workers, and comes back as
// another instance. A worker that dies is a process that ends.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/core/agent_core.h"
#include "lib/metrics/figures.h"
#include "server/core/coordinator_core.h"
#include "tests/simulation/random.h"
#include "tests/simulation/scheduler.h"
#include "tests/simulation/store_model.h"
#include "tests/simulation/worker_model.h"

namespace loadstar::simulation {

struct FleetOptions {
  uint64_t seed = 1;
  int agents = 1;
  // Longest way of a message, one direction.
  int64_t delay_ns_max = 20 * kMs;
  // A worker's sample may be this late.
  int64_t sample_delay_ns_max = 300 * kMs;
  uint64_t outbox_memory_bytes = 1 << 20;
  // Chances, in percent, that a worker cannot carry out its plan, that an agent cannot bring up its nodes, and that a
  // kernel does not take a setting.
  int64_t plan_failures = 0;
  int64_t deploy_failures = 0;
  int64_t tune_failures = 0;
  server::CoordinatorOptions coordinator;
};

class Fleet {
 public:
  static constexpr int64_t kHostsChangeUntilNs = 140 * kSecond;

  explicit Fleet(const FleetOptions& options);
  ~Fleet();

  Scheduler& scheduler() { return scheduler_; }
  Random& random() { return random_; }
  const StoreModel& store() const { return store_; }

  // Calls the coordinator; `done` gets every reply, or nothing more after a crash. False when it is down.
  using Done = std::function<void(const server::Reply&)>;
  bool Call(decltype(server::ClientCalled::request) request, Done done);

  bool coordinator_up() const { return core_ != nullptr; }
  void CrashCoordinator(int64_t down_ns);
  void CrashAgent(int agent, int64_t down_ns);
  // Cuts its session, if it has one; it dials again after `down_ns`.
  void CutLink(int agent, int64_t down_ns);
  // Kills one worker at random; false when there is none under load.
  bool KillAWorker();

  std::string NameOf(int agent) const;
  bool Connected(int agent) const;
  // Its host as last read: what it can hold changes with every reading up to kHostsChangeUntilNs.
  agent::HostRead HostOf(int agent) const;
  size_t WorkersAlive() const;
  // Settings that a host was tuned by; they outlive its agent.
  const std::set<std::string>& Tuned(int agent) const;
  // Nodes up, "DEPLOYMENT/NODE".
  std::set<std::string> NodesUp() const;
  // Everything that the workers of one agent have told its core of a run, over all of its instances.
  const metrics::FiguresMerger& Produced(const std::string& run_id, const std::string& agent);
  // Whether any agent's outbox went past its memory.
  bool spilled() const { return spilled_; }
  const std::vector<std::string>& violations() const { return violations_; }
  void Violation(std::string what) { violations_.push_back(std::move(what)); }

 private:
  struct Session;
  struct Worker;
  struct AgentHost;
  class Spill;

  // The coordinator's shell.
  void StartCoordinator();
  void Input(server::Input input);
  void ScheduleBatch();
  void RunBatch();
  void CarryOut(std::vector<server::Action> actions);
  void ScheduleCoordinatorTick();
  // The links.
  void Dial(int agent, int64_t after_ns);
  void Cut(const std::shared_ptr<Session>& session);
  void ToCoordinator(const std::shared_ptr<Session>& session, v1::SessionRequest message);
  void ToAgent(const std::shared_ptr<Session>& session, v1::SessionResponse message);
  void AgentNotices(const std::shared_ptr<Session>& session);
  // The agents' shells.
  void StartAgent(int agent);
  void ReadHostAgain(int agent);
  void AgentInput(int agent, agent::Input input);
  void CarryOutAgent(int agent, std::vector<agent::Action> actions);
  void ScheduleAgentTick(int agent);
  void WorkerTold(int agent, agent::WorkerId id, const v1::AgentToWorker& message);
  void WorkerSays(int agent, agent::WorkerId id, v1::WorkerToAgent message, int64_t delay_ns);
  void ScheduleSample(int agent, agent::WorkerId id);
  void EndWorker(int agent, agent::WorkerId id, bool clean, const std::string& cause);
  void TuneNext(int agent, uint64_t life, const agent::Tune& tune, int setting);
  void ObserveSecond(int agent, const std::string& run_id, uint32_t second);
  int64_t Monotonic(int agent) const;
  absl::Time Wall() const;

  const FleetOptions options_;
  Scheduler scheduler_;
  Random random_;
  StoreModel store_;
  std::unique_ptr<server::CoordinatorCore> core_;
  uint64_t life_ = 0;  // of the coordinator
  std::vector<server::Input> inbox_;
  bool batch_under_way_ = false;
  absl::Time coordinator_tick_ = absl::InfiniteFuture();
  std::map<server::SessionId, std::shared_ptr<Session>> sessions_;
  server::SessionId last_session_ = 0;
  server::CallId last_call_ = 0;
  std::map<server::CallId, Done> calls_;
  std::vector<std::unique_ptr<AgentHost>> hosts_;
  std::map<std::pair<std::string, std::string>, metrics::FiguresMerger> produced_;
  std::vector<std::string> violations_;
  bool spilled_ = false;
};

}  // namespace loadstar::simulation
