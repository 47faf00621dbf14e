// The coordinator's decisions, input by input. Its behaviour in a fleet is in tests/simulation.

#include "server/core/coordinator_core.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "server/core/command_book.h"
#include "server/core/run_machine.h"
#include "tests/simulation/store_model.h"

namespace loadstar::server {
namespace {

// A core whose actions are committed to a store model at once, and picked apart by the tests.
class CoordinatorTest : public testing::Test {
 protected:
  CoordinatorTest() { Restart(); }

  void Restart() {
    CoordinatorOptions options;
    options.seed = 1;
    core_ = std::make_unique<CoordinatorCore>(options, store_.Restore(), now_);
  }
  std::vector<Action> Do(Input input) {
    std::vector<Action> actions;
    core_->Handle(std::move(input), now_, &actions);
    store_.Commit(actions);
    EXPECT_TRUE(store_.violations().empty()) << store_.violations().front();
    return actions;
  }
  // Ticks as often as the core wants: an interval without one is a stall.
  std::vector<Action> Advance(absl::Duration by) {
    std::vector<Action> all;
    const absl::Time until = now_ + by;
    while (now_ < until) {
      now_ = std::min(until, now_ + absl::Milliseconds(250));
      for (Action& action : Do(Tick{})) all.push_back(std::move(action));
    }
    return all;
  }
  // Hello of a new session of the agent.
  std::vector<Action> Hello(const std::string& agent, SessionId session, const std::string& instance = "i1",
                            const std::vector<std::string>& runs = {}, uint64_t connections = 50'000,
                            const std::vector<std::string>& deployments = {}) {
    SessionOpened opened{session, {}};
    opened.hello.set_name(agent);
    opened.hello.set_instance_id(instance);
    opened.hello.mutable_host()->set_cores(2);
    opened.hello.mutable_capacity()->set_connections(connections);
    opened.hello.mutable_capacity()->set_per_worker(14'000);
    opened.hello.mutable_capacity()->set_per_address_pair(14'000);
    opened.hello.mutable_capacity()->set_binding_limit("descriptors");
    for (const std::string& run : runs) opened.hello.add_active_runs(run);
    for (const std::string& deployment : deployments) opened.hello.add_deployments(deployment);
    return Do(std::move(opened));
  }
  std::vector<Action> Say(SessionId session, v1::Report report, uint64_t sequence) {
    report.set_sequence(sequence);
    SessionSaid said{session, {}};
    *said.message.mutable_report() = std::move(report);
    return Do(std::move(said));
  }
  std::vector<Action> Result(SessionId session, uint64_t sequence, const std::string& command, absl::StatusCode code,
                             const std::string& message = "") {
    v1::Report report;
    report.mutable_command_result()->set_command_id(command);
    report.mutable_command_result()->mutable_status()->set_code(static_cast<int>(code));
    report.mutable_command_result()->mutable_status()->set_message(message);
    return Say(session, std::move(report), sequence);
  }
  std::vector<Action> Call(decltype(ClientCalled::request) request) {
    return Do(ClientCalled{++call_, std::move(request)});
  }
  static ClientCalled::StartTest Test(uint64_t peak, const std::string& request_id = "") {
    ClientCalled::StartTest start;
    start.test.set_name("smoke");
    v1::Stage* stage = start.test.mutable_load()->add_connections();
    stage->mutable_duration()->set_seconds(10);
    stage->set_to_connections(peak);
    start.endpoints = {"127.0.0.1:9100"};
    start.test.mutable_target()->add_endpoints("127.0.0.1:9100");
    start.request_id = request_id;
    return start;
  }
  static v1::DeployRequest Stack(int nodes) {
    v1::DeployRequest request;
    request.mutable_stack()->set_name("four");
    for (int i = 1; i <= nodes; ++i) {
      request.mutable_stack()->add_nodes()->set_name(absl::StrCat("node", i));
      request.mutable_stack()->mutable_nodes(i - 1)->set_listen_address(absl::StrCat("127.0.0.1:", 9100 + i));
    }
    return request;
  }

  template <typename T>
  static std::vector<T> All(const std::vector<Action>& actions) {
    std::vector<T> all;
    for (const Action& action : actions) {
      if (const T* one = std::get_if<T>(&action)) all.push_back(*one);
    }
    return all;
  }
  static std::vector<v1::Command> Commands(const std::vector<Action>& actions) {
    std::vector<v1::Command> commands;
    for (const SendToAgent& send : All<SendToAgent>(actions)) {
      if (send.message.has_command()) commands.push_back(send.message.command());
    }
    return commands;
  }
  static const absl::Status StatusOf(const std::vector<Action>& actions) {
    const auto replies = All<Reply>(actions);
    return replies.empty() ? absl::UnknownError("no reply") : replies.back().status;
  }
  static v1::Run StartedRun(const std::vector<Action>& actions) {
    const auto replies = All<Reply>(actions);
    if (replies.empty()) return {};
    const auto* response = std::get_if<v1::StartTestResponse>(&replies.back().response);
    return response == nullptr ? v1::Run() : response->run();
  }
  v1::ListAgentsResponse Agents() {
    return std::get<v1::ListAgentsResponse>(All<Reply>(Call(v1::ListAgentsRequest())).back().response);
  }
  v1::ListDeploymentsResponse ListedDeployments() {
    return std::get<v1::ListDeploymentsResponse>(All<Reply>(Call(v1::ListDeploymentsRequest())).back().response);
  }
  std::vector<std::string> EventCodes(const std::string& run) const {
    std::vector<std::string> codes;
    for (const v1::Event& event : Stored(run).events()) codes.push_back(event.code());
    return codes;
  }
  const v1::Run& Stored(const std::string& id) const { return store_.runs().at(id); }

  // A run on the given agents' sessions that is on: prepared, started, and at its start instant. Reports 1 and 2 used.
  std::string RunningOn(const std::vector<SessionId>& sessions) {
    const auto actions = Call(Test(100));
    std::string id = StartedRun(actions).run_id();
    const auto prepares = Commands(actions);
    std::vector<Action> started;
    for (size_t i = 0; i < sessions.size(); ++i) {
      started = Result(sessions[i], 1, prepares[i].command_id(), absl::StatusCode::kOk);
    }
    const auto starts = Commands(started);
    for (size_t i = 0; i < sessions.size(); ++i) {
      Result(sessions[i], 2, starts[i].command_id(), absl::StatusCode::kOk);
    }
    Advance(absl::Seconds(1));
    EXPECT_EQ(Stored(id).state(), v1::RUN_STATE_RUNNING);
    return id;
  }
  static v1::Report SampleOf(const std::string& run, uint32_t second, uint64_t answered) {
    v1::Report report;
    report.mutable_sample()->set_run_id(run);
    report.mutable_sample()->set_elapsed_s(second);
    v1::Counters* counters = report.mutable_sample()->mutable_figures()->mutable_counters();
    counters->set_requests_due(answered);
    counters->set_requests_sent(answered);
    counters->set_requests_answered(answered);
    return report;
  }
  static v1::Report FinishedOf(const std::string& run) {
    v1::Report report;
    report.mutable_run_finished()->set_run_id(run);
    return report;
  }

  absl::Time now_ = absl::FromUnixSeconds(1'790'000'000);
  simulation::StoreModel store_;
  std::unique_ptr<CoordinatorCore> core_;
  CallId call_ = 0;
};

TEST_F(CoordinatorTest, NoAgentIsAPreconditionWithDetails) {
  const absl::Status status = StatusOf(Call(Test(100)));
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_TRUE(absl::StrContains(status.message(), "loadstar-agent")) << status;
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.PreconditionFailure");
  ASSERT_TRUE(payload.has_value());
  google::rpc::PreconditionFailure failure;
  ASSERT_TRUE(failure.ParseFromString(std::string(*payload)));
  EXPECT_EQ(failure.violations(0).type(), "NO_AGENT");
}

TEST_F(CoordinatorTest, SameInstanceReplacesItsSessionAnotherIsRefused) {
  Hello("a", 1);
  const auto again = All<CloseSession>(Hello("a", 2));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].session, 1u);
  EXPECT_TRUE(absl::IsAborted(again[0].status));
  const auto other = All<CloseSession>(Hello("a", 3, "i2"));
  ASSERT_EQ(other.size(), 1u);
  EXPECT_EQ(other[0].session, 3u);
  EXPECT_TRUE(absl::IsAlreadyExists(other[0].status));
  Do(SessionClosed{2});
  EXPECT_TRUE(All<CloseSession>(Hello("a", 4, "i2")).empty());
}

TEST_F(CoordinatorTest, HeartbeatIsAnsweredWithTheClock) {
  Hello("a", 1);
  SessionSaid said{1, {}};
  said.message.mutable_heartbeat()->set_sent_monotonic_ns(42);
  const auto sent = All<SendToAgent>(Do(said));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].message.heartbeat_reply().agent_monotonic_ns(), 42);
  EXPECT_EQ(sent[0].message.heartbeat_reply().coordinator_unix_ns(), absl::ToUnixNanos(now_));
}

TEST_F(CoordinatorTest, ReportsAreTakenOnceAndInOrderAndSurviveARestart) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  EXPECT_TRUE(Say(1, SampleOf(run, 1, 5), 4).empty()) << "a gap is neither taken nor acknowledged";
  auto actions = Say(1, SampleOf(run, 0, 5), 3);
  EXPECT_EQ(All<PutSample>(actions).size(), 1u);
  EXPECT_EQ(All<PutCursor>(actions).size(), 1u);
  EXPECT_EQ(All<SendToAgent>(actions).back().message.ack().sequence(), 3u);
  actions = Say(1, SampleOf(run, 0, 5), 3);
  EXPECT_TRUE(All<PutSample>(actions).empty()) << "a repeat counts for nothing";
  EXPECT_EQ(All<SendToAgent>(actions).back().message.ack().sequence(), 3u) << "but is acknowledged again";

