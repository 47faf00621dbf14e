#include "tests/simulation/fleet.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace loadstar::simulation {
namespace {

constexpr int64_t kEpochSeconds = 1'790'000'000;

}  // namespace

// One stream. Messages of a direction are numbered; those from `cut_at` on never arrive.
struct Fleet::Session {
  server::SessionId id = 0;
  int agent = 0;
  uint64_t agent_life = 0;
  uint64_t coordinator_life = 0;
  bool cut = false;
  bool agent_open = true;
  bool coordinator_open = true;
  struct Direction {
    uint64_t sent = 0;
    uint64_t arrived = 0;
    uint64_t cut_at = UINT64_MAX;
    int64_t last_arrival = 0;
  };
  Direction up;
  Direction down;
};

struct Fleet::Worker {
  std::string run_id;
  std::unique_ptr<WorkerModel> model;
  uint64_t seed = 0;
  std::optional<int64_t> start_monotonic_ns;
  int64_t last_said = 0;
  bool ending = false;
  bool stopped = false;
  uint64_t sample_event = 0;
};

class Fleet::Spill : public agent::ReportSpill {
 public:
  explicit Spill(bool* spilled) : spilled_(spilled) {}
  absl::Status Append(const v1::Report& report) override {
    *spilled_ = true;
    reports_.push_back(report);
    return absl::OkStatus();
  }
  std::vector<v1::Report> Read(uint64_t after, size_t limit) override {
    std::vector<v1::Report> some;
    for (const v1::Report& report : reports_) {
      if (report.sequence() > after && some.size() < limit) some.push_back(report);
    }
    return some;
  }
  void Trim(uint64_t through) override {
    std::erase_if(reports_, [&](const v1::Report& report) { return report.sequence() <= through; });
  }

 private:
  bool* const spilled_;
  std::vector<v1::Report> reports_;
};

struct Fleet::AgentHost {
  std::string name;
  int64_t monotonic_base = 0;
  uint64_t life = 0;
  uint64_t readings = 0;  // of its host
  std::unique_ptr<Spill> spill;
  std::unique_ptr<agent::AgentCore> core;
  std::shared_ptr<Session> session;
  int64_t tick = INT64_MAX;
  std::map<agent::WorkerId, Worker> workers;
  std::map<std::string, std::set<std::string>> nodes;  // deployment -> nodes; they outlive the agent's process
  std::set<std::string> tuned;                         // settings; likewise
  struct Observed {
    int64_t start_ns = 0;
    bool nodes = false;
  };
  std::map<std::string, Observed> observed;  // by run
  // What this instance has done, by command or worker: once each.
  std::set<std::string> done;
};

Fleet::Fleet(const FleetOptions& options) : options_(options), random_(options.seed) {
  StartCoordinator();
  for (int i = 0; i < options.agents; ++i) {
    hosts_.push_back(std::make_unique<AgentHost>());
    hosts_[static_cast<size_t>(i)]->name = absl::StrCat("agent", i + 1);
    hosts_[static_cast<size_t>(i)]->monotonic_base = random_.Between(0, 1'000'000) * kMs;
    StartAgent(i);
  }
}

Fleet::~Fleet() = default;

std::string Fleet::NameOf(int agent) const { return hosts_[static_cast<size_t>(agent)]->name; }
absl::Time Fleet::Wall() const { return absl::FromUnixSeconds(kEpochSeconds) + absl::Nanoseconds(scheduler_.now()); }
int64_t Fleet::Monotonic(int agent) const {
  return hosts_[static_cast<size_t>(agent)]->monotonic_base + scheduler_.now();
}

// ---- The coordinator's shell

void Fleet::StartCoordinator() {
  ++life_;
  server::CoordinatorOptions options = options_.coordinator;
  options.seed = random_.Draw();
  core_ = std::make_unique<server::CoordinatorCore>(options, store_.Restore(), Wall());
  batch_under_way_ = false;
  coordinator_tick_ = absl::InfiniteFuture();
  ScheduleCoordinatorTick();
}

