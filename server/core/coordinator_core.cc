#include "server/core/coordinator_core.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/spec/name.h"
#include "server/core/client_calls.h"
#include "server/core/refusal.h"
#include "server/core/tuning_machine.h"
#include "server/core/wire_time.h"

namespace loadstar::server {
namespace {

// While anything is under way time is looked at this often; see NextTick.
constexpr absl::Duration kBeat = absl::Milliseconds(250);
// Finished runs of this life that repeated calls are still answered for, and run ids that are kept from being reused.
constexpr size_t kFinishedKept = 32;
constexpr size_t kRequestIdsKept = 10'000;
constexpr absl::Duration kRunIdKept = absl::Minutes(2);
// Runs at once; each costs memory for its figures.
constexpr size_t kMaxActiveRuns = 64;
constexpr size_t kMaxDeployments = 256;
constexpr size_t kMaxTunings = 64;
// Inputs further apart than this, although a tick was asked for every beat: the process stood still.
constexpr absl::Duration kStallMin = absl::Seconds(2);
// Agents to forget are looked for this often; and one that may only have been out of this coordinator's sight, because
// that was not there, has this long to come back.
constexpr absl::Duration kForgetBeat = absl::Minutes(1);
constexpr absl::Duration kForgetGrace = absl::Hours(1);

}  // namespace

struct CoordinatorCore::State {
  State(const CoordinatorOptions& o, Restored restored, absl::Time now)
      : options(o), random(o.seed), commands(std::move(restored.commands)), last_now(now) {
    for (const auto& [cursor, updated] : restored.cursors) {
      AgentEntry& agent = agents.Remember(cursor.agent, now);
      agent.cursors[cursor.instance_id] = {cursor.sequence, updated};
      agent.last_seen = std::max(agent.last_seen, updated);
    }
    for (v1::Deployment& deployment : restored.deployments) {
      const std::string name = deployment.name();
      for (const v1::NodeStatus& node : deployment.nodes()) agents.Remember(node.agent(), now);
      deployments[name] = std::make_unique<DeploymentMachine>(std::move(deployment));
    }
    std::map<std::string, std::vector<const PutSample*>> samples;
    for (const PutSample& sample : restored.samples) samples[sample.sample.run_id()].push_back(&sample);
    for (v1::Run& run : restored.unfinished_runs) {
      const std::string id = run.run_id();
      for (const v1::Participant& participant : run.participants()) agents.Remember(participant.agent(), now);
      const std::map<std::string, uint32_t> processes = ProcessesOf(run.test().target().stack());
      runs[id] = std::make_unique<RunMachine>(std::move(run), samples[id], processes, now, options);
      run_ids.emplace_back(now, id);
    }
    for (std::string& id : restored.recent_run_ids) run_ids.emplace_back(now, std::move(id));
    for (auto& [request, run] : restored.request_ids) RememberRequest(request, run);
  }

  void Take(const SessionOpened& input, const Turn& turn);
  void Take(const SessionClosed& input, const Turn& turn);
  void Take(const SessionSaid& input, const Turn& turn);
  void Take(ClientCalled& input, const Turn& turn);
  void Take(const ClientLeft& input, const Turn& turn);
  void Take(const Tick&, const Turn& turn);

  void TakeReport(AgentEntry* agent, const v1::Report& report, const Turn& turn);
  void Call(CallId call, const v1::ListAgentsRequest& request, const Turn& turn);
  void Call(CallId call, const v1::DeployRequest& request, const Turn& turn);
  void Call(CallId call, const v1::TeardownRequest& request, const Turn& turn);
  void Call(CallId call, const v1::ListDeploymentsRequest& request, const Turn& turn);
  void Call(CallId call, const v1::TuneRequest& request, const Turn& turn);
  void Call(CallId call, const ClientCalled::StartTest& request, const Turn& turn);
  void Call(CallId call, const v1::UpdateLoadRequest& request, const Turn& turn);
  void Call(CallId call, const v1::StopTestRequest& request, const Turn& turn);
  void Call(CallId call, const v1::TestSpec& test, const Turn& turn);
  absl::StatusOr<RunSetup> SetUp(const v1::TestSpec& test, const std::vector<std::string>& endpoints) const;
  void TellRuns(const std::string& deployment, const std::string& agent, const v1::NodeStatus& status,
                const Turn& turn);
  void NoticeStall(const Turn& turn);
  void ForgetAgents(const Turn& turn);
  void Flush(const Turn& turn);
  absl::Time NextTick() const;