  Restart();
  const auto welcome = All<SendToAgent>(Hello("a", 1, "i1", {run}));
  EXPECT_EQ(welcome[0].message.welcome().acknowledged_sequence(), 3u);
  EXPECT_EQ(welcome[0].message.welcome().active_runs(0), run);
  Say(1, SampleOf(run, 1, 7), 4);
  Say(1, FinishedOf(run), 5);
  EXPECT_EQ(Stored(run).totals().counters().requests_answered(), 12u);
}

TEST_F(CoordinatorTest, RunGoesThroughItsStatesToAVerdict) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  EXPECT_TRUE(absl::StartsWith(run, "smoke-2026")) << run;
  for (uint32_t k = 0; k < 10; ++k) Say(1, SampleOf(run, k, 100), 3 + k);
  Advance(absl::Seconds(10));
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_STOPPING);
  Say(1, FinishedOf(run), 13);
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_FINISHED);
  EXPECT_EQ(Stored(run).verdict().kind(), v1::VERDICT_KIND_PASSED) << Stored(run).verdict().ShortDebugString();
  EXPECT_EQ(Stored(run).totals().counters().requests_answered(), 1000u);
  EXPECT_EQ(store_.SnapshotsOf(run).size(), 10u);
  EXPECT_TRUE(store_.commands().empty());
}

