// The agent's decisions, input by input. Its behaviour in a fleet is in tests/simulation.

#include "agent/core/agent_core.h"

#include <gtest/gtest.h>

#include "absl/strings/match.h"

namespace loadstar::agent {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kUnix = 1'790'000'000 * kSecond;

class AgentTest : public testing::Test {
 protected:
  AgentTest() {
    options_.name = "a";
    options_.instance_id = "i1";
    options_.admit_run = [](const v1::PrepareRun& prepare) {
      return prepare.endpoints(0) == "10.0.0.1:80" ? absl::FailedPreconditionError("10.0.0.1 is not allowed here")
                                                   : absl::OkStatus();
    };
    core_ = std::make_unique<AgentCore>(options_, nullptr, v1::HostFacts(), v1::Capacity(),
                                        std::vector<std::string>{"old"});
  }

  std::vector<Action> Do(Input input) {
    std::vector<Action> actions;
    core_->Handle(std::move(input), now_, &actions);
    return actions;
  }
  // A session with a known clock: monotonic = coordinator's clock - kUnix.
  std::vector<Action> Connect(uint64_t acknowledged = 0, const std::vector<std::string>& runs = {},
                              const std::vector<std::string>& deployments = {"old"}) {
    Do(SessionUp{});
    CoordinatorSaid welcome;
    welcome.message.mutable_welcome()->set_acknowledged_sequence(acknowledged);
    for (const std::string& run : runs) welcome.message.mutable_welcome()->add_active_runs(run);
    for (const std::string& name : deployments) welcome.message.mutable_welcome()->add_deployments(name);
    std::vector<Action> actions = Do(std::move(welcome));
    CoordinatorSaid reply;
    reply.message.mutable_heartbeat_reply()->set_agent_monotonic_ns(now_);
    reply.message.mutable_heartbeat_reply()->set_coordinator_unix_ns(kUnix + now_);
    Do(std::move(reply));
    return actions;
  }
  std::vector<Action> Command(v1::Command command) {
    CoordinatorSaid said;
    *said.message.mutable_command() = std::move(command);
    return Do(std::move(said));
  }
  static v1::Command Prepare(uint32_t workers, const std::string& endpoint = "127.0.0.1:1") {
    v1::Command command;
    command.set_command_id("prepare");
    v1::PrepareRun* prepare = command.mutable_prepare_run();
    prepare->set_run_id("run");
    v1::Stage* stage = prepare->mutable_test()->mutable_load()->add_connections();
    stage->mutable_duration()->set_seconds(10);
    stage->set_to_connections(101);
    prepare->add_endpoints(endpoint);
    prepare->set_first_worker(2);
    prepare->set_worker_count(workers);
    prepare->set_workers_total(4);
    return command;
  }
  v1::Command Start(int64_t in_ns) const {
    v1::Command command;
    command.set_command_id("start");
    command.mutable_start_run()->set_run_id("run");
    command.mutable_start_run()->set_start_unix_ns(kUnix + now_ + in_ns);
    return command;
  }
  static v1::Command Stop(bool abort) {
    v1::Command command;
    command.set_command_id(abort ? "abort" : "stop");
    command.mutable_stop_run()->set_run_id("run");
    command.mutable_stop_run()->set_abort(abort);
    return command;
  }
  std::vector<Action> Ready(WorkerId worker, const std::string& error = "") {
    WorkerSaid said{worker, {}};
    said.message.mutable_ready()->set_error(error);
    return Do(std::move(said));
  }
  std::vector<Action> Host(uint32_t second, uint32_t seconds = 1) {
    HostObserved observed{"run", second, {}};
    observed.host.set_seconds(seconds);
    return Do(std::move(observed));
  }
  std::vector<Action> Sample(WorkerId worker, uint32_t second) {
    WorkerSaid said{worker, {}};
    said.message.mutable_sample()->set_elapsed_s(second);
    return Do(std::move(said));
  }
  std::vector<Action> Finished(WorkerId worker) {
    WorkerSaid said{worker, {}};
    said.message.mutable_finished();
    return Do(std::move(said));
  }
  // Two workers under load; reports 1 and 2 are the results of the commands.
  void Run() {
    Connect();
    Command(Prepare(2));
    Ready(1);
    Ready(2);
    Command(Start(kSecond));
    now_ += kSecond;
  }

