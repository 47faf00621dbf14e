#include "tests/simulation/history.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/simulation/fleet.h"

namespace loadstar::simulation {
namespace {

// Faults strike up to here; what follows is quiet and has to come to its end.
constexpr int64_t kFaultsEndNs = 30 * kSecond;
// Every run is over by then: the longest profile, the drain, the time after which an agent is lost, and slack.
constexpr int64_t kRunsEndNs = 120 * kSecond;
constexpr int64_t kHistoryEndNs = 180 * kSecond;

// What a seed brings.
struct Scenario {
  FleetOptions fleet;
  bool deploys = false;
  int runs = 1;
  bool updates = false;
  bool stops = false;
  bool cuts = false;
  bool coordinator_crashes = false;
  bool agent_crashes = false;
  bool worker_deaths = false;
  bool failures = false;
  bool any_fault() const { return cuts || coordinator_crashes || agent_crashes || worker_deaths || failures; }
};

Scenario Draw(uint64_t seed) {
  Random random(seed * 7919 + 17);
  Scenario scenario;
  scenario.fleet.seed = seed;
  scenario.fleet.agents = static_cast<int>(random.Between(1, 4));
  scenario.fleet.delay_ns_max = random.Chance(20) ? 200 * kMs : random.Between(1, 30) * kMs;
  scenario.fleet.sample_delay_ns_max = random.Chance(15) ? 4500 * kMs : random.Between(1, 1500) * kMs;
  // A few samples in memory, the rest in the spill.
  if (random.Chance(30)) scenario.fleet.outbox_memory_bytes = 600;
  scenario.fleet.coordinator.agent_lost_after = absl::Seconds(10);
  scenario.fleet.coordinator.prepare_timeout = absl::Seconds(15);
  // Longer than the longest outage (15 s, in which each new session is cut before it can report) and the pause before
  // the next dial: an agent's last words may come so late, and still the run waits for them.
  scenario.fleet.coordinator.drain_timeout = absl::Seconds(25);
  scenario.deploys = random.Chance(40);
  scenario.runs = random.Chance(25) ? 2 : 1;
  scenario.updates = random.Chance(30);
  scenario.stops = random.Chance(20);
  scenario.cuts = random.Chance(50);
  scenario.coordinator_crashes = random.Chance(40);
  scenario.agent_crashes = random.Chance(20);
  scenario.worker_deaths = random.Chance(20);
  scenario.failures = random.Chance(15);
  if (scenario.failures) {
    scenario.fleet.plan_failures = 15;
    scenario.fleet.deploy_failures = 30;
  }
  return scenario;
}

class History {
 public:
  explicit History(const Scenario& scenario) : scenario_(scenario), fleet_(scenario.fleet) {}

  Outcome Play() {
    Random& random = fleet_.random();
    if (scenario_.deploys) {
      fleet_.scheduler().At(kSecond, [this] { Deploy(); });
    } else {
      fleet_.scheduler().At(kSecond, [this] { StartAll(); });
    }
    if (scenario_.cuts) {
      for (int64_t i = random.Between(1, 6); i > 0; --i) {
        const int64_t outage = random.Chance(50) ? 0 : random.Between(500, random.Chance(20) ? 15'000 : 6'000) * kMs;
        Strike([this, outage] { fleet_.CutLink(AnyAgent(), outage); });
      }
    }
    if (scenario_.coordinator_crashes) {
      for (int64_t i = random.Between(1, 3); i > 0; --i) {
        Strike([this] { fleet_.CrashCoordinator(fleet_.random().Between(100, 4000) * kMs); });
      }
    }
    if (scenario_.agent_crashes) {
      Strike([this] { fleet_.CrashAgent(AnyAgent(), fleet_.random().Between(100, 4000) * kMs); });
    }
    if (scenario_.worker_deaths) {
      Strike([this] { fleet_.KillAWorker(); });
    }
    fleet_.scheduler().RunUntil(kRunsEndNs);
    JudgeRuns();
    if (scenario_.deploys) Teardown();
    fleet_.scheduler().At(kHistoryEndNs - kSecond, [this] { ListAgents(); });
    fleet_.scheduler().RunUntil(kHistoryEndNs);
    JudgeRest();
    broken_.insert(broken_.end(), fleet_.violations().begin(), fleet_.violations().end());
    broken_.insert(broken_.end(), fleet_.store().violations().begin(), fleet_.store().violations().end());
    if (fleet_.spilled()) seen_.insert("spilled");
    return {broken_, seen_};
  }