TEST_F(CoordinatorTest, EventsAreInWordsAndCountInTheRightNumber) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  std::string text;
  for (const v1::Event& event : Stored(run).events()) absl::StrAppend(&text, event.message(), "\n");
  EXPECT_TRUE(absl::StrContains(text, "100 connections at the peak on 1 worker of 1 agent, 1 endpoint\n")) << text;
  EXPECT_TRUE(absl::StrContains(text, "the run is starting\nthe run is running\n")) << text;
  v1::UpdateLoadRequest update;
  update.set_run_id(StartedRun(Call(Test(10))).run_id());
  update.mutable_update()->set_connections(5);
  EXPECT_TRUE(absl::StrContains(StatusOf(Call(update)).message(), "(it is preparing)")) << StatusOf(Call(update));
}

TEST_F(CoordinatorTest, CommandIsStoredBeforeItIsSentAndSentAgainUntilItsResultIsIn) {
  Hello("a", 1);
  const auto actions = Call(Test(100));
  const auto prepare = Commands(actions);
  ASSERT_EQ(prepare.size(), 1u);
  EXPECT_EQ(store_.commands().size(), 1u);
  Do(SessionClosed{1});
  Restart();
  const auto again = Commands(Hello("a", 1));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].SerializeAsString(), prepare[0].SerializeAsString());
  const auto start = Commands(Result(1, 1, prepare[0].command_id(), absl::StatusCode::kOk));
  ASSERT_EQ(start.size(), 1u);
  EXPECT_TRUE(start[0].has_start_run());
}

TEST_F(CoordinatorTest, PreparationThatFailsEndsTheRunOnEveryAgent) {
  Hello("a", 1);
  Hello("b", 2);
  auto start = Test(20'000);
  const auto actions = Call(start);
  const auto prepares = Commands(actions);
  ASSERT_EQ(prepares.size(), 2u);
  const std::string run = StartedRun(actions).run_id();
  const auto stops = Commands(Result(1, 1, prepares[0].command_id(), absl::StatusCode::kPermissionDenied,
                                     "this agent sends load to 127.0.0.0/8 alone"));
  ASSERT_EQ(stops.size(), 1u) << "the agent that refused has nothing to stop";
  EXPECT_TRUE(stops[0].stop_run().abort());
  Result(2, 1, prepares[1].command_id(), absl::StatusCode::kOk);
  Result(2, 2, stops[0].command_id(), absl::StatusCode::kOk);
  Say(2, FinishedOf(run), 3);
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_FINISHED);
  EXPECT_EQ(Stored(run).verdict().kind(), v1::VERDICT_KIND_NOT_CARRIED_OUT);
  EXPECT_TRUE(absl::StrContains(Stored(run).verdict().reasons(0).message(), "127.0.0.0/8"));
}

TEST_F(CoordinatorTest, LostAgentLeavesTheRunAndTheRestIsIntact) {
  Hello("a", 1, "i1", {}, 100);
  Hello("b", 2, "i1", {}, 100);
  ClientCalled::StartTest start = Test(100);
  start.test.mutable_load()->set_workers(2);
  const auto actions = Call(start);
  const std::string run = StartedRun(actions).run_id();
  const auto prepares = Commands(actions);
  ASSERT_EQ(prepares.size(), 2u);
  Result(1, 1, prepares[0].command_id(), absl::StatusCode::kOk);
  Result(2, 1, prepares[1].command_id(), absl::StatusCode::kOk);
  Say(1, SampleOf(run, 0, 10), 2);
  Say(2, SampleOf(run, 0, 20), 2);
  Advance(absl::Seconds(1));
  Do(SessionClosed{1});
  Hello("a", 3, "i2");  // it restarted: another instance, without the run
  Say(2, SampleOf(run, 1, 20), 3);
  Advance(absl::Seconds(10));
  Say(2, FinishedOf(run), 4);
  const v1::Run& over = Stored(run);
  EXPECT_EQ(over.state(), v1::RUN_STATE_FINISHED);
  EXPECT_EQ(over.verdict().kind(), v1::VERDICT_KIND_NOT_CARRIED_OUT);
  EXPECT_EQ(over.verdict().reasons(0).code(), "agent-lost");
  EXPECT_EQ(over.totals().counters().requests_answered(), 50u);
  ASSERT_EQ(over.gaps_size(), 1);
  EXPECT_EQ(over.gaps(0), "a:1");
}

