// The deployer with real processes (fake_node.cc) on loopback ports.
#include "agent/deployer/deployer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/deployer/journal.h"
#include "agent/deployer/node_processes.h"
#include "lib/os/clock.h"
#include "lib/os/files.h"
#include "lib/os/subprocess.h"

namespace loadstar::agent {
namespace {

using testing::HasSubstr;

class DeployerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "loadstar-deployer-XXXXXX";
    folder_ = std::filesystem::canonical(mkdtemp(pattern.data())).string();
    Start();
  }
  void TearDown() override {
    deployer_.reset();
    for (const NodeProcess& process : Ours()) {
      ADD_FAILURE() << "left behind: " << process.pid << " " << process.mark;
      SignalProcess(os::Proc(), process, SIGKILL);
    }
    std::filesystem::remove_all(folder_);
  }
  void Start() {
    Deployer::Options options;
    options.folder = folder_;
    options.agent_name = "agent1";
    options.log_max_bytes = 20'000;
    auto made = Deployer::Create(options, [this](Input input) { inbox_.Push(std::move(input)); });
    ASSERT_TRUE(made.ok()) << made.status();
    deployer_ = *std::move(made);
  }
  // As kill -9 of the agent: nodes stay, nothing is written.
  void Restart() {
    deployer_.reset();
    states_.clear();
    Start();
  }

  static v1::NodeSpec Node(const std::string& name, int port, const std::vector<std::string>& more = {}) {
    v1::NodeSpec node;
    node.set_name(name);
    node.set_listen_address(absl::StrCat("127.0.0.1:", port));
    node.set_api_address(absl::StrCat("127.0.0.1:", port + 1));
    for (const std::string& word : {std::string(FAKE_NODE), std::string("--listen"), node.listen_address(),
                                    std::string("--api"), node.api_address()}) {
      node.add_command(word);
    }
    for (const std::string& word : more) node.add_command(word);
    node.set_restart(v1::RESTART_POLICY_ALWAYS);
    node.mutable_health()->mutable_interval()->set_nanos(200'000'000);
    node.mutable_health()->mutable_timeout()->set_seconds(1);
    node.mutable_health()->mutable_start_timeout()->set_seconds(20);
    node.mutable_stop_timeout()->set_seconds(1);
    return node;
  }

  // Takes inputs until `done` says so; false when that takes too long.
  bool Until(const std::function<bool()>& done) {
    const int64_t until = os::MonotonicNs() + 30'000'000'000;
    std::vector<Input> inputs;
    while (!done()) {
      if (os::MonotonicNs() >= until) return false;
      inbox_.Take(std::min(until, os::MonotonicNs() + 100'000'000), &inputs);
      for (Input& input : inputs) {
        if (auto* changed = std::get_if<NodeChanged>(&input)) {
          states_[changed->report.status().node()] = changed->report.status();
          history_.push_back(changed->report.status());
        } else if (auto* ended = std::get_if<DeployEnded>(&input)) {
          EXPECT_EQ(ended_.count(ended->command_id), 0u) << "ended twice: " << ended->command_id;
          ended_[ended->command_id] = ended->status;
        }
      }
    }
    return true;
  }
  absl::Status End(const std::string& command) {
    if (!Until([&] { return ended_.count(command) != 0; })) return absl::DeadlineExceededError("no DeployEnded");
    return ended_[command];
  }
  absl::Status Deploy(const std::string& command, const std::vector<v1::NodeSpec>& nodes) {
    deployer_->Deploy({.command_id = command, .deployment = "stack", .nodes = nodes});
    return End(command);
  }
  absl::Status Teardown(const std::string& command) {
    deployer_->Teardown({.command_id = command, .deployment = "stack"});
    return End(command);
  }
  bool UntilState(const std::string& node, v1::DeploymentState state) {
    return Until([&] { return states_.count(node) != 0 && states_[node].state() == state; });
  }
  std::vector<NodeProcess> Ours() const {
    std::vector<NodeProcess> ours;
    for (NodeProcess& process : ScanProcesses(os::Proc())) {
      if (absl::StartsWith(process.mark, folder_ + "|")) ours.push_back(std::move(process));
    }
    return ours;
  }

  std::string folder_;
  Inbox inbox_{1000};
  std::unique_ptr<Deployer> deployer_;
  std::map<std::string, v1::NodeStatus> states_;
  std::vector<v1::NodeStatus> history_;
  std::map<std::string, absl::Status> ended_;
};