  template <typename T>
  static std::vector<T> All(const std::vector<Action>& actions) {
    std::vector<T> all;
    for (const Action& action : actions) {
      if (const T* one = std::get_if<T>(&action)) all.push_back(*one);
    }
    return all;
  }
  static std::vector<v1::Report> Reports(const std::vector<Action>& actions) {
    std::vector<v1::Report> reports;
    for (const SendToCoordinator& send : All<SendToCoordinator>(actions)) {
      if (send.message.has_report()) reports.push_back(send.message.report());
    }
    return reports;
  }

  int64_t now_ = 100 * kSecond;
  AgentOptions options_;
  std::unique_ptr<AgentCore> core_;
};

TEST_F(AgentTest, SaysHelloAndBeatsAfterTheWelcome) {
  const auto hello = All<SendToCoordinator>(Do(SessionUp{}));
  ASSERT_EQ(hello.size(), 1u);
  EXPECT_EQ(hello[0].message.hello().name(), "a");
  EXPECT_EQ(hello[0].message.hello().deployments(0), "old");
  EXPECT_EQ(core_->NextTick(), INT64_MAX) << "nothing is said before the welcome";
  const auto actions = Connect();
  EXPECT_TRUE(All<SendToCoordinator>(actions).front().message.has_heartbeat());
}

TEST_F(AgentTest, ReadingOfTheHostGoesIntoOneHeartbeatAndEveryHello) {
  const auto beat = [&] {
    now_ = core_->NextTick();
    return All<SendToCoordinator>(Do(Tick{})).at(0).message.heartbeat();
  };
  Connect();
  EXPECT_FALSE(beat().has_capacity());
  HostRead read;
  read.host.set_cores(4);
  read.capacity.set_connections(70'000);
  read.capacity.set_binding_limit("memory");
  Do(read);
  const v1::Heartbeat heartbeat = beat();
  EXPECT_EQ(heartbeat.host().cores(), 4u);
  EXPECT_EQ(heartbeat.capacity().connections(), 70'000u);
  EXPECT_EQ(heartbeat.capacity().binding_limit(), "memory");
  EXPECT_FALSE(beat().has_capacity()) << "nothing new was read";
  Do(SessionDown{});
  EXPECT_EQ(All<SendToCoordinator>(Do(SessionUp{})).at(0).message.hello().capacity().connections(), 70'000u);
}

TEST_F(AgentTest, ConnectionsOfItsWorkersAreNotTakenOffTheCapacityOfItsHost) {
  const auto capacity = [&] {
    HostRead read;
    read.capacity.set_connections(1'000);
    read.capacity.add_limits()->set_connections(1'000);
    read.capacity.add_limits()->set_connections(5'000);
    read.capacity.mutable_limits(1)->set_name("tcp memory");
    Do(std::move(read));
    Do(SessionDown{});
    const auto hello = All<SendToCoordinator>(Do(SessionUp{}));
    const v1::Capacity& told = hello.at(0).message.hello().capacity();
    EXPECT_EQ(told.limits(0).connections(), told.connections());
    EXPECT_EQ(told.limits(1).connections(), 5'000u) << "idle connections take nothing of it";
    return told.connections();
  };
  Run();
  EXPECT_EQ(capacity(), 1'000u);
  Connect(2, {"run"});
  for (const WorkerId worker : {1, 2}) {
    WorkerSaid said{worker, {}};
    v1::Gauges* gauges = said.message.mutable_sample()->mutable_figures()->mutable_gauges();
    gauges->set_connections_established(20);
    gauges->set_connections_pending(worker);
    Do(std::move(said));
  }
  EXPECT_EQ(capacity(), 1'043u);
  Do(WorkerExited{1, false, "killed by signal 9"});
  EXPECT_EQ(capacity(), 1'022u);
}

TEST_F(AgentTest, TunesAndTellsTheStepsTheHostAndThenTheResult) {
  Connect();
  v1::Command command;
  command.set_command_id("tune");
  command.mutable_tune_host()->set_action(v1::TUNE_ACTION_APPLY);
  const auto tunes = All<Tune>(Command(command));
  ASSERT_EQ(tunes.size(), 1u);
  EXPECT_EQ(tunes[0].order.action(), v1::TUNE_ACTION_APPLY);
  EXPECT_TRUE(All<Tune>(Command(command)).empty()) << "it is under way";
  TuneStepMade made{"tune", {}};
  made.step.set_key("net.core.somaxconn");
  const auto steps = Reports(Do(std::move(made)));
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_EQ(steps[0].tune().command_id(), "tune");
  EXPECT_EQ(steps[0].tune().step().key(), "net.core.somaxconn");
  HostRead read;
  read.capacity.set_connections(70'000);
  Do(std::move(read));
  const auto end = All<SendToCoordinator>(Do(TuneEnded{"tune", absl::OkStatus()}));
  ASSERT_EQ(end.size(), 2u);
  EXPECT_EQ(end[0].message.heartbeat().capacity().connections(), 70'000u);
  EXPECT_EQ(end[1].message.report().command_result().command_id(), "tune");
}

TEST_F(AgentTest, DeploymentThatTheCoordinatorDoesNotNameIsTornDown) {
  const auto teardowns = All<Teardown>(Connect(0, {}, {}));
  ASSERT_EQ(teardowns.size(), 1u);
  EXPECT_EQ(teardowns[0].deployment, "old");
  EXPECT_EQ(teardowns[0].command_id, "");
}

TEST_F(AgentTest, WorkersAreToldTheEndpointsAsTheTestNamesThemAndItsHttpSettings) {
  Connect();
  v1::Command command = Prepare(1);
  v1::TargetSpec* target = command.mutable_prepare_run()->mutable_test()->mutable_target();
  target->add_endpoints("node.test:1");
  target->set_protocol(v1::PROTOCOL_HTTP);
  target->mutable_http()->set_path("/x");
  const auto plans = All<SendToWorker>(Command(command));
  ASSERT_EQ(plans.size(), 1u);
  const v1::WorkerPlan& plan = plans[0].message.plan();
  EXPECT_EQ(plan.endpoints(0), "127.0.0.1:1");
  ASSERT_EQ(plan.endpoint_names_size(), 1);
  EXPECT_EQ(plan.endpoint_names(0), "node.test:1");
  EXPECT_EQ(plan.http().path(), "/x");
}

TEST_F(AgentTest, PreparationSpawnsItsWorkersWithTheirPartOfThePlan) {
  Connect();
  const auto actions = Command(Prepare(2));
  EXPECT_EQ(All<SpawnWorker>(actions).size(), 2u);
  const auto plans = All<SendToWorker>(actions);
  ASSERT_EQ(plans.size(), 2u);
  EXPECT_EQ(plans[1].message.plan().worker_index(), 3u);
  EXPECT_EQ(plans[1].message.plan().worker_count(), 4u);
  EXPECT_EQ(plans[1].message.plan().connections_max(), 25u);
  EXPECT_TRUE(Reports(Ready(1)).empty());
  const auto reports = Reports(Ready(2));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].command_result().status().code(), 0);
  EXPECT_TRUE(All<SpawnWorker>(Command(Prepare(2))).empty()) << "a command that comes again is not done again";
}

TEST_F(AgentTest, BackendsOfTheWorkersAreToldInTheRun) {
  Connect();
  Command(Prepare(2));
  WorkerSaid said{1, {}};
  said.message.mutable_ready()->set_backend("io_uring");
  Do(said);
  said.worker = 2;
  said.message.mutable_ready()->set_backend("epoll");
  said.message.mutable_ready()->set_backend_reason("io_uring_setup failed: Operation not permitted");
  const auto reports = Reports(Do(said));
  ASSERT_EQ(reports.size(), 3u);
  EXPECT_EQ(reports[0].run_event().event().message(),
            "1 worker uses epoll: io_uring_setup failed: Operation not permitted");
  EXPECT_EQ(reports[1].run_event().event().message(), "1 worker uses io_uring");
  EXPECT_EQ(reports[1].run_event().event().code(), "worker-backend");
  EXPECT_TRUE(reports[2].has_command_result());
}

TEST_F(AgentTest, HostThatDoesNotAllowTheTargetRefuses) {
  Connect();
  const auto actions = Command(Prepare(2, "10.0.0.1:80"));
  EXPECT_TRUE(All<SpawnWorker>(actions).empty());
  const auto reports = Reports(actions);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].command_result().status().code(), static_cast<int>(absl::StatusCode::kPermissionDenied));
}

TEST_F(AgentTest, WorkerThatCannotCarryThePlanOutFailsThePreparation) {
  Connect();
  Command(Prepare(2));
  Ready(1);
  const auto actions = Ready(2, "needs 26 descriptors, the limit is 20");
  EXPECT_EQ(All<KillWorker>(actions).size(), 2u);
  const auto reports = Reports(actions);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_TRUE(absl::StrContains(reports[0].command_result().status().message(), "worker 3: needs 26"));
}

TEST_F(AgentTest, StartIsToldInTheHostsOwnTime) {
  Connect();
  Command(Prepare(2));
  Ready(1);
  Ready(2);
  const auto starts = All<SendToWorker>(Command(Start(kSecond)));
  ASSERT_EQ(starts.size(), 2u);
  EXPECT_EQ(starts[0].message.start().start_monotonic_ns(), now_ + kSecond);
}

TEST_F(AgentTest, StartBeforeTheClockIsKnownWaitsForIt) {
  Do(SessionUp{});
  CoordinatorSaid welcome;
  welcome.message.mutable_welcome();
  Do(welcome);
  Command(Prepare(1));
  Ready(1);
  EXPECT_TRUE(All<SendToWorker>(Command(Start(kSecond))).empty());
  CoordinatorSaid reply;
  reply.message.mutable_heartbeat_reply()->set_agent_monotonic_ns(now_);
  reply.message.mutable_heartbeat_reply()->set_coordinator_unix_ns(kUnix + now_);
  EXPECT_EQ(All<SendToWorker>(Do(reply)).size(), 1u);
}

TEST_F(AgentTest, EveryRunsHostIsReadFromItsStartToItsEnd) {
  Connect();
  Command(Prepare(2));
  Ready(1);
  Ready(2);
  const auto observe = All<Observe>(Command(Start(kSecond)));
  ASSERT_EQ(observe.size(), 1u);
  EXPECT_EQ(observe[0].run_id, "run");
  EXPECT_EQ(observe[0].deployment, "");
  EXPECT_EQ(observe[0].start_monotonic_ns, now_ + kSecond);
  now_ += 2 * kSecond;
  Sample(1, 0);
  EXPECT_TRUE(Reports(Sample(2, 0)).empty()) << "the host's reading is on its way";
  const auto reports = Reports(Host(0));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].sample().host().seconds(), 1u);
  Finished(1);
  EXPECT_EQ(All<StopObserving>(Finished(2)).size(), 1u);
}

TEST_F(AgentTest, ReadingThatCoversSecondsSaysThatTheAgentStoodStill) {
  Run();
  EXPECT_TRUE(Reports(Host(0)).empty());
  const auto reports = Reports(Host(3, 3));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].run_event().event().code(), "agent-stalled");
  EXPECT_TRUE(absl::StrContains(reports[0].run_event().event().message(), "2 seconds late"))
      << reports[0].run_event().event().message();
}

TEST_F(AgentTest, RunEndsWhenEveryWorkerHasFinishedAndEverySecondIsOut) {
  Run();
  Host(0);
  Sample(1, 0);
  auto reports = Reports(Sample(2, 0));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].sample().workers_merged(), 2u);
  Finished(1);
  reports = Reports(Finished(2));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_TRUE(reports[0].has_run_finished());
  Do(WorkerExited{1, true, "exit 0"});
  EXPECT_TRUE(Reports(Do(WorkerExited{2, true, "exit 0"})).empty());
}

TEST_F(AgentTest, WorkerThatDiesIsAnEventAndTheOthersGoOn) {
  Run();
  Host(0);
  Host(1);
  Sample(1, 0);
  Sample(2, 0);
  auto reports = Reports(Do(WorkerExited{1, false, "killed by signal 9"}));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].run_event().event().code(), "worker-died");
  EXPECT_TRUE(absl::StrContains(reports[0].run_event().event().message(), "signal 9"));
  reports = Reports(Sample(2, 1));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].sample().workers_expected(), 2u);
  EXPECT_TRUE(Reports(Finished(2)).back().has_run_finished());
}