  std::map<std::string, uint32_t> ProcessesOf(const std::string& deployment) const {
    const auto it = deployments.find(deployment);
    return it == deployments.end() ? std::map<std::string, uint32_t>()
                                   : NodeProcesses(it->second->deployment().stack());
  }
  RunMachine* FindRun(const std::string& id) {
    const auto it = runs.find(id);
    return it == runs.end() ? nullptr : it->second.get();
  }
  TuningMachine* FindTuning(const std::string& command_id) {
    const auto it = tunings.find(TuningOf(command_id));
    return it == tunings.end() ? nullptr : it->second.get();
  }
  // OK unless a tuning that is under way may change settings of the agent's host.
  absl::Status CheckNotTuned(const std::string& agent) const {
    const bool tuned =
        std::any_of(tunings.begin(), tunings.end(), [&](const auto& each) { return each.second->Changes(agent); });
    return tuned
               ? Precondition("TUNING_UNDER_WAY", agent,
                              absl::StrCat("the host of agent ", agent, " is being tuned; try again when that is done"))
               : absl::OkStatus();
  }
  const v1::Run* FindFinished(const std::string& id) const {
    const auto it = std::find_if(finished.begin(), finished.end(), [&](const v1::Run& r) { return r.run_id() == id; });
    return it == finished.end() ? nullptr : &*it;
  }
  void RememberRequest(const std::string& request, const std::string& run) {
    request_ids[request] = run;
    request_order.push_back(request);
    while (request_order.size() > kRequestIdsKept) {
      request_ids.erase(request_order.front());
      request_order.pop_front();
    }
  }
  static void Refuse(CallId call, absl::Status status, const Turn& turn) {
    turn.Do(Reply{call, std::move(status), std::monostate(), true});
  }
  template <typename Response>
  static void Answer(CallId call, Response response, const Turn& turn) {
    turn.Do(Reply{call, absl::OkStatus(), std::move(response), true});
  }