TEST_F(DeployerTest, BringsNodesUpAndTakesThemDownLeavingNothing) {
  EXPECT_TRUE(Deploy("c1", {Node("node1", 26200), Node("node2", 26202)}).ok());
  EXPECT_EQ(states_["node1"].state(), v1::DEPLOYMENT_STATE_HEALTHY);
  EXPECT_EQ(states_["node1"].agent(), "agent1");
  EXPECT_GT(states_["node1"].pid(), 0);
  EXPECT_EQ(Ours().size(), 2u);
  EXPECT_EQ(deployer_->Apis("stack").size(), 2u);
  EXPECT_EQ(deployer_->Apis("stack")[1].api_address, "127.0.0.1:26203");
  EXPECT_TRUE(Teardown("c2").ok());
  EXPECT_EQ(states_["node1"].state(), v1::DEPLOYMENT_STATE_STOPPED);
  EXPECT_TRUE(Ours().empty());
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
  EXPECT_TRUE(deployer_->Apis("stack").empty());
  EXPECT_TRUE(Teardown("c3").ok()) << "nothing there is as good as taken down";
}

TEST_F(DeployerTest, SameNodesAgainAreOkAndOthersAreRefused) {
  ASSERT_TRUE(Deploy("c1", {Node("node1", 26204)}).ok());
  const int32_t pid = states_["node1"].pid();
  EXPECT_TRUE(Deploy("c2", {Node("node1", 26204)}).ok());
  EXPECT_EQ(Deploy("c3", {Node("node1", 26206)}).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(states_["node1"].pid(), pid);
  EXPECT_TRUE(Teardown("c4").ok());
}

TEST_F(DeployerTest, KilledNodeIsStartedAgain) {
  ASSERT_TRUE(Deploy("c1", {Node("node1", 26208)}).ok());
  const int32_t pid = states_["node1"].pid();
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  ASSERT_TRUE(UntilState("node1", v1::DEPLOYMENT_STATE_UNHEALTHY));
  EXPECT_THAT(states_["node1"].message(), HasSubstr("killed by signal 9 (SIGKILL); started again in 0.5 s"));
  ASSERT_TRUE(UntilState("node1", v1::DEPLOYMENT_STATE_HEALTHY));
  EXPECT_NE(states_["node1"].pid(), pid);
  EXPECT_EQ(states_["node1"].restarts(), 1u);
  EXPECT_TRUE(Teardown("c2").ok());
}

TEST_F(DeployerTest, NodeThatEndsAtOnceFailsWithItsLastWordsAndTakesTheOthersDown) {
  v1::NodeSpec bad = Node("node2", 26212, {"--fail"});
  bad.set_restart(v1::RESTART_POLICY_NEVER);
  const absl::Status status = Deploy("c1", {Node("node1", 26210), bad});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("node node2: exited with code 3"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("first words | no such disk"));
  EXPECT_TRUE(Ours().empty());
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/stack/node2.log"));
  EXPECT_TRUE(Teardown("c2").ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(DeployerTest, TakenPortNamesItsHolder) {
  ASSERT_TRUE(Deploy("c1", {Node("node1", 26214)}).ok());
  deployer_->Deploy({.command_id = "c2", .deployment = "other", .nodes = {Node("node9", 26214)}});
  const absl::Status status = End("c2");
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr("127.0.0.1:26214 is already taken: held by process "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(states_["node1"].pid(), " (fake_node)")));
  EXPECT_TRUE(Teardown("c3").ok());
}

TEST_F(DeployerTest, NeverHealthyIsKilledAfterItsStartTimeout) {
  v1::NodeSpec node = Node("node1", 26216, {"--unhealthy"});
  node.mutable_health()->mutable_start_timeout()->set_seconds(1);
  node.set_restart(v1::RESTART_POLICY_NEVER);
  const absl::Status status = Deploy("c1", {node});
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr("not healthy within 1 s of its start; last health check: GET http://127.0.0.1:26217/health: HTTP "
                "status 503; last lines of its log: node is up"));
  EXPECT_TRUE(Ours().empty());
}

TEST_F(DeployerTest, DeafNodeAndItsEscapedChildAreKilled) {
  ASSERT_TRUE(Deploy("c1", {Node("node1", 26218, {"--deaf-to-term", "--child"})}).ok());
  ASSERT_TRUE(Until([&] { return Ours().size() >= 3; }));  // node, shell, sleep
  const int64_t start = os::MonotonicNs();
  EXPECT_TRUE(Teardown("c2").ok());
  EXPECT_GE(os::MonotonicNs() - start, 1'000'000'000) << "TERM first, and the time that the node was given";
  EXPECT_TRUE(Ours().empty());
}

TEST_F(DeployerTest, RunningNodesAreTakenOverByTheNextLife) {
  ASSERT_TRUE(Deploy("c1", {Node("node1", 26220), Node("node2", 26222)}).ok());
  const int32_t pid = states_["node1"].pid();
  const int32_t other = states_["node2"].pid();
  deployer_.reset();
  ASSERT_EQ(kill(other, SIGKILL), 0);
  states_.clear();
  Start();
  EXPECT_EQ(deployer_->adopted(), std::vector<std::string>{"stack"});
  ASSERT_TRUE(UntilState("node1", v1::DEPLOYMENT_STATE_HEALTHY));
  EXPECT_EQ(states_["node1"].pid(), pid);
  // The one that ended in between is started again, as its policy says.
  ASSERT_TRUE(UntilState("node2", v1::DEPLOYMENT_STATE_HEALTHY));
  EXPECT_NE(states_["node2"].pid(), other);
  EXPECT_EQ(states_["node2"].restarts(), 1u);
  EXPECT_TRUE(Teardown("c2").ok());
}

TEST_F(DeployerTest, NodeWhoseNumberWasNotWrittenDownIsFoundByItsMark) {
  ASSERT_TRUE(Deploy("c1", {Node("node1", 26224)}).ok());
  const int32_t pid = states_["node1"].pid();
  deployer_.reset();
  Journal journal = *ReadJournal(folder_ + "/stack");
  journal.nodes[0].pid = 0;
  journal.nodes[0].start_ticks = 0;
  ASSERT_TRUE(WriteJournal(folder_ + "/stack", journal).ok());
  states_.clear();
  Start();
  ASSERT_TRUE(UntilState("node1", v1::DEPLOYMENT_STATE_HEALTHY));
  EXPECT_EQ(states_["node1"].pid(), pid);
  EXPECT_TRUE(Teardown("c2").ok());
}

TEST_F(DeployerTest, LeftoversOfAnIncompleteDeploymentAreEnded) {
  ASSERT_TRUE(Deploy("c1", {Node("node1", 26226)}).ok());
  deployer_.reset();
  Journal journal = *ReadJournal(folder_ + "/stack");
  journal.complete = false;
  ASSERT_TRUE(WriteJournal(folder_ + "/stack", journal).ok());
  Start();
  EXPECT_TRUE(deployer_->adopted().empty());
  EXPECT_TRUE(Ours().empty());
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/stack/journal.json"));
}

TEST_F(DeployerTest, DamagedJournalEndsItsProcesses) {
  ASSERT_TRUE(Deploy("c1", {Node("node1", 26228)}).ok());
  deployer_.reset();
  std::ofstream(folder_ + "/stack/journal.json") << "{";
  Start();
  EXPECT_TRUE(deployer_->adopted().empty());
  EXPECT_TRUE(Ours().empty());
}

TEST_F(DeployerTest, StoppedProcessIsUnhealthyButNotEnded) {
  ASSERT_TRUE(Deploy("c1", {Node("node1", 26230)}).ok());
  const int32_t pid = states_["node1"].pid();
  ASSERT_EQ(kill(pid, SIGSTOP), 0);
  ASSERT_TRUE(UntilState("node1", v1::DEPLOYMENT_STATE_UNHEALTHY));
  ASSERT_EQ(kill(pid, SIGCONT), 0);
  ASSERT_TRUE(UntilState("node1", v1::DEPLOYMENT_STATE_HEALTHY));
  EXPECT_EQ(states_["node1"].pid(), pid);
  EXPECT_TRUE(Teardown("c2").ok());
}

TEST_F(DeployerTest, TeardownCancelsADeployInProgress) {
  deployer_->Deploy({.command_id = "c1", .deployment = "stack", .nodes = {Node("node1", 26232, {"--unhealthy"})}});
  EXPECT_TRUE(Teardown("c2").ok());
  EXPECT_EQ(End("c1").code(), absl::StatusCode::kCancelled);
}

TEST_F(DeployerTest, LogIsRotatedWhileItsNodeWrites) {
  ASSERT_TRUE(Deploy("c1", {Node("node1", 26234, {"--talk"})}).ok());
  EXPECT_TRUE(Until([&] { return std::filesystem::exists(folder_ + "/stack/node1.log.1"); }));
  EXPECT_LE(std::filesystem::file_size(folder_ + "/stack/node1.log.1"), 20'000u);
  EXPECT_TRUE(Teardown("c2").ok());
}

TEST_F(DeployerTest, NodeWithoutAnApiIsHealthyWhenItAcceptsConnections) {
  v1::NodeSpec node = Node("node1", 26236);
  node.clear_api_address();  // its command still serves one, nobody asks
  EXPECT_TRUE(Deploy("c1", {node}).ok());
  EXPECT_TRUE(deployer_->Apis("stack")[0].api_address.empty());
  EXPECT_TRUE(Teardown("c2").ok());
}

TEST_F(DeployerTest, MissingProgramSaysSo) {
  v1::NodeSpec node = Node("node1", 26238);
  node.set_command(0, "/nonexistent/server");
  const absl::Status status = Deploy("c1", {node});
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("node node1: cannot start /nonexistent/server"));
}

}  // namespace
}  // namespace loadstar::agent
