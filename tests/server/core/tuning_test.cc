// Tunings over agents that answer as the test says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/core/coordinator_core.h"
#include "tests/simulation/store_model.h"

namespace loadstar::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class TuningTest : public ::testing::Test {
 protected:
  TuningTest() { Restart(); }

  void Restart() {
    CoordinatorOptions options;
    options.seed = 1;
    core_ = std::make_unique<CoordinatorCore>(options, store_.Restore(), now_);
  }
  void Do(Input input) {
    std::vector<Action> actions;
    core_->Handle(std::move(input), now_, &actions);
    store_.Commit(actions);
    EXPECT_TRUE(store_.violations().empty()) << store_.violations().front();
    for (Action& action : actions) {
      if (auto* send = std::get_if<SendToAgent>(&action); send != nullptr && send->message.has_command()) {
        orders_[agents_[send->session]] = send->message.command();
      }
      auto* reply = std::get_if<Reply>(&action);
      if (reply == nullptr) continue;
      status_ = reply->status;
      if (auto* response = std::get_if<v1::TuneResponse>(&reply->response)) {
        if (response->has_step()) told_.push_back(absl::StrCat(response->step().agent(), " ", response->step().key()));
        if (response->has_verdict()) verdict_ = response->verdict();
        EXPECT_EQ(reply->last, response->has_verdict());
      }
    }
  }
  void Advance(absl::Duration by) {
    for (const absl::Time until = now_ + by; now_ < until;) {
      now_ += absl::Milliseconds(250);
      for (const auto& [session, agent] : agents_) {
        if (silent_.count(agent) == 0) Do(SessionSaid{session, Heartbeat()});
      }
      Do(Tick{});
    }
  }
  static v1::SessionRequest Heartbeat() {
    v1::SessionRequest request;
    request.mutable_heartbeat();
    return request;
  }
  void Hello(const std::string& agent) {
    const SessionId session = ++session_;
    agents_[session] = agent;
    SessionOpened opened{session, {}};
    opened.hello.set_name(agent);
    opened.hello.set_instance_id("i1");
    Do(std::move(opened));
  }
  void Report(const std::string& agent, v1::Report report) {
    report.set_sequence(++sequence_[agent]);
    for (const auto& [session, name] : agents_) {
      if (name != agent) continue;
      SessionSaid said{session, {}};
      *said.message.mutable_report() = report;
      Do(std::move(said));
      return;
    }
  }
  // The agent makes a step of its order.
  void Step(const std::string& agent, const std::string& key, v1::TuneOutcome outcome, bool obstacle = false,
            bool applied_before = false) {
    v1::Report report;
    report.mutable_tune()->set_command_id(orders_.at(agent).command_id());
    v1::TuneStep* step = report.mutable_tune()->mutable_step();
    step->set_profile("big");
    step->set_key(key);
    step->set_outcome(outcome);
    step->set_obstacle(obstacle);
    step->set_applied_before(applied_before);
    Report(agent, std::move(report));
  }
  void Done(const std::string& agent, const absl::Status& status = absl::OkStatus()) {
    v1::Report report;
    report.mutable_command_result()->set_command_id(orders_.at(agent).command_id());
    report.mutable_command_result()->mutable_status()->set_code(static_cast<int>(status.code()));
    report.mutable_command_result()->mutable_status()->set_message(std::string(status.message()));
    Report(agent, std::move(report));
  }
  void Call(v1::TuneRequest request) {
    orders_.clear();
    told_.clear();
    verdict_.reset();
    status_ = absl::OkStatus();
    Do(ClientCalled{++call_, std::move(request)});
  }
  static v1::TuneRequest Request(v1::TuneAction action, bool all_or_nothing = false) {
    v1::TuneRequest request;
    request.set_action(action);
    request.set_all_or_nothing(all_or_nothing);
    request.mutable_profile()->set_name("big");
    request.mutable_profile()->add_sysctls()->set_key("a.b");
    return request;
  }
  v1::TuneAction Ordered(const std::string& agent) { return orders_.at(agent).tune_host().action(); }
  std::vector<std::string> Hosts() const {
    std::vector<std::string> hosts;
    for (const v1::TuneHostResult& host : verdict_->hosts()) {
      hosts.push_back(absl::StrCat(host.agent(), host.ok() ? " ok " : " failed ", host.changed()));
    }
    return hosts;
  }