  const CoordinatorOptions options;
  std::mt19937_64 random;
  AgentTable agents;
  CommandBook commands;
  Runs runs;
  Deployments deployments;
  std::map<std::string, std::unique_ptr<TuningMachine>> tunings;  // by TuningOf
  std::deque<v1::Run> finished;
  std::deque<std::pair<absl::Time, std::string>> run_ids;  // taken recently, by time
  std::map<std::string, std::string> request_ids;
  std::deque<std::string> request_order;
  absl::Time last_now;
  absl::Time next_forget = absl::InfinitePast();
  struct Begun {
    CallId call;
    std::string run_id;
    std::string request_id;
  };
  std::optional<Begun> begun;  // by the last input: see Revoke
};

// ---- Sessions

void CoordinatorCore::State::Take(const SessionOpened& input, const Turn& turn) {
  const AgentTable::Admission admission = agents.Open(input.session, input.hello, turn.now);
  if (!admission.status.ok()) {
    turn.Do(CloseSession{input.session, admission.status});
    return;
  }
  if (admission.replaced.has_value()) {
    turn.Do(CloseSession{*admission.replaced, absl::AbortedError("the agent has opened a newer session")});
  }
  const std::string& name = input.hello.name();
  for (const std::string& instance : admission.dropped) turn.Do(DeleteCursors{name, instance});
  const auto& held_runs = input.hello.active_runs();
  const auto& held_deployments = input.hello.deployments();
  for (auto& [id, run] : runs) {
    run->OnHello(name, std::find(held_runs.begin(), held_runs.end(), id) != held_runs.end(), turn);
  }
  for (auto& [id, deployment] : deployments) {
    if (!deployment->RunsOn(name)) continue;
    const bool holds = std::find(held_deployments.begin(), held_deployments.end(), id) != held_deployments.end();
    for (const v1::NodeStatus& lost : deployment->OnHello(name, holds, turn)) TellRuns(id, name, lost, turn);
  }
  // What a run that is over still had to say to it, Welcome says by not naming the run. What nobody waits for any more
  // is not tuned.
  commands.Drop(
      name,
      [&](const v1::Command& command) {
        if (command.has_tune_host()) return !IsUndo(command) && FindTuning(command.command_id()) == nullptr;
        const std::string id = RunOf(command);
        return !id.empty() && (FindRun(id) == nullptr || !FindRun(id)->Wants(name));
      },
      turn.actions);

  SendToAgent welcome{input.session, {}};
  v1::AgentWelcome* body = welcome.message.mutable_welcome();
  body->set_acknowledged_sequence(agents.Find(name)->cursor());
  for (const auto& [id, run] : runs) {
    if (run->Wants(name)) body->add_active_runs(id);
  }
  for (const auto& [id, deployment] : deployments) {
    if (deployment->RunsOn(name)) body->add_deployments(id);
  }
  turn.Do(std::move(welcome));
  commands.Resend(*agents.Find(name), turn.actions);
}

void CoordinatorCore::State::Take(const SessionClosed& input, const Turn&) { agents.Close(input.session); }

void CoordinatorCore::State::Take(const SessionSaid& input, const Turn& turn) {
  AgentEntry* agent = agents.BySession(input.session);
  if (agent == nullptr) return;  // a session that was replaced
  agent->Heard(turn.now);
  if (input.message.has_heartbeat()) {
    const v1::Heartbeat& heartbeat = input.message.heartbeat();
    agent->Take(heartbeat);
    SendToAgent reply{input.session, {}};
    reply.message.mutable_heartbeat_reply()->set_agent_monotonic_ns(heartbeat.sent_monotonic_ns());
    reply.message.mutable_heartbeat_reply()->set_coordinator_unix_ns(absl::ToUnixNanos(turn.now));
    turn.Do(std::move(reply));
    return;
  }
  if (!input.message.has_report()) return;
  // Each once and in order. What comes again is only acknowledged again; what follows on a gap is not taken, and the
  // agent sends from the gap on.
  const uint64_t next = agent->cursor() + 1;
  if (input.message.report().sequence() > next) return;
  if (input.message.report().sequence() == next) {
    TakeReport(agent, input.message.report(), turn);
    agent->cursors[agent->hello.instance_id()] = {next, turn.now};
    turn.Do(PutCursor{agent->hello.name(), agent->hello.instance_id(), next});
  }
  SendToAgent ack{input.session, {}};
  ack.message.mutable_ack()->set_sequence(agent->cursor());
  turn.Do(std::move(ack));
}

void CoordinatorCore::State::TakeReport(AgentEntry* agent, const v1::Report& report, const Turn& turn) {
  const std::string name = agent->hello.name();
  switch (report.report_case()) {
    case v1::Report::kCommandResult: {
      const auto command = commands.Take(name, report.command_result().command_id(), turn.actions);
      if (!command.has_value()) return;
      const absl::Status status = FromWire(report.command_result().status());
      if (RunMachine* run = FindRun(RunOf(*command))) run->OnResult(name, *command, status, turn);
      if (TuningMachine* tuning = FindTuning(command->command_id())) tuning->OnResult(name, *command, status, turn);
      const auto deployment = deployments.find(DeploymentOf(*command));
      if (deployment != deployments.end()) deployment->second->OnResult(name, *command, status, random(), turn);
      return;
    }
    case v1::Report::kSample: {
      RunMachine* run = FindRun(report.sample().run_id());
      if (run != nullptr && run->OnSample(name, report.sample(), turn)) turn.Do(PutSample{name, report.sample()});
      return;
    }
    case v1::Report::kRunEvent:
      if (RunMachine* run = FindRun(report.run_event().run_id())) run->OnEvent(name, report.run_event().event(), turn);
      return;
    case v1::Report::kRunStarted:
      if (RunMachine* run = FindRun(report.run_started().run_id())) run->OnStarted(name, report.run_started());
      return;
    case v1::Report::kRunFinished:
      if (RunMachine* run = FindRun(report.run_finished().run_id())) run->OnFinished(name, turn);
      return;
    case v1::Report::kNode: {
      const auto deployment = deployments.find(report.node().deployment());
      if (deployment == deployments.end()) return;
      if (deployment->second->OnNode(name, report.node().status(), turn)) {
        TellRuns(report.node().deployment(), name, report.node().status(), turn);
      }
      return;
    }
    case v1::Report::kTune:
      if (TuningMachine* tuning = FindTuning(report.tune().command_id())) tuning->OnStep(name, report.tune(), turn);
      return;
    case v1::Report::REPORT_NOT_SET:
      return;
  }
}

void CoordinatorCore::State::TellRuns(const std::string& deployment, const std::string& agent,
                                      const v1::NodeStatus& status, const Turn& turn) {
  for (auto& [id, run] : runs) {
    if (run->Uses(deployment) && !run->finished()) run->OnNode(agent, status, turn);
  }
}

// ---- Clients

void CoordinatorCore::State::Take(ClientCalled& input, const Turn& turn) {
  std::visit([&](const auto& request) { Call(input.call, request, turn); }, input.request);
}

void CoordinatorCore::State::Take(const ClientLeft& input, const Turn&) {
  for (auto& [name, deployment] : deployments) deployment->OnCallerLeft(input.call);
  for (auto& [id, tuning] : tunings) tuning->OnCallerLeft(input.call);
}

void CoordinatorCore::State::Call(CallId call, const v1::ListAgentsRequest&, const Turn& turn) {
  Answer(call, DescribeAgents(agents, runs, deployments), turn);
}

void CoordinatorCore::State::Call(CallId call, const v1::ListDeploymentsRequest&, const Turn& turn) {
  v1::ListDeploymentsResponse response;
  for (const auto& [name, deployment] : deployments) *response.add_deployments() = deployment->Seen(agents);
  Answer(call, std::move(response), turn);
}

void CoordinatorCore::State::Call(CallId call, const v1::DeployRequest& request, const Turn& turn) {
  const v1::StackSpec& stack = request.stack();
  const auto existing = deployments.find(stack.name());
  if (existing != deployments.end()) {
    DeploymentMachine& machine = *existing->second;
    const v1::Deployment standing = machine.Seen(agents);
    if (standing.state() == v1::DEPLOYMENT_STATE_STOPPING) {
      return Refuse(call,
                    Precondition("DEPLOYMENT_STOPPING", stack.name(),
                                 absl::StrCat("deployment '", stack.name(),
                                              "' is being taken down; deploy again when that is done")),
                    turn);
    }
    if (standing.stack().SerializeAsString() != stack.SerializeAsString()) {
      return Refuse(call,
                    Precondition("DEPLOYMENT_EXISTS", stack.name(),
                                 absl::StrCat("a deployment '", stack.name(),
                                              "' stands with another stack; take it down first with: loadstar "
                                              "teardown ",
                                              stack.name())),
                    turn);
    }
    if (standing.state() == v1::DEPLOYMENT_STATE_STARTING) return machine.AwaitDeploy(call);
    if (standing.state() == v1::DEPLOYMENT_STATE_UNKNOWN) return Refuse(call, NotInSight(standing), turn);
    if (standing.state() != v1::DEPLOYMENT_STATE_HEALTHY) {
      return Refuse(call,
                    Precondition("DEPLOYMENT_NOT_HEALTHY", stack.name(),
                                 absl::StrCat("deployment '", stack.name(),
                                              "' stands but is not healthy; take it down first with: loadstar "
                                              "teardown ",
                                              stack.name())),
                    turn);
    }
    v1::DeployResponse response;
    *response.mutable_deployment() = standing;
    return Answer(call, std::move(response), turn);
  }
  if (!spec::IsName(stack.name()) || stack.nodes_size() == 0) {
    return Refuse(call, BadField("stack", "it needs a name ([a-z0-9][a-z0-9-]{0,62}) and nodes"), turn);
  }
  if (deployments.size() >= kMaxDeployments) {
    return Refuse(call, absl::ResourceExhaustedError(absl::StrCat(kMaxDeployments, " deployments stand, the limit")),
                  turn);
  }
  absl::StatusOr<std::vector<std::string>> placement = PlaceNodes(stack, agents);
  if (!placement.ok()) return Refuse(call, placement.status(), turn);
  deployments[stack.name()] = std::make_unique<DeploymentMachine>(stack, *placement, random(), call, turn);
}

void CoordinatorCore::State::Call(CallId call, const v1::TeardownRequest& request, const Turn& turn) {
  const auto found = deployments.find(request.name());
  if (found == deployments.end()) {
    return Refuse(call, Missing("DEPLOYMENT_NOT_FOUND", absl::StrCat("no deployment '", request.name(), "' stands")),
                  turn);
  }
  for (const auto& [id, run] : runs) {
    if (!run->Uses(request.name())) continue;
    return Refuse(call,
                  Precondition("DEPLOYMENT_IN_USE", request.name(),
                               absl::StrCat("run ", id, " uses deployment '", request.name(),
                                            "'; end it first with: loadstar stop ", id)),
                  turn);
  }
  found->second->Teardown(call, random(), turn);
}

void CoordinatorCore::State::Call(CallId call, const v1::TuneRequest& request, const Turn& turn) {
  if (tunings.size() >= kMaxTunings) {
    return Refuse(call, absl::ResourceExhaustedError(absl::StrCat(kMaxTunings, " tunings are under way, the limit")),
                  turn);
  }
  const absl::StatusOr<std::vector<std::string>> chosen =
      ChooseAgents({request.agents().begin(), request.agents().end()}, agents);
  if (!chosen.ok()) return Refuse(call, chosen.status(), turn);
  const bool changes = request.action() == v1::TUNE_ACTION_APPLY || request.action() == v1::TUNE_ACTION_ROLLBACK;
  for (const std::string& agent : *chosen) {
    if (!changes) break;
    if (absl::Status idle = CheckNotTuned(agent); !idle.ok()) return Refuse(call, idle, turn);
    for (const auto& [id, run] : runs) {
      if (!run->Wants(agent)) continue;
      return Refuse(call,
                    Precondition("RUN_ACTIVE", id,
                                 absl::StrCat("run ", id, " is under way on agent ", agent,
                                              "; tuning its host would change what is measured. Wait for its end, or "
                                              "end it with: loadstar stop ",
                                              id)),
                    turn);
    }
  }
  auto tuning = std::make_unique<TuningMachine>(
      absl::StrCat(absl::Hex(absl::ToUnixNanos(turn.now)), "-", absl::Hex(random())), request, *chosen, call, turn);
  tunings[tuning->id()] = std::move(tuning);
}

absl::StatusOr<RunSetup> CoordinatorCore::State::SetUp(const v1::TestSpec& test,
                                                       const std::vector<std::string>& endpoints) const {
  if (runs.size() >= kMaxActiveRuns) {
    return absl::ResourceExhaustedError(absl::StrCat(kMaxActiveRuns, " runs are under way, the limit"));
  }
  if (test.load().connections().empty()) return BadField("load.connections", "at least one stage is needed");
  absl::StatusOr<ResolvedTarget> target = ResolveTarget(test, endpoints, deployments, agents);
  if (!target.ok()) return target.status();
  absl::StatusOr<std::vector<Candidate>> candidates = FindCandidates(test, *target, agents, runs);
  if (!candidates.ok()) return candidates.status();
  for (const Candidate& candidate : *candidates) {
    if (absl::Status idle = CheckNotTuned(candidate.name); !idle.ok()) return idle;
  }
  absl::StatusOr<Plan> plan = PlanOrRefuse(test, target->endpoints, *candidates);
  if (!plan.ok()) return plan.status();
  RunSetup setup;
  setup.test = test;
  setup.endpoints = std::move(target->endpoints);
  setup.nodes = std::move(target->nodes);
  setup.observers = std::move(target->observers);
  setup.deployment = test.target().stack();
  setup.node_processes = std::move(target->node_processes);
  setup.plan = *std::move(plan);
  return setup;
}

void CoordinatorCore::State::Call(CallId call, const ClientCalled::StartTest& request, const Turn& turn) {
  if (!request.request_id.empty()) {
    const auto known = request_ids.find(request.request_id);
    if (known != request_ids.end()) {
      v1::StartTestResponse response;
      response.mutable_run()->set_run_id(known->second);
      if (const RunMachine* run = FindRun(known->second)) {
        *response.mutable_run() = run->run();
      } else if (const v1::Run* over = FindFinished(known->second)) {
        *response.mutable_run() = *over;
      }
      return Answer(call, std::move(response), turn);
    }
  }
  absl::StatusOr<RunSetup> setup = SetUp(request.test, request.endpoints);
  if (!setup.ok()) return Refuse(call, setup.status(), turn);
  while (!run_ids.empty() && turn.now - run_ids.front().first > kRunIdKept) run_ids.pop_front();
  std::set<std::string> taken;
  for (const auto& [time, id] : run_ids) taken.insert(id);
  for (const auto& [id, run] : runs) taken.insert(id);
  setup->run_id = MakeRunId(request.test.name(), turn.now, taken);
  if (setup->test.load().seed() == 0) setup->test.mutable_load()->set_seed(std::max<uint64_t>(random() >> 1, 1));

  auto run = std::make_unique<RunMachine>(*setup, turn);
  run_ids.emplace_back(turn.now, setup->run_id);
  begun = Begun{call, setup->run_id, request.request_id};
  if (!request.request_id.empty()) {
    RememberRequest(request.request_id, setup->run_id);
    turn.Do(PutRun{run->run(), request.request_id});
  }
  v1::StartTestResponse response;
  *response.mutable_run() = run->run();
  runs[setup->run_id] = std::move(run);
  Answer(call, std::move(response), turn);
}

void CoordinatorCore::State::Call(CallId call, const v1::TestSpec& test, const Turn& turn) {
  v1::ValidateResponse response;
  const std::vector<std::string> endpoints(test.target().endpoints().begin(), test.target().endpoints().end());
  const absl::StatusOr<RunSetup> setup = SetUp(test, endpoints);
  if (!setup.ok()) {
    v1::DocumentProblem* problem = response.add_problems();
    problem->set_field(absl::IsNotFound(setup.status()) ? "target.stack" : "load");
    problem->set_message(std::string(setup.status().message()));
  }
  Answer(call, std::move(response), turn);
}

void CoordinatorCore::State::Call(CallId call, const v1::UpdateLoadRequest& request, const Turn& turn) {
  RunMachine* run = FindRun(request.run_id());
  if (run == nullptr) {
    if (FindFinished(request.run_id()) != nullptr) {
      return Refuse(
          call, Precondition("RUN_NOT_RUNNING", request.run_id(), absl::StrCat("run ", request.run_id(), " is over")),
          turn);
    }
    return Refuse(call, Missing("RUN_NOT_FOUND", absl::StrCat("no run '", request.run_id(), "' is under way")), turn);
  }
  absl::StatusOr<v1::AppliedUpdate> applied = run->Update(request.update(), turn);
  if (!applied.ok()) return Refuse(call, applied.status(), turn);
  v1::UpdateLoadResponse response;
  *response.mutable_applied() = *std::move(applied);
  Answer(call, std::move(response), turn);
}

void CoordinatorCore::State::Call(CallId call, const v1::StopTestRequest& request, const Turn& turn) {
  v1::StopTestResponse response;
  if (RunMachine* run = FindRun(request.run_id())) {
    run->Stop(request.abort(), turn);
    *response.mutable_run() = run->run();
    return Answer(call, std::move(response), turn);
  }
  if (const v1::Run* over = FindFinished(request.run_id())) {
    *response.mutable_run() = *over;
    return Answer(call, std::move(response), turn);
  }
  Refuse(call, Missing("RUN_NOT_FOUND", absl::StrCat("no run '", request.run_id(), "' is under way")), turn);
}

// ---- Time and the end of a turn

void CoordinatorCore::State::NoticeStall(const Turn& turn) {
  if (turn.now - last_now < kStallMin || NextTick() == absl::InfiniteFuture()) return;
  const absl::Duration stall = turn.now - last_now - kBeat;
  agents.Excuse(stall);
  for (auto& [id, run] : runs) run->OnStall(stall, turn);
}

void CoordinatorCore::State::ForgetAgents(const Turn& turn) {
  if (turn.now < next_forget) return;
  next_forget = turn.now + kForgetBeat;
  std::vector<std::string> gone;
  for (const auto& entry : agents.all()) {
    const std::string& name = entry.first;
    const AgentEntry& agent = entry.second;
    const bool away = !agent.connected() && turn.now - agent.last_seen >= options.agent_forgotten_after &&
                      turn.now - agent.silent_since >= kForgetGrace;
    if (!away || commands.Pending(name, [](const v1::Command&) { return true; })) continue;
    const bool used = std::any_of(runs.begin(), runs.end(), [&](const auto& run) { return run.second->Wants(name); }) ||
                      std::any_of(deployments.begin(), deployments.end(),
                                  [&](const auto& each) { return each.second->RunsOn(name); });
    if (!used) gone.push_back(name);
  }
  for (const std::string& name : gone) {
    agents.Forget(name);
    turn.Do(DeleteCursors{name, ""});
  }
}

void CoordinatorCore::State::Take(const Tick&, const Turn& turn) {
  // A session that is open but silent is of no use and keeps another instance of the agent out.
  for (auto& [name, agent] : agents.all()) {
    if (!agent.connected() || !turn.GivenUp(name)) continue;
    const SessionId session = *agent.session;
    agents.Close(session);
    turn.Do(CloseSession{session,
                         absl::UnavailableError(absl::StrCat("nothing was heard on the session for ",
                                                             absl::FormatDuration(turn.options.agent_lost_after)))});
  }
  for (auto& [id, run] : runs) run->OnTick(turn);
  for (auto& [name, deployment] : deployments) deployment->OnTick(random(), turn);
  for (auto& [id, tuning] : tunings) tuning->OnTick(turn);
}

void CoordinatorCore::State::Flush(const Turn& turn) {
  for (auto it = runs.begin(); it != runs.end();) {
    it->second->Flush(turn);
    if (it->second->finished()) {
      finished.push_back(it->second->run());
      if (finished.size() > kFinishedKept) finished.pop_front();
      it = runs.erase(it);
    } else {
      ++it;
    }
  }
  for (auto it = deployments.begin(); it != deployments.end();) {
    it->second->Flush(turn);
    it = it->second->gone() ? deployments.erase(it) : std::next(it);
  }
  std::erase_if(tunings, [](const auto& each) { return each.second->over(); });
}

CoordinatorCore::CoordinatorCore(const CoordinatorOptions& options, Restored restored, absl::Time now)
    : state_(std::make_unique<State>(options, std::move(restored), now)) {}

CoordinatorCore::~CoordinatorCore() = default;

void CoordinatorCore::Handle(Input input, absl::Time now, std::vector<Action>* actions) {
  const Turn turn{now, state_->options, state_->agents, state_->commands, actions};
  state_->NoticeStall(turn);
  state_->last_now = now;
  state_->begun.reset();
  state_->ForgetAgents(turn);
  std::visit([&](auto& each) { state_->Take(each, turn); }, input);
  state_->Flush(turn);
}

void CoordinatorCore::Revoke(CallId call) {
  if (!state_->begun.has_value() || state_->begun->call != call) return;
  const State::Begun begun = *std::move(state_->begun);
  state_->begun.reset();
  state_->runs.erase(begun.run_id);
  std::erase_if(state_->run_ids, [&](const auto& taken) { return taken.second == begun.run_id; });
  state_->request_ids.erase(begun.request_id);
  std::erase(state_->request_order, begun.request_id);
  std::vector<Action> never_stored;
  state_->commands.Drop(
      "", [&](const v1::Command& command) { return RunOf(command) == begun.run_id; }, &never_stored);
}

absl::Time CoordinatorCore::NextTick() const { return state_->NextTick(); }

absl::Time CoordinatorCore::State::NextTick() const {
  const bool watching =
      std::any_of(agents.all().begin(), agents.all().end(), [](const auto& agent) { return agent.second.connected(); });
  if (!watching && runs.empty() && deployments.empty() && tunings.empty()) return absl::InfiniteFuture();
  absl::Time next = last_now + kBeat;
  for (const auto& [id, run] : runs) next = std::min(next, run->NextInstant());
  return next;
}

}  // namespace loadstar::server