void Fleet::CrashCoordinator(int64_t down_ns) {
  if (core_ == nullptr) return;
  core_.reset();
  inbox_.clear();
  calls_.clear();
  const auto sessions = std::move(sessions_);
  sessions_.clear();
  for (const auto& [id, session] : sessions) {
    session->coordinator_open = false;
    Cut(session);
  }
  scheduler_.After(down_ns, [this] { StartCoordinator(); });
}

bool Fleet::Call(decltype(server::ClientCalled::request) request, Done done) {
  if (core_ == nullptr) return false;
  const server::CallId call = ++last_call_;
  calls_[call] = std::move(done);
  Input(server::ClientCalled{call, std::move(request)});
  return true;
}

void Fleet::Input(server::Input input) {
  inbox_.push_back(std::move(input));
  ScheduleBatch();
}

void Fleet::ScheduleBatch() {
  if (batch_under_way_ || core_ == nullptr) return;
  batch_under_way_ = true;
  scheduler_.After(0, [this, life = life_] {
    if (life == life_ && core_ != nullptr) RunBatch();
  });
}

void Fleet::RunBatch() {
  std::vector<server::Action> actions;
  std::vector<server::Input> batch = std::move(inbox_);
  inbox_.clear();
  for (server::Input& input : batch) {
    const bool tick = std::holds_alternative<server::Tick>(input);
    core_->Handle(std::move(input), Wall(), &actions);
    if (tick && core_->NextTick() <= Wall()) Violation("the coordinator asks for a tick that it has just had");
  }
  // The commit takes its time; a crash before its end loses the batch.
  scheduler_.After(random_.Between(0, 10) * kMs, [this, life = life_, actions = std::move(actions)]() mutable {
    if (life != life_ || core_ == nullptr) return;
    store_.Commit(actions);
    batch_under_way_ = false;
    CarryOut(std::move(actions));
    if (!inbox_.empty()) ScheduleBatch();
  });
  ScheduleCoordinatorTick();
}

void Fleet::CarryOut(std::vector<server::Action> actions) {
  for (server::Action& action : actions) {
    if (auto* send = std::get_if<server::SendToAgent>(&action)) {
      const auto found = sessions_.find(send->session);
      if (found != sessions_.end()) ToAgent(found->second, std::move(send->message));
    } else if (const auto* close = std::get_if<server::CloseSession>(&action)) {
      const auto found = sessions_.find(close->session);
      if (found == sessions_.end()) continue;
      const std::shared_ptr<Session> session = found->second;
      session->coordinator_open = false;
      Cut(session);
      sessions_.erase(found);
      Input(server::SessionClosed{close->session});
    } else if (auto* reply = std::get_if<server::Reply>(&action)) {
      const auto call = calls_.find(reply->call);
      if (call == calls_.end()) {
        Violation(absl::StrCat("a reply to call ", reply->call, " which was answered before"));
        continue;
      }
      const Done done = call->second;
      if (reply->last) calls_.erase(call);
      done(*reply);
    }
  }
}

void Fleet::ScheduleCoordinatorTick() {
  const absl::Time next = core_->NextTick();
  if (next >= coordinator_tick_) return;
  coordinator_tick_ = next;
  const int64_t at = absl::ToInt64Nanoseconds(next - absl::FromUnixSeconds(kEpochSeconds));
  scheduler_.At(at, [this, life = life_, next] {
    if (life != life_ || core_ == nullptr || coordinator_tick_ != next) return;
    coordinator_tick_ = absl::InfiniteFuture();
    Input(server::Tick{});
  });
}

// ---- The links