  simulation::StoreModel store_;
  absl::Time now_ = absl::FromUnixSeconds(1'800'000'000);
  std::unique_ptr<CoordinatorCore> core_;
  SessionId session_ = 0;
  CallId call_ = 0;
  std::map<SessionId, std::string> agents_;
  std::map<std::string, uint64_t> sequence_;
  std::set<std::string> silent_;
  std::map<std::string, v1::Command> orders_;  // the last one of each agent
  std::vector<std::string> told_;
  std::optional<v1::TuneVerdict> verdict_;
  absl::Status status_;
};

TEST_F(TuningTest, TellsEveryStepAndHowItCameOut) {
  Hello("a");
  Hello("b");
  Call(Request(v1::TUNE_ACTION_APPLY));
  EXPECT_EQ(Ordered("a"), v1::TUNE_ACTION_APPLY);
  EXPECT_EQ(orders_.at("b").tune_host().profile().name(), "big");
  Step("a", "a.b", v1::TUNE_OUTCOME_CHANGED);
  Done("a");
  EXPECT_FALSE(verdict_.has_value());
  Step("b", "a.b", v1::TUNE_OUTCOME_READ_ONLY, true);
  Done("b");
  ASSERT_TRUE(verdict_.has_value());
  EXPECT_THAT(told_, ElementsAre("a a.b", "b a.b"));
  EXPECT_THAT(Hosts(), ElementsAre("a ok 1", "b failed 0"));
  EXPECT_FALSE(verdict_->ok());
  EXPECT_EQ(verdict_->message(), "1 of 2 hosts not as wanted: b");
  EXPECT_EQ(core_->NextTick(), now_ + absl::Milliseconds(250));
}

TEST_F(TuningTest, ChoosesTheAgentsThatAreNamed) {
  Hello("a");
  Hello("b");
  v1::TuneRequest request = Request(v1::TUNE_ACTION_PLAN);
  request.add_agents("b");
  Call(request);
  EXPECT_EQ(orders_.size(), 1U);
  EXPECT_EQ(Ordered("b"), v1::TUNE_ACTION_PLAN);
  request.add_agents("c");
  Call(request);
  EXPECT_EQ(status_.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status_.message()), HasSubstr("agent 'c' is not connected"));
}

TEST_F(TuningTest, APlanWithObstaclesWasCarriedOut) {
  Hello("a");
  Call(Request(v1::TUNE_ACTION_PLAN));
  Step("a", "a.b", v1::TUNE_OUTCOME_CHANGED);
  Step("a", "c.d", v1::TUNE_OUTCOME_READ_ONLY, true);
  Done("a");
  ASSERT_TRUE(verdict_.has_value());
  EXPECT_TRUE(verdict_->ok());
  EXPECT_EQ(verdict_->hosts(0).message(), "1 setting to be changed, 1 setting not as wanted");
}

TEST_F(TuningTest, AllOrNothingChangesNothingWhenAPlanMeetsAnObstacle) {
  for (const char* agent : {"a", "b", "c"}) Hello(agent);
  Call(Request(v1::TUNE_ACTION_APPLY, true));
  for (const char* agent : {"a", "b", "c"}) EXPECT_EQ(Ordered(agent), v1::TUNE_ACTION_PLAN);
  for (const char* agent : {"a", "b"}) {
    Step(agent, "a.b", v1::TUNE_OUTCOME_CHANGED);
    Done(agent);
  }
  Step("c", "a.b", v1::TUNE_OUTCOME_READ_ONLY, true);
  Done("c");
  ASSERT_TRUE(verdict_.has_value());
  for (const char* agent : {"a", "b", "c"}) EXPECT_EQ(Ordered(agent), v1::TUNE_ACTION_PLAN);
  EXPECT_THAT(told_, ElementsAre("c a.b"));
  EXPECT_THAT(Hosts(), ElementsAre("a ok 0", "b ok 0", "c failed 0"));
  EXPECT_THAT(verdict_->message(), HasSubstr("nothing was changed anywhere"));
}

