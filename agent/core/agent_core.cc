#include "agent/core/agent_core.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/core/clock_sync.h"
#include "agent/core/command_log.h"
#include "agent/core/report_log.h"
#include "agent/core/run_machine.h"
#include "agent/core/turn.h"
#include "lib/plan/capacity.h"

namespace loadstar::agent {
namespace {

constexpr int64_t kHeartbeatEveryNs = 2'000'000'000;
// Until the clock is known from a few round trips they come faster.
constexpr int64_t kFirstHeartbeatsEveryNs = 100'000'000;
constexpr size_t kFirstHeartbeats = 4;
// More runs than any host has use for.
constexpr size_t kMaxRuns = 64;

absl::Status Refusal(const absl::Status& status) {
  return status.ok() ? status : absl::PermissionDeniedError(status.message());
}

}  // namespace

struct AgentCore::State {
  State(const AgentOptions& o, ReportSpill* spill, v1::HostFacts h, v1::Capacity c, std::vector<std::string> adopted)
      : options(o),
        log(spill, o.outbox_memory_bytes),
        host(std::move(h)),
        capacity(std::move(c)),
        deployments(std::make_move_iterator(adopted.begin()), std::make_move_iterator(adopted.end())) {}

  void Take(const SessionUp&, const Turn& turn);
  void Take(const SessionDown&, const Turn& turn);
  void Take(CoordinatorSaid& input, const Turn& turn);
  void Take(const WorkerSaid& input, const Turn& turn);
  void Take(const WorkerExited& input, const Turn& turn);
  void Take(NodeChanged& input, const Turn& turn);
  void Take(const DeployEnded& input, const Turn& turn);
  void Take(TuneStepMade& input, const Turn& turn);
  void Take(const TuneEnded& input, const Turn& turn);
  void Take(NodesObserved& input, const Turn& turn);
  void Take(const HostObserved& input, const Turn& turn);
  void Take(HostRead& input, const Turn& turn);
  void Take(const Tick&, const Turn&) {}

  void OnWelcome(const v1::AgentWelcome& welcome, const Turn& turn);
  void OnCommand(const v1::Command& command, const Turn& turn);
  void Prepare(const std::string& command_id, const v1::PrepareRun& prepare, const Turn& turn);
  void Deploy(const std::string& command_id, const v1::DeployNodes& deploy, const Turn& turn);
  void Heartbeat(const Turn& turn);
  void Settle(const Turn& turn);

  RunMachine* Find(const std::string& run_id) {
    const auto it = runs.find(run_id);
    return it == runs.end() ? nullptr : it->second.get();
  }
  RunMachine* FindByWorker(WorkerId worker) {
    for (auto& [id, run] : runs) {
      if (run->Has(worker)) return run.get();
    }
    return nullptr;
  }