void Fleet::Dial(int agent, int64_t after_ns) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  scheduler_.After(after_ns, [this, agent, life = host.life] {
    AgentHost& dialler = *hosts_[static_cast<size_t>(agent)];
    if (life != dialler.life || dialler.core == nullptr || dialler.session != nullptr) return;
    if (core_ == nullptr) return Dial(agent, random_.Between(100, 1000) * kMs);
    auto session = std::make_shared<Session>();
    session->id = ++last_session_;
    session->agent = agent;
    session->agent_life = life;
    session->coordinator_life = life_;
    sessions_[session->id] = session;
    dialler.session = session;
    AgentInput(agent, agent::SessionUp{});
  });
}

void Fleet::Cut(const std::shared_ptr<Session>& session) {
  if (!session->cut) {
    session->cut = true;
    for (Session::Direction* direction : {&session->up, &session->down}) {
      const auto on_the_way = static_cast<int64_t>(direction->sent - direction->arrived);
      direction->cut_at = direction->arrived + static_cast<uint64_t>(random_.Between(0, on_the_way));
    }
  }
  scheduler_.After(random_.Between(0, 2000) * kMs, [this, session] { AgentNotices(session); });
  scheduler_.After(random_.Between(0, 4000) * kMs, [this, session] {
    if (!session->coordinator_open || session->coordinator_life != life_ || core_ == nullptr) return;
    session->coordinator_open = false;
    sessions_.erase(session->id);
    Input(server::SessionClosed{session->id});
  });
}

void Fleet::AgentNotices(const std::shared_ptr<Session>& session) {
  AgentHost& host = *hosts_[static_cast<size_t>(session->agent)];
  if (!session->agent_open || host.life != session->agent_life || host.core == nullptr) return;
  session->agent_open = false;
  if (host.session != session) return;
  host.session.reset();
  AgentInput(session->agent, agent::SessionDown{});
  Dial(session->agent, random_.Between(50, 1500) * kMs);
}

void Fleet::CutLink(int agent, int64_t down_ns) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  if (host.session == nullptr) return;
  const std::shared_ptr<Session> session = host.session;
  Cut(session);
  if (down_ns == 0) return;
  // A longer outage: the agent notices, and every new session is cut as well until it is over.
  const int64_t until = scheduler_.now() + down_ns;
  for (int64_t t = 200 * kMs; t < down_ns; t += 200 * kMs) {
    scheduler_.After(t, [this, agent, until] {
      AgentHost& cut_off = *hosts_[static_cast<size_t>(agent)];
      if (scheduler_.now() < until && cut_off.session != nullptr && !cut_off.session->cut) Cut(cut_off.session);
    });
  }
}

void Fleet::ToCoordinator(const std::shared_ptr<Session>& session, v1::SessionRequest message) {
  Session::Direction& way = session->up;
  const uint64_t number = way.sent++;
  if (session->cut) return;
  way.last_arrival = std::max(way.last_arrival, scheduler_.now() + random_.Between(0, options_.delay_ns_max));
  scheduler_.At(way.last_arrival, [this, session, number, message = std::move(message)]() mutable {
    if (number >= session->up.cut_at || !session->coordinator_open || session->coordinator_life != life_ ||
        core_ == nullptr) {
      return;
    }
    ++session->up.arrived;
    if (message.has_hello()) {
      Input(server::SessionOpened{session->id, message.hello()});
    } else {
      Input(server::SessionSaid{session->id, std::move(message)});
    }
  });
}

void Fleet::ToAgent(const std::shared_ptr<Session>& session, v1::SessionResponse message) {
  Session::Direction& way = session->down;
  const uint64_t number = way.sent++;
  if (session->cut) return;
  way.last_arrival = std::max(way.last_arrival, scheduler_.now() + random_.Between(0, options_.delay_ns_max));
  scheduler_.At(way.last_arrival, [this, session, number, message = std::move(message)]() mutable {
    AgentHost& host = *hosts_[static_cast<size_t>(session->agent)];
    if (number >= session->down.cut_at || !session->agent_open || host.life != session->agent_life ||
        host.core == nullptr) {
      return;
    }
    ++session->down.arrived;
    AgentInput(session->agent, agent::CoordinatorSaid{std::move(message)});
  });
}