 private:
  template <typename Fault>
  void Strike(Fault fault) {
    fleet_.scheduler().At(fleet_.random().Between(500, kFaultsEndNs / kMs) * kMs, std::move(fault));
  }
  int AnyAgent() { return static_cast<int>(fleet_.random().Between(0, scenario_.fleet.agents - 1)); }
  void Broken(std::string what) { broken_.push_back(std::move(what)); }

  // ---- The client. It repeats what is not answered, as it may: every call of it is idempotent.

  void Deploy() {
    if (deployed_) return;
    fleet_.scheduler().After(4 * kSecond, [this] { Deploy(); });
    v1::DeployRequest request;
    request.mutable_stack()->set_name("stack");
    for (int i = 1; i <= 3; ++i) {
      v1::NodeSpec* node = request.mutable_stack()->add_nodes();
      node->set_name(absl::StrCat("node", i));
      node->set_listen_address(absl::StrCat("127.0.0.1:", 9000 + i));
    }
    fleet_.Call(request, [this](const server::Reply& reply) {
      const auto* response = std::get_if<v1::DeployResponse>(&reply.response);
      if (reply.last && !reply.status.ok()) seen_.insert("deploy-failed");
      if (!reply.last || response == nullptr || deployed_) return;
      deployed_ = true;
      StartAll();
    });
  }

  void Teardown() {
    fleet_.scheduler().After(4 * kSecond, [this] {
      if (!torn_down_) Teardown();
    });
    v1::TeardownRequest request;
    request.set_name("stack");
    fleet_.Call(request, [this](const server::Reply& reply) {
      torn_down_ = torn_down_ || (reply.last && (reply.status.ok() || absl::IsNotFound(reply.status)));
    });
  }

  void StartAll() {
    for (int i = 0; i < scenario_.runs; ++i) {
      fleet_.scheduler().After(fleet_.random().Between(0, 3000) * kMs, [this, i] { Start(i, 0); });
    }
  }

  v1::TestSpec MakeTest(int index) {
    Random random(scenario_.fleet.seed * 31 + static_cast<uint64_t>(index));
    v1::TestSpec test;
    test.set_name(absl::StrCat("test", index));
    test.mutable_target()->set_protocol(v1::PROTOCOL_TCP);
    if (deployed_) {
      test.mutable_target()->set_stack("stack");
    } else {
      test.mutable_target()->add_endpoints("127.0.0.1:9001");
      test.mutable_target()->add_endpoints("127.0.0.1:9002");
    }
    v1::Stage* ramp = test.mutable_load()->add_connections();
    ramp->mutable_duration()->set_seconds(random.Between(1, 6));
    ramp->mutable_duration()->set_nanos(static_cast<int32_t>(random.Between(0, 1) * 500'000'000));
    ramp->set_to_connections(static_cast<uint64_t>(random.Between(1, 300)));
    v1::Stage* hold = test.mutable_load()->add_connections();
    hold->mutable_duration()->set_seconds(random.Between(1, 8));
    hold->set_to_connections(ramp->to_connections());
    hold->set_hold(true);
    // The model's workers lose some connections as a matter of course.
    v1::ThresholdSpec* lost = test.add_thresholds();
    lost->set_metric("connections.lost");
    lost->set_comparison(v1::COMPARISON_GE);
    test.mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_OPEN);
    test.mutable_load()->mutable_requests()->set_rate_per_s(10);
    test.mutable_load()->set_workers(random.Chance(50) ? 0 : static_cast<uint32_t>(random.Between(1, 5)));
    return test;
  }

  // The call is repeated until it is answered well; the same request_id makes it one run.
  void Start(int index, int attempt) {
    const std::string request_id = absl::StrCat("request", index);
    if (started_.count(request_id) > 0) return;
    if (fleet_.scheduler().now() > 60 * kSecond) return;  // a deployment that lost its nodes is never healthy again
    server::ClientCalled::StartTest start;
    start.test = MakeTest(index);
    start.endpoints.assign(start.test.target().endpoints().begin(), start.test.target().endpoints().end());
    start.request_id = request_id;
    fleet_.scheduler().After(2 * kSecond, [this, index, attempt] { Start(index, attempt + 1); });
    fleet_.Call(start, [this, request_id](const server::Reply& reply) {
      const auto* response = std::get_if<v1::StartTestResponse>(&reply.response);
      if (response == nullptr) return;
      const auto [known, is_new] = started_.emplace(request_id, response->run().run_id());
      if (known->second != response->run().run_id()) Broken("two runs for one request_id");
      if (is_new) Disturb(known->second);
    });
  }