TEST_F(CoordinatorTest, AgentOutOfReachForTooLongIsLost) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  Do(SessionClosed{1});
  Advance(absl::Seconds(28));  // 29 s since it was last heard
  EXPECT_NE(Stored(run).state(), v1::RUN_STATE_FINISHED);
  Advance(absl::Seconds(2));
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_FINISHED);
  EXPECT_EQ(Stored(run).verdict().reasons(0).code(), "agent-lost");
}

TEST_F(CoordinatorTest, StallOfTheCoordinatorIsNotHeldAgainstItsAgents) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  now_ += absl::Minutes(2);  // stopped, or the host was suspended: no tick
  const auto actions = Do(Tick{});
  EXPECT_TRUE(All<CloseSession>(actions).empty()) << "the agent had no chance to be heard";
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_STOPPING) << "its profile is over";
  const auto codes = EventCodes(run);
  EXPECT_EQ(std::count(codes.begin(), codes.end(), "coordinator-stalled"), 1);
  Advance(absl::Seconds(20));
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_STOPPING);
  for (uint32_t k = 0; k < 10; ++k) Say(1, SampleOf(run, k, 100), 3 + k);
  Say(1, FinishedOf(run), 13);
  EXPECT_EQ(Stored(run).verdict().kind(), v1::VERDICT_KIND_PASSED) << Stored(run).verdict().ShortDebugString();
}

TEST_F(CoordinatorTest, SilenceAfterAStallIsStillALoss) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  now_ += absl::Minutes(2);
  Do(Tick{});
  Advance(absl::Seconds(31));
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_FINISHED);
  EXPECT_EQ(Stored(run).verdict().reasons(0).code(), "agent-lost");
}

TEST_F(CoordinatorTest, StallDoesNotUseUpTheTimeToPrepare) {
  Hello("a", 1);
  const auto actions = Call(Test(100));
  const std::string run = StartedRun(actions).run_id();
  now_ += absl::Minutes(2);
  Do(Tick{});
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_PREPARING);
  Result(1, 1, Commands(actions)[0].command_id(), absl::StatusCode::kOk);
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_STARTING);
}

TEST_F(CoordinatorTest, AgentsAreShownAsLastSeenAndForgottenWhenThatIsLongAgo) {
  CoordinatorOptions options;
  options.agent_forgotten_after = absl::Hours(3);
  Restored restored;
  const absl::Time seen = now_ - absl::Minutes(5);
  restored.cursors.push_back({{"a", "i0", 4}, seen - absl::Hours(1)});
  restored.cursors.push_back({{"a", "i1", 7}, seen});
  restored.cursors.push_back({{"old", "i1", 7}, now_ - absl::Hours(4)});
  v1::Deployment deployment;
  deployment.set_name("four");
  deployment.set_state(v1::DEPLOYMENT_STATE_HEALTHY);
  deployment.add_nodes()->set_agent("unseen");
  restored.deployments.push_back(deployment);
  core_ = std::make_unique<CoordinatorCore>(options, std::move(restored), now_);
  auto agents = Agents().agents();
  ASSERT_EQ(agents.size(), 3);
  EXPECT_EQ(agents[0].last_seen().seconds(), absl::ToUnixSeconds(seen)) << "measured, and not this coordinator's start";
  EXPECT_EQ(agents[1].name(), "old") << "it may be about to come back";
  EXPECT_EQ(agents[2].name(), "unseen");
  EXPECT_FALSE(agents[2].has_last_seen()) << "not known, and not invented";

  const auto after = [&](absl::Duration time) {
    std::vector<std::string> names;
    for (const absl::Time until = now_ + time; now_ < until;) {
      now_ += absl::Milliseconds(1900);  // less is no stall
      for (const DeleteCursors& each : All<DeleteCursors>(Do(Tick{}))) names.push_back(each.agent + each.instance_id);
    }
    return names;
  };
  EXPECT_EQ(after(absl::Minutes(70)), std::vector<std::string>{"old"});
  EXPECT_TRUE(after(absl::Minutes(90)).empty());
  EXPECT_EQ(after(absl::Minutes(20)), std::vector<std::string>{"a"});
  agents = Agents().agents();
  ASSERT_EQ(agents.size(), 1) << "the one with a deployment stays";
  EXPECT_EQ(agents[0].name(), "unseen");
}

TEST_F(CoordinatorTest, InstancesThatAreLongGoneLeaveNoCursors) {
  for (SessionId session = 1; session <= 40; ++session) {
    now_ += absl::Seconds(1);
    Hello("a", session, absl::StrCat("i", session));
    v1::Report report;
    report.mutable_run_started()->set_run_id("none");
    Say(session, report, 1);
    Do(SessionClosed{session});
  }
  const auto dropped = All<DeleteCursors>(Hello("a", 41, "i41"));
  ASSERT_EQ(dropped.size(), 1u);
  EXPECT_EQ(dropped[0].instance_id, "i24") << "the oldest goes";
}