// ---- The agents' shells

void Fleet::StartAgent(int agent) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  ++host.life;
  host.done.clear();
  host.observed.clear();
  host.tick = INT64_MAX;
  host.spill = std::make_unique<Spill>(&spilled_);
  agent::AgentOptions options;
  options.name = host.name;
  options.instance_id = absl::StrCat(host.name, "-", host.life);
  options.version = "sim";
  options.outbox_memory_bytes = options_.outbox_memory_bytes;
  std::vector<std::string> adopted;
  for (const auto& [deployment, nodes] : host.nodes) adopted.push_back(deployment);
  const agent::HostRead read = HostOf(agent);
  host.core = std::make_unique<agent::AgentCore>(options, host.spill.get(), read.host, read.capacity, adopted);
  Dial(agent, random_.Between(0, 200) * kMs);
  ReadHostAgain(agent);
}

agent::HostRead Fleet::HostOf(int agent) const {
  const AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  agent::HostRead read;
  read.host.set_hostname(host.name);
  read.host.set_cores(2);
  read.capacity.set_connections(20'000 + host.readings * 7'919 % 60'000);
  read.capacity.set_per_worker(10'000);
  read.capacity.set_per_address_pair(14'000);
  read.capacity.set_binding_limit("descriptors");
  return read;
}

void Fleet::ReadHostAgain(int agent) {
  if (scheduler_.now() >= kHostsChangeUntilNs) return;
  scheduler_.After(5 * kSecond, [this, agent, life = hosts_[static_cast<size_t>(agent)]->life] {
    AgentHost& host = *hosts_[static_cast<size_t>(agent)];
    if (host.life != life || host.core == nullptr) return;
    ++host.readings;
    AgentInput(agent, HostOf(agent));
    ReadHostAgain(agent);
  });
}

void Fleet::CrashAgent(int agent, int64_t down_ns) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  if (host.core == nullptr) return;
  if (host.session != nullptr) {
    host.session->agent_open = false;
    Cut(host.session);
  }
  host.session.reset();
  host.core.reset();
  host.workers.clear();
  scheduler_.After(down_ns, [this, agent] { StartAgent(agent); });
}

void Fleet::AgentInput(int agent, agent::Input input) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  if (host.core == nullptr) return;
  std::vector<agent::Action> actions;
  host.core->Handle(std::move(input), Monotonic(agent), &actions);
  CarryOutAgent(agent, std::move(actions));
  ScheduleAgentTick(agent);
}

void Fleet::ScheduleAgentTick(int agent) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  if (host.core == nullptr) return;
  const int64_t next = host.core->NextTick();
  if (next == INT64_MAX || next >= host.tick) return;
  host.tick = next;
  // Never at the same instant again: time that does not move would be a loop.
  scheduler_.At(std::max(next - host.monotonic_base, scheduler_.now() + 1), [this, agent, next, life = host.life] {
    AgentHost& ticked = *hosts_[static_cast<size_t>(agent)];
    if (ticked.life != life || ticked.core == nullptr || ticked.tick != next) return;
    ticked.tick = INT64_MAX;
    AgentInput(agent, agent::Tick{});
    if (ticked.core->NextTick() <= Monotonic(agent)) Violation("an agent asks for a tick that it has just had");
  });
}