  void Disturb(const std::string& run_id) {
    if (scenario_.updates) {
      for (int i = 0; i < 2; ++i) {
        fleet_.scheduler().After(fleet_.random().Between(1000, 9000) * kMs, [this, run_id] {
          v1::UpdateLoadRequest update;
          update.set_run_id(run_id);
          update.mutable_update()->set_connections(static_cast<uint64_t>(fleet_.random().Between(0, 20)));
          update.mutable_update()->mutable_ramp()->set_seconds(fleet_.random().Between(0, 2));
          fleet_.Call(update, [](const server::Reply&) {});
        });
      }
    }
    if (scenario_.stops) {
      fleet_.scheduler().After(fleet_.random().Between(100, 12'000) * kMs, [this, run_id] {
        v1::StopTestRequest stop;
        stop.set_run_id(run_id);
        stop.set_abort(fleet_.random().Chance(40));
        fleet_.Call(stop, [](const server::Reply&) {});
      });
    }
  }

  // ---- The judgement.

  void JudgeRuns() {
    for (const auto& [request, id] : started_) {
      if (fleet_.store().runs().count(id) == 0) Broken(absl::StrCat("run ", id, " was answered but is not stored"));
    }
    if (!scenario_.any_fault() && started_.size() != static_cast<size_t>(scenario_.runs)) {
      Broken("a run could not be started though nothing was wrong");
    }
    for (const auto& [id, run] : fleet_.store().runs()) JudgeRun(run);
    if (fleet_.WorkersAlive() > 0) Broken(absl::StrCat(fleet_.WorkersAlive(), " workers are left"));
  }

  void JudgeRun(const v1::Run& run) {
    const std::string& id = run.run_id();
    if (run.state() != v1::RUN_STATE_FINISHED) {
      Broken(absl::StrCat("run ", id, " is still ", v1::RunState_Name(run.state())));
      return;
    }
    // What is stored is what is told.
    metrics::FiguresMerger stored;
    std::map<std::string, metrics::FiguresMerger> by_agent;
    for (const server::PutSample& sample : fleet_.store().samples()) {
      if (sample.sample.run_id() != id) continue;
      if (!stored.AddSource(sample.sample.figures()) || !by_agent[sample.agent].AddSource(sample.sample.figures())) {
        Broken("a stored sample is malformed");
      }
    }
    Compare(absl::StrCat("totals of ", id), run.totals().counters(), run.totals().latency(), stored, true);
    metrics::FiguresMerger shown;
    uint64_t peak = 0;
    for (const v1::Snapshot& snapshot : fleet_.store().SnapshotsOf(id)) {
      if (!shown.AddLater(snapshot.figures())) Broken("a snapshot is malformed");
      peak = std::max<uint64_t>(peak, snapshot.figures().gauges().connections_established());
    }
    Compare(absl::StrCat("snapshots of ", id), run.totals().counters(), run.totals().latency(), shown, true);
    if (peak != run.peak_connections()) Broken(absl::StrCat("peak of ", id, " is not that of its snapshots"));
    // No sample lost, none counted twice: what the workers of an agent that went through said, is there. (The ends that
    // an agent adds for a worker that died are no requests answered.)
    for (const v1::Participant& participant : run.participants()) {
      if (participant.lost() || !participant.finished()) continue;
      v1::LoadFigures told;
      fleet_.Produced(id, participant.agent()).ToProto(&told);
      Compare(absl::StrCat(participant.agent(), " in ", id), told.counters(), told.latency(),
              by_agent[participant.agent()], false);
    }
    for (const v1::Reason& reason : run.verdict().reasons()) {
      if (reason.code() == "ledger" || reason.code() == "samples-malformed" || reason.code() == "ended-early" ||
          reason.code() == "drain-timeout") {
        Broken(absl::StrCat("run ", id, ": ", reason.code(), ": ", reason.message()));
      }
    }
    for (const v1::Event& event : run.events()) seen_.insert(event.code());
    seen_.insert(v1::VerdictKind_Name(run.verdict().kind()));
    JudgeVerdict(run);
  }