TEST_F(CoordinatorTest, StartTestThatIsRevokedNeverWas) {
  Hello("a", 1);
  const absl::Time asked = now_;
  std::vector<Action> thrown_away;
  core_->Handle(ClientCalled{77, Test(100, "request-1")}, now_, &thrown_away);
  EXPECT_FALSE(Commands(thrown_away).empty());
  core_->Revoke(76);
  core_->Revoke(77);
  EXPECT_TRUE(Advance(absl::Seconds(2)).empty()) << "nothing is left to decide";
  Do(SessionClosed{1});
  const auto welcome = Hello("a", 2);
  EXPECT_TRUE(Commands(welcome).empty()) << "it does not start later";
  EXPECT_EQ(All<SendToAgent>(welcome)[0].message.welcome().active_runs_size(), 0);
  EXPECT_TRUE(store_.runs().empty());
  now_ = std::max(now_, asked);
  EXPECT_FALSE(StartedRun(Call(Test(100, "request-1"))).participants().empty()) << "the request is new";
  EXPECT_EQ(store_.runs().size(), 1u);
}

TEST_F(CoordinatorTest, EventsOfARunAreBoundedInAllAndEach) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  v1::Report report;
  report.mutable_run_event()->set_run_id(run);
  v1::Event* event = report.mutable_run_event()->mutable_event();
  event->set_code("noise");
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += "\xC3\xA4";  // two bytes each
  event->set_message(text);
  const auto put = [&](uint64_t sequence) {
    report.set_sequence(sequence);
    SessionSaid said{1, {}};
    *said.message.mutable_report() = report;
    std::vector<Action> actions;
    core_->Handle(said, now_, &actions);
    return All<PutRun>(actions).back().run;
  };
  v1::Run kept = put(3);
  const std::string& clipped = kept.events(kept.events_size() - 1).message();
  EXPECT_EQ(clipped.substr(clipped.size() - 5), "\xC3\xA4...") << "cut between characters";

  // The rest of them as a store would have them, so that not each of thousands is written with all before it.
  const v1::Event one = kept.events(kept.events_size() - 1);
  const size_t many = RunMachine::kMaxEventBytes / one.ByteSizeLong() - 20;
  for (size_t i = 0; i < many; ++i) *kept.add_events() = one;

  Restored restored;
  restored.unfinished_runs.push_back(kept);
  core_ = std::make_unique<CoordinatorCore>(CoordinatorOptions(), std::move(restored), now_);
  std::vector<Action> ignored;
  SessionOpened opened{1, {}};
  opened.hello.set_name("a");
  opened.hello.set_instance_id("i1");
  opened.hello.add_active_runs(run);
  core_->Handle(opened, now_, &ignored);
  for (uint64_t i = 1; i <= 50; ++i) kept = put(i);
  EXPECT_LT(kept.ByteSizeLong(), size_t{5} << 20);
  EXPECT_EQ(kept.events(kept.events_size() - 1).code(), "events-left-out");
  const std::string message = kept.events(kept.events_size() - 1).message();

  Restored again;
  again.unfinished_runs.push_back(kept);
  core_ = std::make_unique<CoordinatorCore>(CoordinatorOptions(), std::move(again), now_);
  core_->Handle(opened, now_, &ignored);
  kept = put(1);
  EXPECT_EQ(kept.events(kept.events_size() - 1).code(), "events-left-out");
  EXPECT_GT(std::stoi(kept.events(kept.events_size() - 1).message()), std::stoi(message))
      << "counted on after a restart";
}

TEST_F(CoordinatorTest, TargetThatRefusesEndsTheRunAtOnce) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  v1::Report report;
  report.mutable_run_event()->set_run_id(run);
  report.mutable_run_event()->mutable_event()->set_code("target-refuses");
  report.mutable_run_event()->mutable_event()->set_message("every connect of 2 s was refused");
  const auto stops = Commands(Say(1, report, 3));
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_TRUE(stops[0].has_stop_run());
  Say(1, FinishedOf(run), 4);
  EXPECT_EQ(Stored(run).verdict().kind(), v1::VERDICT_KIND_NOT_CARRIED_OUT);
  EXPECT_EQ(Stored(run).verdict().reasons(0).side(), v1::SIDE_TARGET);
}

TEST_F(CoordinatorTest, WorkerThatDiesIsAnEventAndTheRunIsNotPassed) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  v1::Report report;
  report.mutable_run_event()->set_run_id(run);
  report.mutable_run_event()->mutable_event()->set_code("worker-died");
  report.mutable_run_event()->mutable_event()->set_message("worker 0 ended: killed by signal 9");
  Say(1, report, 3);
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_RUNNING) << "the others go on";
  Say(1, FinishedOf(run), 4);
  EXPECT_EQ(Stored(run).verdict().kind(), v1::VERDICT_KIND_NOT_CARRIED_OUT);
  EXPECT_TRUE(absl::StrContains(Stored(run).verdict().reasons(0).message(), "signal 9"));
}

TEST_F(CoordinatorTest, StopIsGracefulThenSharpAndTheVerdictIsStopped) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  v1::StopTestRequest stop;
  stop.set_run_id(run);
  auto stops = Commands(Call(stop));
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_FALSE(stops[0].stop_run().abort());
  EXPECT_TRUE(Commands(Call(stop)).empty()) << "asked twice, sent once";
  stop.set_abort(true);
  stops = Commands(Call(stop));
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_TRUE(stops[0].stop_run().abort());
  Say(1, FinishedOf(run), 3);
  EXPECT_EQ(Stored(run).verdict().kind(), v1::VERDICT_KIND_STOPPED);
  EXPECT_TRUE(StatusOf(Call(stop)).ok()) << "a run that is over is answered as it stands";
  stop.set_run_id("nothing");
  EXPECT_TRUE(absl::IsNotFound(StatusOf(Call(stop))));
}