void Fleet::CarryOutAgent(int agent, std::vector<agent::Action> actions) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  const auto once = [&](const std::string& what) {
    if (!host.done.insert(what).second) Violation(absl::StrCat(host.name, " did twice: ", what));
  };
  for (agent::Action& action : actions) {
    if (auto* send = std::get_if<agent::SendToCoordinator>(&action)) {
      if (host.session != nullptr) ToCoordinator(host.session, std::move(send->message));
    } else if (const auto* spawn = std::get_if<agent::SpawnWorker>(&action)) {
      once(absl::StrCat("spawn ", spawn->worker));
      host.workers[spawn->worker].seed = random_.Draw();
    } else if (const auto* told = std::get_if<agent::SendToWorker>(&action)) {
      if (told->message.has_plan()) {
        once(absl::StrCat("worker ", told->message.plan().worker_index(), " of ", told->message.plan().run_id()));
      }
      if (told->message.has_start()) once(absl::StrCat("start ", told->worker));
      WorkerTold(agent, told->worker, told->message);
    } else if (const auto* kill = std::get_if<agent::KillWorker>(&action)) {
      EndWorker(agent, kill->worker, false, "killed by signal 9");
    } else if (const auto* deploy = std::get_if<agent::Deploy>(&action)) {
      once(deploy->command_id);
      scheduler_.After(random_.Between(10, 1500) * kMs, [this, agent, life = host.life, deploy = *deploy] {
        AgentHost& deployer = *hosts_[static_cast<size_t>(agent)];
        if (deployer.life != life || deployer.core == nullptr) return;
        const bool fails = random_.Chance(options_.deploy_failures);
        for (const v1::NodeSpec& node : deploy.nodes) {
          if (fails && random_.Chance(50)) continue;
          deployer.nodes[deploy.deployment].insert(node.name());
          agent::NodeChanged changed;
          changed.report.set_deployment(deploy.deployment);
          changed.report.mutable_status()->set_node(node.name());
          changed.report.mutable_status()->set_state(v1::DEPLOYMENT_STATE_HEALTHY);
          AgentInput(agent, std::move(changed));
        }
        AgentInput(agent, agent::DeployEnded{deploy.command_id, fails ? absl::FailedPreconditionError("a port is taken")
                                                                      : absl::OkStatus()});
      });
    } else if (const auto* teardown = std::get_if<agent::Teardown>(&action)) {
      if (!teardown->command_id.empty()) once(teardown->command_id);
      scheduler_.After(random_.Between(10, 1500) * kMs, [this, agent, life = host.life, teardown = *teardown] {
        AgentHost& deployer = *hosts_[static_cast<size_t>(agent)];
        if (deployer.life != life || deployer.core == nullptr) return;
        deployer.nodes.erase(teardown.deployment);
        if (!teardown.command_id.empty()) {
          AgentInput(agent, agent::DeployEnded{teardown.command_id, absl::OkStatus()});
        }
      });
    } else if (const auto* tune = std::get_if<agent::Tune>(&action)) {
      once(tune->command_id);
      TuneNext(agent, host.life, *tune, 0);
    } else if (const auto* observe = std::get_if<agent::Observe>(&action)) {
      once(absl::StrCat("observe ", observe->run_id));
      host.observed[observe->run_id] = {observe->start_monotonic_ns, !observe->deployment.empty()};
      ObserveSecond(agent, observe->run_id, 0);
    } else if (const auto* stop = std::get_if<agent::StopObserving>(&action)) {
      host.observed.erase(stop->run_id);
    }
  }
}

// One setting after the other, so that the agent may die between any two.
void Fleet::TuneNext(int agent, uint64_t life, const agent::Tune& tune, int setting) {
  scheduler_.After(random_.Between(1, 400) * kMs, [this, agent, life, tune, setting] {
    AgentHost& host = *hosts_[static_cast<size_t>(agent)];
    if (host.life != life || host.core == nullptr) return;
    const v1::TuneHost& order = tune.order;
    const bool back = order.action() == v1::TUNE_ACTION_ROLLBACK;
    if (setting == (back ? order.keys_size() : order.profile().sysctls_size())) {
      return AgentInput(agent, agent::TuneEnded{tune.command_id, absl::OkStatus()});
    }
    agent::TuneStepMade made{tune.command_id, {}};
    const std::string& key = back ? order.keys(setting) : order.profile().sysctls(setting).key();
    made.step.set_key(key);
    made.step.set_applied_before(!back && host.tuned.count(key) > 0);
    if (back) {
      host.tuned.erase(key);
      made.step.set_outcome(v1::TUNE_OUTCOME_RESTORED);
    } else if (made.step.applied_before()) {
      made.step.set_outcome(v1::TUNE_OUTCOME_FULFILLED);
    } else if (random_.Chance(options_.tune_failures)) {
      made.step.set_outcome(v1::TUNE_OUTCOME_REFUSED);
      made.step.set_obstacle(true);
    } else {
      if (order.action() == v1::TUNE_ACTION_APPLY) host.tuned.insert(key);
      made.step.set_outcome(v1::TUNE_OUTCOME_CHANGED);
    }
    AgentInput(agent, std::move(made));
    TuneNext(agent, life, tune, setting + 1);
  });
}