TEST_F(TuningTest, AllOrNothingPutsBackWhatThisCallChangedWhenApplyingFails) {
  for (const char* agent : {"a", "b", "c"}) Hello(agent);
  Call(Request(v1::TUNE_ACTION_APPLY, true));
  Step("a", "c.d", v1::TUNE_OUTCOME_FULFILLED);
  Step("a", "e.f", v1::TUNE_OUTCOME_FULFILLED, false, true);  // of an earlier call
  for (const char* agent : {"a", "b", "c"}) {
    Step(agent, "a.b", v1::TUNE_OUTCOME_CHANGED);
    Done(agent);
  }
  for (const char* agent : {"a", "b", "c"}) EXPECT_EQ(Ordered(agent), v1::TUNE_ACTION_APPLY);
  // It dies after its first setting, and its next life finds that one made.
  Step("a", "a.b", v1::TUNE_OUTCOME_FULFILLED, false, true);
  Step("a", "c.d", v1::TUNE_OUTCOME_FULFILLED);
  Step("a", "e.f", v1::TUNE_OUTCOME_FULFILLED, false, true);
  Done("a");
  Step("b", "a.b", v1::TUNE_OUTCOME_REFUSED, true);
  Done("b");
  EXPECT_FALSE(verdict_.has_value());
  Done("c", absl::InternalError("the disk is full"));
  EXPECT_FALSE(verdict_.has_value());
  EXPECT_EQ(Ordered("a"), v1::TUNE_ACTION_ROLLBACK);
  EXPECT_THAT(orders_.at("a").tune_host().keys(), ElementsAre("a.b", "c.d"));
  EXPECT_EQ(orders_.at("a").tune_host().profile_name(), "big");
  for (const char* agent : {"b", "c"}) EXPECT_THAT(orders_.at(agent).tune_host().keys(), ElementsAre("a.b"));
  Step("a", "a.b", v1::TUNE_OUTCOME_RESTORED);
  for (const char* agent : {"a", "b", "c"}) Done(agent);
  ASSERT_TRUE(verdict_.has_value());
  EXPECT_THAT(Hosts(), ElementsAre("a failed 0", "b failed 0", "c failed 0"));
  EXPECT_THAT(verdict_->hosts(0).message(), HasSubstr("put back"));
  EXPECT_THAT(verdict_->hosts(2).message(), HasSubstr("the disk is full"));
  EXPECT_THAT(verdict_->message(), HasSubstr("2 of 3 hosts not as wanted: b, c; what was changed was put back"));
}

TEST_F(TuningTest, AllOrNothingRefusesWhatCouldNotBeUndone) {
  Hello("a");
  Call(Request(v1::TUNE_ACTION_APPLY, true));
  Step("a", "a.b", v1::TUNE_OUTCOME_CHANGED, false, true);
  Done("a");
  ASSERT_TRUE(verdict_.has_value());
  EXPECT_FALSE(verdict_->ok());
  EXPECT_EQ(Ordered("a"), v1::TUNE_ACTION_PLAN);
}

TEST_F(TuningTest, AHostThatIsLostIsNamedAndTheOthersAreDone) {
  Hello("a");
  Hello("b");
  Call(Request(v1::TUNE_ACTION_APPLY));
  Step("a", "a.b", v1::TUNE_OUTCOME_CHANGED);
  Done("a");
  silent_.insert("b");
  Advance(absl::Seconds(35));
  ASSERT_TRUE(verdict_.has_value());
  EXPECT_THAT(Hosts(), ElementsAre("a ok 1", "b failed 0"));
  EXPECT_THAT(verdict_->hosts(1).message(), HasSubstr("went out of reach"));
  EXPECT_THAT(store_.Restore().commands, IsEmpty()) << "it is not tuned when it comes back";
}

TEST_F(TuningTest, AHostThatDoesNotComeToAnEndIsNamed) {
  Hello("a");
  Call(Request(v1::TUNE_ACTION_APPLY));
  Advance(absl::Minutes(5) + absl::Seconds(1));
  ASSERT_TRUE(verdict_.has_value());
  EXPECT_THAT(verdict_->hosts(0).message(), HasSubstr("did not come to an end in time"));
}

TEST_F(TuningTest, AVirtualMachineIsGivenTheTimeThatItsCreationTakes) {
  Hello("a");
  v1::TuneRequest request = Request(v1::TUNE_ACTION_APPLY);
  request.mutable_profile()->mutable_virtual_machine()->set_cpus(4);
  Call(std::move(request));
  Advance(absl::Minutes(29));
  EXPECT_FALSE(verdict_.has_value());
  Advance(absl::Minutes(1) + absl::Seconds(1));
  ASSERT_TRUE(verdict_.has_value());
  EXPECT_THAT(verdict_->hosts(0).message(), HasSubstr("did not come to an end in time"));
}

TEST_F(TuningTest, AHostThatIsLostWhileItPutsBackDoesSoWhenItIsBack) {
  Hello("a");
  Hello("b");
  Call(Request(v1::TUNE_ACTION_APPLY, true));
  for (const char* agent : {"a", "b"}) {
    Step(agent, "a.b", v1::TUNE_OUTCOME_CHANGED);
    Done(agent);
  }
  Step("a", "a.b", v1::TUNE_OUTCOME_CHANGED);
  silent_.insert("a");
  Step("b", "a.b", v1::TUNE_OUTCOME_REFUSED, true);
  Done("b");
  Advance(absl::Seconds(35));
  EXPECT_FALSE(verdict_.has_value()) << "what was changed is being put back";
  EXPECT_EQ(Ordered("b"), v1::TUNE_ACTION_ROLLBACK);
  Done("b");
  Advance(absl::Seconds(1));
  ASSERT_TRUE(verdict_.has_value());
  EXPECT_THAT(verdict_->message(), HasSubstr("not, or not all of it, on a"));
  EXPECT_EQ(verdict_->hosts(0).changed(), 1u) << "as it told before it was lost";
  EXPECT_THAT(verdict_->hosts(0).message(), HasSubstr("puts back what it changed when it is back"));
  ASSERT_EQ(store_.Restore().commands.size(), 1U);
  Restart();
  agents_.clear();
  orders_.clear();
  Hello("a");
  EXPECT_EQ(Ordered("a"), v1::TUNE_ACTION_ROLLBACK) << "also after a restart";
}