  void JudgeVerdict(const v1::Run& run) {
    const v1::VerdictKind kind = run.verdict().kind();
    const bool lost = std::any_of(run.participants().begin(), run.participants().end(),
                                  [](const v1::Participant& participant) { return participant.lost(); });
    const bool died = std::any_of(run.events().begin(), run.events().end(),
                                  [](const v1::Event& event) { return event.code() == "worker-died"; });
    if ((lost || died) && kind != v1::VERDICT_KIND_NOT_CARRIED_OUT && kind != v1::VERDICT_KIND_STOPPED) {
      Broken(absl::StrCat("run ", run.run_id(), " lost an agent or worker, but is ", v1::VerdictKind_Name(kind)));
    }
    const bool patient = scenario_.fleet.sample_delay_ns_max < 2000 * kMs;
    if (!scenario_.any_fault() && !scenario_.stops && patient && kind != v1::VERDICT_KIND_PASSED) {
      Broken(absl::StrCat("run ", run.run_id(), " is ", v1::VerdictKind_Name(kind),
                          " though nothing was wrong: ", run.verdict().ShortDebugString()));
    }
  }

  void Compare(const std::string& what, const v1::Counters& expected, const v1::Histogram& expected_latency,
               const metrics::FiguresMerger& actual, bool all) {
    const v1::Counters& counters = actual.counters();
    const bool same = all ? expected.SerializeAsString() == counters.SerializeAsString()
                          : expected.requests_answered() == counters.requests_answered() &&
                                expected.requests_sent() == counters.requests_sent() &&
                                expected.requests_due() == counters.requests_due() &&
                                expected.connects_established() == counters.connects_established();
    if (!same) {
      Broken(absl::StrCat(what, ": expected ", expected.ShortDebugString(), ", found ", counters.ShortDebugString()));
    }
    metrics::Histogram wanted;
    v1::Histogram canonical;
    v1::Histogram found;
    if (!wanted.Merge(expected_latency)) Broken(absl::StrCat(what, ": malformed latency"));
    wanted.ToProto(&canonical);
    actual.latency().ToProto(&found);
    if (canonical.SerializeAsString() != found.SerializeAsString()) Broken(absl::StrCat(what, ": latency differs"));
  }

  void JudgeRest() {
    if (scenario_.deploys && !torn_down_) Broken("the deployment could not be torn down");
    if (scenario_.deploys && !fleet_.NodesUp().empty()) Broken("nodes are left after the teardown");
    if (!fleet_.store().deployments().empty()) Broken("a deployment is left in the store");
    for (const server::PutCommand& command : fleet_.store().commands()) {
      Broken(absl::StrCat("command ", command.command.command_id(), " is still outstanding"));
    }
    for (int i = 0; i < scenario_.fleet.agents; ++i) {
      if (!fleet_.Connected(i)) Broken(absl::StrCat(fleet_.NameOf(i), " is not connected at the end"));
      const auto listed = listed_.find(fleet_.NameOf(i));
      if (listed == listed_.end() || listed->second != fleet_.HostOf(i).capacity.connections()) {
        Broken(absl::StrCat("the coordinator plans with another capacity than ", fleet_.NameOf(i), " has"));
      }
    }
  }

  void ListAgents() {
    fleet_.Call(v1::ListAgentsRequest(), [this](const server::Reply& reply) {
      const auto* response = std::get_if<v1::ListAgentsResponse>(&reply.response);
      if (response == nullptr) return;
      for (const v1::Agent& agent : response->agents()) listed_[agent.name()] = agent.capacity().connections();
    });
  }

  const Scenario scenario_;
  Fleet fleet_;
  bool deployed_ = false;
  bool torn_down_ = false;
  std::map<std::string, std::string> started_;  // request -> run
  std::map<std::string, uint64_t> listed_;      // agent -> connections it can hold, as the coordinator says
  std::vector<std::string> broken_;
  std::set<std::string> seen_;
};

}  // namespace

Outcome PlayHistory(uint64_t seed) { return History(Draw(seed)).Play(); }

}  // namespace loadstar::simulation