TEST_F(AgentTest, UnacknowledgedReportsAreSentAgainOnANewSession) {
  Run();
  Host(0);
  Sample(1, 0);
  Sample(2, 0);
  Do(SessionDown{});
  const auto reports = Reports(Connect(1, {"run"}));
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].sequence(), 2u);
  EXPECT_TRUE(reports[1].has_sample());
}

TEST_F(AgentTest, RunIsHeldUntilItsEndIsAcknowledged) {
  Run();
  Finished(1);
  Finished(2);
  Do(SessionDown{});
  auto hello = All<SendToCoordinator>(Do(SessionUp{}));
  EXPECT_EQ(hello[0].message.hello().active_runs_size(), 1);
  CoordinatorSaid welcome;
  welcome.message.mutable_welcome()->set_acknowledged_sequence(3);
  welcome.message.mutable_welcome()->add_active_runs("run");
  Do(welcome);
  Do(SessionDown{});
  hello = All<SendToCoordinator>(Do(SessionUp{}));
  EXPECT_EQ(hello[0].message.hello().active_runs_size(), 0);
}

TEST_F(AgentTest, StopWindsDownAndAbortKills) {
  Run();
  now_ += 3 * kSecond;
  auto actions = Command(Stop(false));
  const auto stops = All<SendToWorker>(actions);
  ASSERT_EQ(stops.size(), 2u);
  EXPECT_EQ(stops[0].message.stop().at_elapsed_ns(), 3 * kSecond);
  actions = Command(Stop(true));
  EXPECT_EQ(All<KillWorker>(actions).size(), 2u);
  EXPECT_TRUE(Reports(Do(WorkerExited{1, false, "killed by signal 9"})).empty()) << "no death: it was our wish";
  const auto reports = Reports(Do(WorkerExited{2, false, "killed by signal 9"}));
  ASSERT_FALSE(reports.empty());
  EXPECT_TRUE(reports.back().has_run_finished());
}