TEST_F(CoordinatorTest, UpdateTakesEffectASecondFromNowAndIsBoundedByThePlan) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  Advance(absl::Seconds(2));
  v1::UpdateLoadRequest update;
  update.set_run_id(run);
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(Call(update))));
  update.mutable_update()->set_connections(101);
  EXPECT_TRUE(absl::StrContains(StatusOf(Call(update)).message(), "at most 100 connections"));
  update.mutable_update()->set_connections(50);
  const auto sent = Commands(Call(update));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].update_run().at_elapsed().seconds(), 3);
  EXPECT_EQ(Stored(run).updates_size(), 1);
  Advance(absl::Seconds(7.5));
  EXPECT_TRUE(absl::IsFailedPrecondition(StatusOf(Call(update)))) << "less than a second is left";
}

TEST_F(CoordinatorTest, DrainThatTakesTooLongEndsInAVerdict) {
  Hello("a", 1);
  const std::string run = RunningOn({1});
  SessionSaid alive{1, {}};
  alive.message.mutable_heartbeat();
  for (int i = 0; i < 8; ++i) {
    Advance(absl::Seconds(10));
    Do(alive);
  }
  EXPECT_EQ(Stored(run).state(), v1::RUN_STATE_FINISHED);
  EXPECT_EQ(Stored(run).verdict().reasons(0).code(), "drain-timeout");
}

TEST_F(CoordinatorTest, RequestIdIsOneRunEvenAfterARestart) {
  Hello("a", 1);
  const std::string run = StartedRun(Call(Test(100, "r1"))).run_id();
  EXPECT_EQ(StartedRun(Call(Test(100, "r1"))).run_id(), run);
  Restart();
  EXPECT_EQ(StartedRun(Call(Test(100, "r1"))).run_id(), run);
  Hello("a", 2);
  EXPECT_EQ(StartedRun(Call(Test(100))).run_id(), run + "-2");
}

TEST_F(CoordinatorTest, SecondRunOnAnAgentIsAllowedWhereCapacityPermits) {
  Hello("a", 1, "i1", {}, 150);
  EXPECT_TRUE(StatusOf(Call(Test(100))).ok());
  const absl::Status refused = StatusOf(Call(Test(100)));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_TRUE(absl::StrContains(refused.message(), "other runs hold up to 100")) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "--scale 0.5")) << refused;
  EXPECT_TRUE(StatusOf(Call(Test(50))).ok());
}