  const AgentOptions options;
  ReportLog log;
  ClockSync clock;
  CommandLog commands;
  WorkerId last_worker = 0;
  v1::HostFacts host;
  v1::Capacity capacity;
  bool host_read = false;  // since the coordinator was told
  std::map<std::string, std::unique_ptr<RunMachine>> runs;
  std::set<std::string> deployments;
  std::map<std::string, std::string> teardowns;  // command -> deployment
  bool up = false;
  bool welcome = false;
  std::optional<int64_t> down_since_ns;
  int64_t next_heartbeat_ns = INT64_MAX;
};

// ---- The session

void AgentCore::State::Take(const SessionUp&, const Turn& turn) {
  up = true;
  welcome = false;
  SendToCoordinator send;
  v1::AgentHello* hello = send.message.mutable_hello();
  hello->set_name(options.name);
  hello->set_instance_id(options.instance_id);
  hello->set_version(options.version);
  *hello->mutable_host() = host;
  *hello->mutable_capacity() = capacity;
  for (const auto& [id, run] : runs) hello->add_active_runs(id);
  for (const std::string& name : deployments) hello->add_deployments(name);
  host_read = false;
  turn.Do(std::move(send));
}

void AgentCore::State::Take(const SessionDown&, const Turn& turn) {
  if (!up) return;
  up = false;
  // A session that was refused never stood: the coordinator stays out of reach since before it.
  if (welcome || !down_since_ns.has_value()) down_since_ns = turn.now_ns;
  welcome = false;
  next_heartbeat_ns = INT64_MAX;
  log.End();
}

void AgentCore::State::Take(CoordinatorSaid& input, const Turn& turn) {
  if (!up) return;
  switch (input.message.message_case()) {
    case v1::SessionResponse::kWelcome:
      OnWelcome(input.message.welcome(), turn);
      break;
    case v1::SessionResponse::kHeartbeatReply:
      clock.Add(input.message.heartbeat_reply().agent_monotonic_ns(),
                input.message.heartbeat_reply().coordinator_unix_ns(), turn.now_ns);
      break;
    case v1::SessionResponse::kCommand:
      OnCommand(input.message.command(), turn);
      break;
    case v1::SessionResponse::kAck:
      log.Acknowledge(input.message.ack().sequence(), turn.now_ns);
      break;
    case v1::SessionResponse::MESSAGE_NOT_SET:
      break;
  }
}

void AgentCore::State::OnWelcome(const v1::AgentWelcome& message, const Turn& turn) {
  welcome = true;
  down_since_ns.reset();
  log.Begin(message.acknowledged_sequence(), turn.now_ns);
  const std::set<std::string> wanted_runs(message.active_runs().begin(), message.active_runs().end());
  for (auto it = runs.begin(); it != runs.end();) {
    if (wanted_runs.count(it->first) > 0) {
      ++it;
      continue;
    }
    it->second->Forget(turn);
    it = runs.erase(it);
  }
  const std::set<std::string> wanted(message.deployments().begin(), message.deployments().end());
  for (auto it = deployments.begin(); it != deployments.end();) {
    if (wanted.count(*it) > 0) {
      ++it;
      continue;
    }
    turn.Do(agent::Teardown{"", *it});
    it = deployments.erase(it);
  }
  Heartbeat(turn);
}

void AgentCore::State::Heartbeat(const Turn& turn) {
  SendToCoordinator send;
  v1::Heartbeat* heartbeat = send.message.mutable_heartbeat();
  heartbeat->set_sent_monotonic_ns(turn.now_ns);
  if (clock.known()) {
    heartbeat->set_clock_offset_ns(clock.offset_ns());
    heartbeat->set_clock_uncertainty_ns(clock.uncertainty_ns());
  }
  if (host_read) {
    *heartbeat->mutable_host() = host;
    *heartbeat->mutable_capacity() = capacity;
  }
  host_read = false;
  turn.Do(std::move(send));
  next_heartbeat_ns = turn.now_ns + (clock.count() < kFirstHeartbeats ? kFirstHeartbeatsEveryNs : kHeartbeatEveryNs);
}

// ---- Commands

void AgentCore::State::OnCommand(const v1::Command& command, const Turn& turn) {
  const std::string& id = command.command_id();
  if (!commands.Begin(id, &log)) return;
  switch (command.command_case()) {
    case v1::Command::kPrepareRun:
      Prepare(id, command.prepare_run(), turn);
      return;
    case v1::Command::kStartRun: {
      RunMachine* run = Find(command.start_run().run_id());
      turn.End(id, run == nullptr ? absl::NotFoundError(
                                        absl::StrCat("run ", command.start_run().run_id(), " is not on this agent"))
                                  : run->Start(command.start_run().start_unix_ns(), turn));
      return;
    }
    case v1::Command::kUpdateRun: {
      RunMachine* run = Find(command.update_run().run_id());
      turn.End(id, run == nullptr ? absl::NotFoundError(
                                        absl::StrCat("run ", command.update_run().run_id(), " is not on this agent"))
                                  : run->Update(command.update_run(), turn));
      return;
    }
    case v1::Command::kStopRun: {
      turn.End(id, absl::OkStatus());
      if (RunMachine* run = Find(command.stop_run().run_id())) {
        run->Stop(command.stop_run().abort(), turn);
      } else {
        // Nothing of it is here; say what a stop is always followed by.
        v1::Report report;
        report.mutable_run_finished()->set_run_id(command.stop_run().run_id());
        turn.Report(std::move(report));
      }
      return;
    }
    case v1::Command::kDeployNodes:
      Deploy(id, command.deploy_nodes(), turn);
      return;
    case v1::Command::kTeardownNodes:
      teardowns[id] = command.teardown_nodes().deployment();
      turn.Do(agent::Teardown{id, command.teardown_nodes().deployment()});
      return;
    case v1::Command::kTuneHost:
      turn.Do(agent::Tune{id, command.tune_host()});
      return;
    case v1::Command::COMMAND_NOT_SET:
      turn.End(id, absl::UnimplementedError(absl::StrCat("agent version ", options.version,
                                                         " does not know this command; use the same version of agent "
                                                         "and coordinator")));
      return;
  }
}

void AgentCore::State::Prepare(const std::string& command_id, const v1::PrepareRun& prepare, const Turn& turn) {
  absl::Status status = RunMachine::Check(prepare);
  if (status.ok() && options.admit_run != nullptr) status = Refusal(options.admit_run(prepare));
  if (status.ok() && Find(prepare.run_id()) != nullptr) {
    status = absl::AlreadyExistsError(absl::StrCat("run ", prepare.run_id(), " is on this agent already"));
  }
  if (status.ok() && runs.size() >= kMaxRuns) {
    status = absl::ResourceExhaustedError(absl::StrCat(kMaxRuns, " runs are on this agent, the limit"));
  }
  if (!status.ok()) {
    turn.End(command_id, status);
    return;
  }
  runs[prepare.run_id()] = std::make_unique<RunMachine>(prepare, command_id, turn);
}

void AgentCore::State::Deploy(const std::string& command_id, const v1::DeployNodes& deploy, const Turn& turn) {
  if (options.admit_nodes != nullptr) {
    const absl::Status status = Refusal(options.admit_nodes(deploy));
    if (!status.ok()) {
      turn.End(command_id, status);
      return;
    }
  }
  deployments.insert(deploy.deployment());
  turn.Do(agent::Deploy{command_id, deploy.deployment(), {deploy.nodes().begin(), deploy.nodes().end()}});
}

void AgentCore::State::Take(const DeployEnded& input, const Turn& turn) {
  const auto teardown = teardowns.find(input.command_id);
  if (teardown != teardowns.end()) {
    if (input.status.ok()) deployments.erase(teardown->second);
    teardowns.erase(teardown);
  }
  turn.End(input.command_id, input.status);
}

void AgentCore::State::Take(NodeChanged& input, const Turn& turn) {
  v1::Report report;
  *report.mutable_node() = std::move(input.report);
  turn.Report(std::move(report));
}

void AgentCore::State::Take(TuneStepMade& input, const Turn& turn) {
  v1::Report report;
  report.mutable_tune()->set_command_id(input.command_id);
  *report.mutable_tune()->mutable_step() = std::move(input.step);
  turn.Report(std::move(report));
}

void AgentCore::State::Take(const TuneEnded& input, const Turn& turn) {
  // What the host can hold is told ahead of the result: whoever waits for that may start a run at once.
  if (welcome) next_heartbeat_ns = turn.now_ns;
  turn.End(input.command_id, input.status);
}

// ---- Workers, nodes, the host

void AgentCore::State::Take(const WorkerSaid& input, const Turn& turn) {
  if (RunMachine* run = FindByWorker(input.worker)) run->OnWorker(input.worker, input.message, turn);
}

void AgentCore::State::Take(const WorkerExited& input, const Turn& turn) {
  if (RunMachine* run = FindByWorker(input.worker)) run->OnWorkerExit(input.worker, input.clean, input.cause, turn);
}

void AgentCore::State::Take(NodesObserved& input, const Turn&) {
  if (RunMachine* run = Find(input.run_id)) run->OnNodes(std::move(input));
}

void AgentCore::State::Take(const HostObserved& input, const Turn& turn) {
  if (RunMachine* run = Find(input.run_id)) run->OnHost(input, turn);
}

void AgentCore::State::Take(HostRead& input, const Turn&) {
  host = std::move(input.host);
  capacity = std::move(input.capacity);
  // The workers' last samples are a second or so behind the reading: during a ramp that errs on the safe side.
  uint64_t held = 0;
  for (const auto& [id, run] : runs) held += run->ConnectionsHeld();
  capacity.set_connections(capacity.connections() + held);
  for (v1::CapacityLimit& limit : *capacity.mutable_limits()) {
    // Of the socket memory in use what is under way has a part, and not each connection that is held.
    if (limit.name() != plan::kTcpMemoryLimit) limit.set_connections(limit.connections() + held);
  }
  plan::BindLeast(&capacity);
  if (capacity.has_tuned() && capacity.tuned().binding_limit() != plan::kTcpMemoryLimit) {
    capacity.mutable_tuned()->set_connections(capacity.tuned().connections() + held);
  }
  host_read = true;
}

// ---- The end of a turn

void AgentCore::State::Settle(const Turn& turn) {
  if (welcome && turn.now_ns >= next_heartbeat_ns) Heartbeat(turn);
  const bool orphaned = down_since_ns.has_value() && turn.now_ns - *down_since_ns >= options.orphan_after_ns;
  if (orphaned) {
    for (auto& [id, run] : runs) run->Orphan(turn);
    down_since_ns = turn.now_ns;  // what does not end by that is asked again, harder
  }
  for (auto it = runs.begin(); it != runs.end();) {
    RunMachine& run = *it->second;
    run.Advance(turn);
    const bool done = run.state() == RunMachine::State::kDone &&
                      (!run.finished_report().has_value() || log.acknowledged(*run.finished_report()));
    it = done ? runs.erase(it) : std::next(it);
  }
  log.Send(turn.now_ns, [&](const v1::Report& report) {
    SendToCoordinator send;
    *send.message.mutable_report() = report;
    turn.Do(std::move(send));
  });
}

AgentCore::AgentCore(const AgentOptions& options, ReportSpill* spill, v1::HostFacts host, v1::Capacity capacity,
                     std::vector<std::string> adopted_deployments)
    : state_(std::make_unique<State>(options, spill, std::move(host), std::move(capacity),
                                     std::move(adopted_deployments))) {}

AgentCore::~AgentCore() = default;

void AgentCore::Handle(Input input, int64_t now_ns, std::vector<Action>* actions) {
  const Turn turn{now_ns, state_->options, state_->clock, state_->log, state_->commands, state_->last_worker, actions};
  std::visit([&](auto& each) { state_->Take(each, turn); }, input);
  state_->Settle(turn);
}

int64_t AgentCore::NextTick() const {
  int64_t next = std::min(state_->next_heartbeat_ns, state_->log.NextInstant());
  if (state_->down_since_ns.has_value() && !state_->runs.empty()) {
    next = std::min(next, *state_->down_since_ns + state_->options.orphan_after_ns);
  }
  for (const auto& [id, run] : state_->runs) next = std::min(next, run->NextInstant());
  return next;
}

}  // namespace loadstar::agent