const std::set<std::string>& Fleet::Tuned(int agent) const { return hosts_[static_cast<size_t>(agent)]->tuned; }

void Fleet::ObserveSecond(int agent, const std::string& run_id, uint32_t second) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  const int64_t start = host.observed[run_id].start_ns;
  const int64_t at = start - host.monotonic_base + (second + 1) * kSecond + random_.Between(1, 50) * kMs;
  scheduler_.At(at, [this, agent, run_id, second, life = host.life] {
    AgentHost& observer = *hosts_[static_cast<size_t>(agent)];
    if (observer.life != life || observer.core == nullptr || observer.observed.count(run_id) == 0) return;
    if (!random_.Chance(5)) {  // else it was not read in time
      agent::HostObserved observed{run_id, second, {}};
      observed.host.set_seconds(1);
      AgentInput(agent, std::move(observed));
    }
    const auto observed_run = observer.observed.find(run_id);
    if (observed_run == observer.observed.end()) return;
    if (observed_run->second.nodes && !random_.Chance(5)) {  // else nobody answered
      agent::NodesObserved observed;
      observed.run_id = run_id;
      observed.elapsed_s = second;
      observed.nodes.emplace_back().set_node(absl::StrCat("node-of-", observer.name));
      AgentInput(agent, std::move(observed));
    }
    if (observer.observed.count(run_id) > 0) ObserveSecond(agent, run_id, second + 1);
  });
}

void Fleet::WorkerTold(int agent, agent::WorkerId id, const v1::AgentToWorker& message) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  const auto found = host.workers.find(id);
  if (found == host.workers.end() || found->second.ending) return;
  Worker& worker = found->second;
  if (message.has_plan()) {
    worker.run_id = message.plan().run_id();
    worker.model = std::make_unique<WorkerModel>(message.plan(), worker.seed);
    v1::WorkerToAgent ready;
    ready.mutable_ready()->set_backend("model");
    if (random_.Chance(options_.plan_failures)) ready.mutable_ready()->set_error("not enough descriptors");
    WorkerSays(agent, id, std::move(ready), random_.Between(1, 500) * kMs);
  } else if (message.has_start()) {
    worker.start_monotonic_ns = message.start().start_monotonic_ns();
    const int64_t begins = std::max(*worker.start_monotonic_ns, Monotonic(agent)) + random_.Between(0, 5) * kMs;
    v1::WorkerToAgent started;
    started.mutable_started()->set_started_monotonic_ns(begins);
    WorkerSays(agent, id, std::move(started), begins - Monotonic(agent));
    ScheduleSample(agent, id);
  } else if (message.has_update()) {
    worker.model->Update(message.update());
  } else if (message.has_stop()) {
    worker.model->StopAt(message.stop().at_elapsed_ns());
    worker.stopped = true;
    ScheduleSample(agent, id);
  }
}