TEST_F(AgentTest, StopOfAnUnknownRunIsAnsweredWithItsEnd) {
  Connect();
  const auto reports = Reports(Command(Stop(true)));
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].command_result().status().code(), 0);
  EXPECT_EQ(reports[1].run_finished().run_id(), "run");
}

TEST_F(AgentTest, RunThatTheCoordinatorDoesNotNameIsKilledAndForgotten) {
  Run();
  Do(SessionDown{});
  const auto actions = Connect(2, {});
  EXPECT_EQ(All<KillWorker>(actions).size(), 2u);
  EXPECT_TRUE(Reports(actions).empty());
  EXPECT_TRUE(Reports(Do(WorkerExited{1, false, "killed by signal 9"})).empty());
}

TEST_F(AgentTest, OrphanedRunIsEndedByTheAgentItself) {
  Run();
  Do(SessionDown{});
  now_ = core_->NextTick();
  now_ = std::max(now_, 101 * kSecond + options_.orphan_after_ns);
  EXPECT_EQ(All<SendToWorker>(Do(Tick{})).size(), 2u) << "wound down first";
  now_ += options_.orphan_after_ns;
  EXPECT_EQ(All<KillWorker>(Do(Tick{})).size(), 2u) << "killed when that was not enough";
}

TEST_F(AgentTest, AgentWithoutWorkersWatchesItsNodesToTheEnd) {
  Connect();
  v1::Command prepare = Prepare(0);
  prepare.mutable_prepare_run()->set_observe_deployment("old");
  EXPECT_EQ(Reports(Command(prepare)).size(), 1u) << "ready at once";
  const auto observe = All<Observe>(Command(Start(0)));
  ASSERT_EQ(observe.size(), 1u);
  const int64_t start = now_;
  NodesObserved nodes_before{"run", 0, {}, true};
  nodes_before.nodes.emplace_back().set_node("old/node1");
  Do(std::move(nodes_before));
  HostObserved host_before{"run", 0, {}, true};
  host_before.host.set_memory_unused_bytes(77);
  Do(std::move(host_before));
  std::vector<v1::Report> reports;
  for (uint32_t k = 0; k < 11; ++k) {  // the load's ten, and the one in which its connections end
    now_ = start + (k + 1) * kSecond + 1'000'000;
    Host(k);
    NodesObserved observed{"run", k, {}};
    observed.nodes.emplace_back().set_node("old/node1");
    for (v1::Report& report : Reports(Do(observed))) reports.push_back(std::move(report));
    CoordinatorSaid ack;
    ack.message.mutable_ack()->set_sequence(reports.back().sequence());
    Do(std::move(ack));
  }
  ASSERT_EQ(reports.size(), 12u);
  EXPECT_EQ(reports[0].sample().nodes_before_size(), 1);
  EXPECT_EQ(reports[0].sample().memory_unused_before_bytes(), 77u);
  EXPECT_FALSE(reports[0].sample().host().has_memory_unused_bytes()) << "that is of no second";
  EXPECT_EQ(reports[10].sample().nodes_size(), 1);
  EXPECT_TRUE(reports[11].has_run_finished());
}

}  // namespace
}  // namespace loadstar::agent