TEST_F(CoordinatorTest, SecondRunHasTheSocketMemoryThatTheFirstOnesRequestsLeave) {
  SessionOpened opened{1, {}};
  opened.hello.set_name("a");
  opened.hello.set_instance_id("i1");
  v1::Capacity* capacity = opened.hello.mutable_capacity();
  capacity->set_per_worker(14'000);
  capacity->set_per_address_pair(14'000);
  capacity->set_connections(100);
  v1::CapacityLimit* limit = capacity->add_limits();
  limit->set_name("tcp memory");
  limit->set_connections(100);
  limit = capacity->add_limits();
  limit->set_name("memory");
  limit->set_connections(10'000);
  Do(std::move(opened));
  ClientCalled::StartTest first = Test(1'000);
  v1::RequestsSpec* requests = first.test.mutable_load()->mutable_requests();
  requests->set_model(v1::REQUEST_MODEL_OPEN);
  requests->set_rate_scope(v1::RATE_SCOPE_TOTAL);
  requests->set_rate_per_s(50);
  requests->mutable_timeout()->set_seconds(1);
  const auto actions = Call(first);
  const std::string run = StartedRun(actions).run_id();
  ClientCalled::StartTest second = Test(50);
  second.test.mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_CLOSED);
  const std::string planned = StartedRun(Call(second)).run_id();
  EXPECT_NE(planned, "") << "50 of 100 are left";
  v1::StopTestRequest stop;
  stop.set_run_id(planned);
  stop.set_abort(true);
  Call(stop);
  Result(1, 1, absl::StrCat(planned, "/a/prepare"), absl::StatusCode::kCancelled);
  Say(1, FinishedOf(planned), 2);

  const auto started = Result(1, 3, Commands(actions)[0].command_id(), absl::StatusCode::kOk);
  Result(1, 4, Commands(started)[0].command_id(), absl::StatusCode::kOk);
  Advance(absl::Seconds(1));
  ASSERT_EQ(Stored(run).state(), v1::RUN_STATE_RUNNING);
  v1::UpdateLoadRequest update;
  update.set_run_id(run);
  update.mutable_update()->set_rate_per_s(51);
  ASSERT_TRUE(StatusOf(Call(update)).ok());
  const absl::Status refused = StatusOf(Call(second));
  EXPECT_TRUE(absl::StrContains(refused.message(), "can hold 49 (limit: tcp memory)")) << refused;
}

TEST_F(CoordinatorTest, CapacityOfAHeartbeatIsWhatTheNextPlanIsMadeWith) {
  Hello("a", 1, "i1", {}, 150);
  const auto beat = [&](uint64_t connections, const std::string& limit) {
    SessionSaid said{1, {}};
    v1::Heartbeat* heartbeat = said.message.mutable_heartbeat();
    heartbeat->mutable_host()->set_cores(4);
    heartbeat->mutable_capacity()->set_connections(connections);
    heartbeat->mutable_capacity()->set_per_worker(14'000);
    heartbeat->mutable_capacity()->set_per_address_pair(14'000);
    heartbeat->mutable_capacity()->set_binding_limit(limit);
    return Do(std::move(said));
  };
  EXPECT_FALSE(StatusOf(Call(Test(1000))).ok());
  beat(1'500, "memory");
  const std::string run = StartedRun(Call(Test(1000))).run_id();
  const auto listed = All<Reply>(Call(v1::ListAgentsRequest()));
  const v1::Agent& agent = std::get<v1::ListAgentsResponse>(listed.back().response).agents(0);
  EXPECT_EQ(agent.capacity().connections(), 1'500u);
  EXPECT_EQ(agent.capacity().binding_limit(), "memory");
  EXPECT_EQ(agent.host().cores(), 4u);

  // What shrinks below a run that is under way is no matter of that run, only of the next one.
  const auto actions = beat(200, "memory");
  EXPECT_TRUE(Commands(actions).empty());
  EXPECT_TRUE(All<PutRun>(actions).empty());
  const absl::Status refused = StatusOf(Call(Test(100)));
  EXPECT_TRUE(absl::StrContains(refused.message(), "other runs hold up to 1000")) << refused;

  // A heartbeat without a new reading takes nothing away.
  SessionSaid said{1, {}};
  said.message.mutable_heartbeat();
  Do(std::move(said));
  const auto again = All<Reply>(Call(v1::ListAgentsRequest()));
  EXPECT_EQ(std::get<v1::ListAgentsResponse>(again.back().response).agents(0).capacity().connections(), 200u);
}

TEST_F(CoordinatorTest, ValidateSaysWhatStartTestWouldRefuse) {
  Hello("a", 1, "i1", {}, 150);
  v1::TestSpec test = Test(1000).test;
  const auto replies = All<Reply>(Call(test));
  const auto& response = std::get<v1::ValidateResponse>(replies.back().response);
  ASSERT_EQ(response.problems_size(), 1);
  EXPECT_TRUE(absl::StrContains(response.problems(0).message(), "150"));
}

TEST_F(CoordinatorTest, DeploymentComesUpIsUsedAndComesDown) {
  Hello("a", 1);
  Hello("b", 2);
  auto commands = Commands(Call(Stack(3)));
  ASSERT_EQ(commands.size(), 2u) << "nodes are dealt out in turn";
  EXPECT_EQ(commands[0].deploy_nodes().nodes_size(), 2);
  Result(1, 1, commands[0].command_id(), absl::StatusCode::kOk);
  const auto replies = All<Reply>(Result(2, 1, commands[1].command_id(), absl::StatusCode::kOk));
  ASSERT_FALSE(replies.empty());
  EXPECT_TRUE(replies.back().last);
  EXPECT_EQ(std::get<v1::DeployResponse>(replies.back().response).deployment().state(), v1::DEPLOYMENT_STATE_HEALTHY);
  EXPECT_TRUE(Commands(Call(Stack(3))).empty()) << "the same stack is left as it is";
  EXPECT_TRUE(absl::IsFailedPrecondition(StatusOf(Call(Stack(2))))) << "another stack of that name is refused";

  ClientCalled::StartTest start = Test(100);
  start.test.mutable_target()->set_stack("four");
  start.endpoints.clear();
  const auto started = Call(start);
  const v1::Run run = StartedRun(started);
  ASSERT_EQ(run.endpoints_size(), 3);
  EXPECT_EQ(run.nodes(2), "node3");
  EXPECT_EQ(run.participants_size(), 2) << "both agents watch their nodes";
  v1::TeardownRequest teardown;
  teardown.set_name("four");
  EXPECT_TRUE(absl::StrContains(StatusOf(Call(teardown)).message(), run.run_id()));

  v1::StopTestRequest stop;
  stop.set_run_id(run.run_id());
  Call(stop);
  Say(1, FinishedOf(run.run_id()), 2);
  Say(2, FinishedOf(run.run_id()), 2);
  commands = Commands(Call(teardown));
  ASSERT_EQ(commands.size(), 2u);
  Result(1, 3, commands[0].command_id(), absl::StatusCode::kOk);
  Result(2, 3, commands[1].command_id(), absl::StatusCode::kOk);
  EXPECT_TRUE(store_.deployments().empty());
  EXPECT_TRUE(absl::IsNotFound(StatusOf(Call(teardown))));
}

TEST_F(CoordinatorTest, DeployThatFailsLeavesNothingBehind) {
  Hello("a", 1);
  Hello("b", 2);
  const auto deploys = Commands(Call(Stack(2)));
  const CallId caller = call_;
  Result(1, 1, deploys[0].command_id(), absl::StatusCode::kOk);
  const auto teardowns = Commands(
      Result(2, 1, deploys[1].command_id(), absl::StatusCode::kFailedPrecondition, "port 9102 is taken by nginx"));
  ASSERT_EQ(teardowns.size(), 2u);
  Result(1, 2, teardowns[0].command_id(), absl::StatusCode::kOk);
  const auto replies = All<Reply>(Result(2, 2, teardowns[1].command_id(), absl::StatusCode::kOk));
  ASSERT_FALSE(replies.empty());
  EXPECT_EQ(replies.back().call, caller);
  EXPECT_TRUE(absl::StrContains(replies.back().status.message(), "nginx")) << replies.back().status;
  EXPECT_TRUE(store_.deployments().empty());
}

TEST_F(CoordinatorTest, NodeThatDiesIsToldToTheRunThatUsesIt) {
  Hello("a", 1);
  const auto deploys = Commands(Call(Stack(1)));
  Result(1, 1, deploys[0].command_id(), absl::StatusCode::kOk);
  ClientCalled::StartTest start = Test(10);
  start.test.mutable_target()->set_stack("four");
  const std::string run = StartedRun(Call(start)).run_id();
  v1::Report report;
  report.mutable_node()->set_deployment("four");
  report.mutable_node()->mutable_status()->set_node("node1");
  report.mutable_node()->mutable_status()->set_state(v1::DEPLOYMENT_STATE_FAILED);
  report.mutable_node()->mutable_status()->set_message("killed by signal 9");
  Say(1, report, 2);
  const v1::Event& event = Stored(run).events(Stored(run).events_size() - 1);
  EXPECT_EQ(event.code(), "node-unhealthy");
  EXPECT_EQ(event.subject(), "node1");
  EXPECT_EQ(store_.deployments().at("four").state(), v1::DEPLOYMENT_STATE_FAILED);
  EXPECT_TRUE(absl::IsFailedPrecondition(StatusOf(Call(start)))) << "no second run on what is not healthy";
}

TEST_F(CoordinatorTest, DeploymentOfAnAgentOutOfReachIsUnknownAndNotTested) {
  Hello("a", 1);
  Hello("b", 2);
  const auto deploys = Commands(Call(Stack(2)));
  Result(1, 1, deploys[0].command_id(), absl::StatusCode::kOk);
  Result(2, 1, deploys[1].command_id(), absl::StatusCode::kOk);
  EXPECT_EQ(ListedDeployments().deployments(0).state(), v1::DEPLOYMENT_STATE_HEALTHY);
  const absl::Time heard = now_;
  now_ += absl::Seconds(1);
  Do(SessionClosed{2});
  const auto look = [&] {
    const v1::Deployment listed = ListedDeployments().deployments(0);
    EXPECT_EQ(listed.state(), v1::DEPLOYMENT_STATE_UNKNOWN);
    EXPECT_EQ(listed.nodes(0).state(), v1::DEPLOYMENT_STATE_HEALTHY);
    EXPECT_EQ(listed.nodes(1).state(), v1::DEPLOYMENT_STATE_UNKNOWN);
    EXPECT_EQ(listed.nodes(1).unknown_since().seconds(), absl::ToUnixSeconds(heard));
    EXPECT_TRUE(absl::StrContains(listed.nodes(1).message(), "agent b is out of reach")) << listed.nodes(1).message();
    ClientCalled::StartTest start = Test(10);
    start.test.mutable_target()->set_stack("four");
    start.test.mutable_load()->add_agents("a");
    const absl::Status status = StatusOf(Call(start));
    EXPECT_TRUE(absl::IsFailedPrecondition(status));
    for (const char* part :
         {"agent b (node2) is out of reach since 20", "start the agent again", "loadstar teardown four"}) {
      EXPECT_TRUE(absl::StrContains(status.message(), part)) << part << ": " << status;
    }
    EXPECT_TRUE(absl::IsFailedPrecondition(StatusOf(Call(Stack(2))))) << "it is not said to stand";
  };
  look();
  for (int i = 0; i < 4; ++i) {  // longer than the other may be silent
    Advance(absl::Seconds(10));
    SessionSaid said{1, {}};
    said.message.mutable_heartbeat();
    Do(said);
  }
  look();
  EXPECT_EQ(store_.deployments().at("four").state(), v1::DEPLOYMENT_STATE_HEALTHY) << "what was last said is kept";
  Hello("b", 3, "i1", {}, 50'000, {"four"});
  EXPECT_EQ(ListedDeployments().deployments(0).state(), v1::DEPLOYMENT_STATE_HEALTHY);
  EXPECT_TRUE(StatusOf(Call(Stack(2))).ok());
}

TEST_F(CoordinatorTest, StackThatIsNotDeployedIsNotFoundWithTheRemedy) {
  Hello("a", 1);
  ClientCalled::StartTest start = Test(10);
  start.test.mutable_target()->set_stack("four");
  const absl::Status status = StatusOf(Call(start));
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_TRUE(absl::StrContains(status.message(), "loadstar deploy four")) << status;
}

TEST(RunTransitions, EveryStateLeadsToTheEndAndNoneIsAmbiguous) {
  std::set<std::pair<int, int>> rows;
  for (const RunTransition& row : kRunTransitions) {
    EXPECT_TRUE(rows.emplace(row.from, static_cast<int>(row.trigger)).second);
    EXPECT_GE(row.to, row.from) << "states never go back";
  }
  EXPECT_EQ(NextRunState(v1::RUN_STATE_FINISHED, RunTrigger::kStopAsked), v1::RUN_STATE_UNSPECIFIED);
}

}  // namespace
}  // namespace loadstar::server