// A worker's messages keep their order.
void Fleet::WorkerSays(int agent, agent::WorkerId id, v1::WorkerToAgent message, int64_t delay_ns) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  Worker& worker = host.workers[id];
  worker.last_said = std::max(worker.last_said, scheduler_.now() + std::max<int64_t>(delay_ns, 0));
  scheduler_.At(worker.last_said, [this, agent, id, life = host.life, message = std::move(message)] {
    AgentHost& listener = *hosts_[static_cast<size_t>(agent)];
    const auto found = listener.workers.find(id);
    if (listener.life != life || listener.core == nullptr || found == listener.workers.end()) return;
    if (message.has_sample() &&
        !produced_[{found->second.run_id, listener.name}].AddSource(message.sample().figures())) {
      Violation("a worker produced a malformed sample");
    }
    AgentInput(agent, agent::WorkerSaid{id, message});
  });
}

void Fleet::ScheduleSample(int agent, agent::WorkerId id) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  Worker& worker = host.workers[id];
  const int64_t due = *worker.start_monotonic_ns - host.monotonic_base + worker.model->NextSampleNs();
  const uint64_t event = ++worker.sample_event;
  scheduler_.At(due, [this, agent, id, event, life = host.life] {
    AgentHost& owner = *hosts_[static_cast<size_t>(agent)];
    const auto found = owner.workers.find(id);
    if (owner.life != life || found == owner.workers.end() || found->second.ending) return;
    Worker& sampled = found->second;
    if (sampled.sample_event != event || sampled.model->finished()) return;
    v1::WorkerToAgent message;
    *message.mutable_sample() = sampled.model->Sample();
    WorkerSays(agent, id, std::move(message), random_.Between(0, options_.sample_delay_ns_max));
    if (!sampled.model->finished()) return ScheduleSample(agent, id);
    v1::WorkerToAgent finished;
    finished.mutable_finished()->set_samples(sampled.model->samples());
    WorkerSays(agent, id, std::move(finished), 0);
    EndWorker(agent, id, true, "exit 0");
  });
}

void Fleet::EndWorker(int agent, agent::WorkerId id, bool clean, const std::string& cause) {
  AgentHost& host = *hosts_[static_cast<size_t>(agent)];
  const auto found = host.workers.find(id);
  if (found == host.workers.end() || (found->second.ending && clean)) return;
  found->second.ending = true;
  const int64_t at = std::max(found->second.last_said, scheduler_.now() + 1);
  scheduler_.At(at, [this, agent, id, clean, cause, life = host.life] {
    AgentHost& owner = *hosts_[static_cast<size_t>(agent)];
    if (owner.life != life || owner.workers.erase(id) == 0) return;
    AgentInput(agent, agent::WorkerExited{id, clean, cause});
  });
}

bool Fleet::KillAWorker() {
  std::vector<std::pair<int, agent::WorkerId>> candidates;
  for (int i = 0; i < options_.agents; ++i) {
    for (const auto& [id, worker] : hosts_[static_cast<size_t>(i)]->workers) {
      if (worker.start_monotonic_ns.has_value() && !worker.ending) candidates.emplace_back(i, id);
    }
  }
  if (candidates.empty()) return false;
  const auto& [agent, id] =
      candidates[static_cast<size_t>(random_.Between(0, static_cast<int64_t>(candidates.size()) - 1))];
  EndWorker(agent, id, false, "killed by signal 11");
  return true;
}

bool Fleet::Connected(int agent) const {
  const std::shared_ptr<Session>& session = hosts_[static_cast<size_t>(agent)]->session;
  return session != nullptr && !session->cut && session->up.arrived > 1;
}

size_t Fleet::WorkersAlive() const {
  size_t alive = 0;
  for (const auto& host : hosts_) alive += host->workers.size();
  return alive;
}

std::set<std::string> Fleet::NodesUp() const {
  std::set<std::string> up;
  for (const auto& host : hosts_) {
    for (const auto& [deployment, nodes] : host->nodes) {
      for (const std::string& node : nodes) up.insert(absl::StrCat(deployment, "/", node));
    }
  }
  return up;
}

const metrics::FiguresMerger& Fleet::Produced(const std::string& run_id, const std::string& agent) {
  return produced_[{run_id, agent}];
}

}  // namespace loadstar::simulation