TEST_F(TuningTest, OneAtATimeIsTunedAndNoRunBeginsMeanwhile) {
  Hello("a");
  Hello("b");
  v1::TuneRequest of_a = Request(v1::TUNE_ACTION_APPLY);
  of_a.add_agents("a");
  Call(of_a);
  for (const v1::TuneAction action : {v1::TUNE_ACTION_APPLY, v1::TUNE_ACTION_ROLLBACK}) {
    Call(Request(action));
    EXPECT_EQ(status_.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status_.message()), HasSubstr("agent a is being tuned"));
  }
  v1::TuneRequest of_b = Request(v1::TUNE_ACTION_APPLY);
  of_b.add_agents("b");
  Call(of_b);
  EXPECT_TRUE(status_.ok()) << status_;
  ClientCalled::StartTest start;
  start.test.set_name("smoke");
  start.test.mutable_load()->add_connections()->mutable_duration()->set_seconds(10);
  start.test.mutable_load()->mutable_connections(0)->set_to_connections(10);
  start.endpoints = {"127.0.0.1:9100"};
  start.test.mutable_target()->add_endpoints("127.0.0.1:9100");
  Do(ClientCalled{++call_, std::move(start)});
  EXPECT_THAT(std::string(status_.message()), HasSubstr("is being tuned"));
}

TEST_F(TuningTest, AfterARestartNobodyIsTunedThatNobodyWaitsFor) {
  Hello("a");
  Call(Request(v1::TUNE_ACTION_APPLY));
  EXPECT_EQ(store_.Restore().commands.size(), 1U);
  Restart();
  agents_.clear();
  orders_.clear();
  Hello("a");
  EXPECT_THAT(orders_, IsEmpty());
  EXPECT_THAT(store_.Restore().commands, IsEmpty());
}

TEST_F(TuningTest, AnAgentThatBeginsAnewIsCountedOnce) {
  Hello("a");
  Call(Request(v1::TUNE_ACTION_APPLY));
  Step("a", "a.b", v1::TUNE_OUTCOME_CHANGED);
  Step("a", "a.b", v1::TUNE_OUTCOME_FULFILLED, false, true);
  Done("a");
  ASSERT_TRUE(verdict_.has_value());
  EXPECT_THAT(Hosts(), ElementsAre("a ok 1"));
}

TEST_F(TuningTest, GoesOnWhenTheCallerLeaves) {
  for (const char* agent : {"a", "b"}) Hello(agent);
  Call(Request(v1::TUNE_ACTION_APPLY, true));
  Do(ClientLeft{call_});
  for (const char* agent : {"a", "b"}) Done(agent);
  EXPECT_EQ(Ordered("a"), v1::TUNE_ACTION_APPLY);
  EXPECT_FALSE(verdict_.has_value());
}

TEST_F(TuningTest, IsRefusedWhereARunIsUnderWay) {
  SessionOpened opened{++session_, {}};
  agents_[session_] = "a";
  opened.hello.set_name("a");
  opened.hello.set_instance_id("i1");
  opened.hello.mutable_host()->set_cores(2);
  opened.hello.mutable_capacity()->set_connections(1000);
  opened.hello.mutable_capacity()->set_per_worker(1000);
  opened.hello.mutable_capacity()->set_per_address_pair(1000);
  Do(std::move(opened));
  ClientCalled::StartTest start;
  start.test.set_name("smoke");
  v1::Stage* stage = start.test.mutable_load()->add_connections();
  stage->mutable_duration()->set_seconds(10);
  stage->set_to_connections(10);
  start.endpoints = {"127.0.0.1:9100"};
  start.test.mutable_target()->add_endpoints("127.0.0.1:9100");
  Do(ClientCalled{++call_, std::move(start)});
  ASSERT_TRUE(status_.ok()) << status_;
  for (const v1::TuneAction action : {v1::TUNE_ACTION_APPLY, v1::TUNE_ACTION_ROLLBACK}) {
    Call(Request(action));
    EXPECT_EQ(status_.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status_.message()), HasSubstr("is under way on agent a"));
  }
  Call(Request(v1::TUNE_ACTION_PLAN));
  EXPECT_EQ(Ordered("a"), v1::TUNE_ACTION_PLAN);
}

}  // namespace
}  // namespace loadstar::server
