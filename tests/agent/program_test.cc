// The program loadstar-agent as a process, with real workers and nodes, against a coordinator that this test plays.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/deployer/node_processes.h"
#include "lib/os/files.h"
#include "lib/os/subprocess.h"
#include "lib/rpc/rpc.h"
#include "loadstar/v1/agent_service.grpc.pb.h"

namespace loadstar::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Takes every report (acknowledged at once, repeats dropped), answers heartbeats, and passes commands on.
class Coordinator final : public v1::AgentService::Service {
 public:
  Coordinator() {
    grpc::ServerBuilder builder;
    rpc::ConfigureServer(&builder);
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
  }
  ~Coordinator() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  grpc::Status Session(grpc::ServerContext*,
                       grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>* stream) override {
    v1::SessionRequest request;
    while (stream->Read(&request)) {
      const std::lock_guard lock(mutex_);
      v1::SessionResponse response;
      if (request.has_hello()) {
        if (request.hello().instance_id() != hello_.instance_id()) taken_ = 0;
        hello_ = request.hello();
        stream_ = stream;
        ++hellos_;
        v1::AgentWelcome* welcome = response.mutable_welcome();
        welcome->set_acknowledged_sequence(taken_);
        for (const std::string& deployment : wanted_) welcome->add_deployments(deployment);
        for (const std::string& run : hello_.active_runs()) welcome->add_active_runs(run);
      } else if (request.has_heartbeat()) {
        response.mutable_heartbeat_reply()->set_agent_monotonic_ns(request.heartbeat().sent_monotonic_ns());
        response.mutable_heartbeat_reply()->set_coordinator_unix_ns(UnixNs());
      } else {
        if (request.report().sequence() == taken_ + 1) {
          ++taken_;
          reports_.push_back(request.report());
        }
        response.mutable_ack()->set_sequence(taken_);
      }
      stream->Write(response);
      changed_.notify_all();
    }
    const std::lock_guard lock(mutex_);
    if (stream_ == stream) stream_ = nullptr;
    return grpc::Status::OK;
  }

  static int64_t UnixNs() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  // The hello after `count` earlier ones.
  v1::AgentHello Hello(int count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(30), [&] { return hellos_ > count; }));
    return hello_;
  }
  void Want(const std::string& deployment) {
    const std::lock_guard lock(mutex_);
    wanted_.push_back(deployment);
  }
  // Waits for a report that fits and returns it; an empty one when none comes.
  v1::Report Await(const std::function<bool(const v1::Report&)>& fits) {
    std::unique_lock lock(mutex_);
    const auto find = [&] { return std::find_if(reports_.begin(), reports_.end(), fits); };
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return find() != reports_.end(); }));
    const auto found = find();
    return found == reports_.end() ? v1::Report() : *found;
  }
  // Sends a command and returns its result.
  google::rpc::Status Do(v1::Command command) {
    const std::string id = absl::StrCat("c", ++commands_);
    command.set_command_id(id);
    {
      const std::lock_guard lock(mutex_);
      EXPECT_NE(stream_, nullptr);
      v1::SessionResponse response;
      *response.mutable_command() = std::move(command);
      if (stream_ != nullptr) stream_->Write(response);
    }
    return Await([&](const v1::Report& report) { return report.command_result().command_id() == id; })
        .command_result()
        .status();
  }
  std::vector<v1::Report> reports() {
    const std::lock_guard lock(mutex_);
    return reports_;
  }

 private:
  int port_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  v1::AgentHello hello_;
  int hellos_ = 0;
  int commands_ = 0;  // the test's thread's
  uint64_t taken_ = 0;
  std::vector<v1::Report> reports_;
  std::vector<std::string> wanted_;
  grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>* stream_ = nullptr;
  std::unique_ptr<grpc::Server> server_;
};

class ProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "loadstar-agent-XXXXXX";
    folder_ = std::filesystem::canonical(mkdtemp(pattern.data())).string();
  }
  void TearDown() override {
    if (agent_.pidfd && !os::PollExit(agent_.pidfd, false)) {
      kill(agent_.pid, SIGKILL);
      WaitForExit();
    }
    for (const NodeProcess& process : Ours()) {
      ADD_FAILURE() << "left behind: " << process.pid << " " << process.mark;
      SignalProcess(os::Proc(), process, SIGKILL);
    }
    if (HasFailure()) {
      std::ifstream log(folder_ + "/agent.log");
      fprintf(stderr, "%s\n", std::string(std::istreambuf_iterator<char>(log), {}).c_str());
    }
    std::filesystem::remove_all(folder_);
  }
  void Start(const std::string& coordinator, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"--coordinator", coordinator, "--state", folder_ + "/state"};
    if (more.empty()) arguments.insert(arguments.end(), {"--name", "agent1"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    const absl::StatusOr<os::Fd> log = os::OpenForAppend(folder_ + "/agent.log");
    ASSERT_TRUE(log.ok()) << log.status();
    absl::StatusOr<os::Child> child = os::Spawn({.program = LOADSTAR_BIN_DIR "/loadstar-agent",
                                                 .arguments = arguments,
                                                 .environment = {"PATH=/usr/bin:/bin"},
                                                 .stdout_fd = log->get(),
                                                 .stderr_fd = log->get()});
    ASSERT_TRUE(child.ok()) << child.status();
    agent_ = *std::move(child);
  }
  os::Exit WaitForExit() {
    pollfd poller{.fd = agent_.pidfd.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(poll(&poller, 1, 30'000), 1);
    const os::Exit exit = os::PollExit(agent_.pidfd, true).value_or(os::Exit{});
    agent_.pidfd.Reset();
    return exit;
  }
  std::string Log() const { return os::TailOfFile(folder_ + "/agent.log", 100, 100'000); }
  std::vector<NodeProcess> Ours() const {
    std::vector<NodeProcess> ours;
    for (NodeProcess& process : ScanProcesses(os::Proc())) {
      if (absl::StartsWith(process.mark, folder_ + "/")) ours.push_back(std::move(process));
    }
    return ours;
  }
  static v1::Command DeployCommand(int port) {
    v1::Command command;
    v1::DeployNodes* deploy = command.mutable_deploy_nodes();
    deploy->set_deployment("stack");
    for (int i = 0; i < 2; ++i) {
      v1::NodeSpec* node = deploy->add_nodes();
      node->set_name(absl::StrCat("node", i + 1));
      node->set_role("worker");
      node->set_listen_address(absl::StrCat("127.0.0.1:", port + i));
      node->set_api_address(absl::StrCat("127.0.0.1:", port + 10 + i));
      node->set_processes(1);
      node->set_restart(v1::RESTART_POLICY_ALWAYS);
    }
    return command;
  }

  // 40 connections for 4 s, 200 requests/s in all, two workers.
  static v1::Command PrepareCommand(const std::vector<std::string>& endpoints) {
    v1::Command prepare;
    v1::PrepareRun* run = prepare.mutable_prepare_run();
    run->set_run_id("r");
    run->mutable_test()->set_name("t");
    run->mutable_test()->mutable_target()->set_protocol(v1::PROTOCOL_TCP);
    run->mutable_test()->mutable_target()->mutable_tcp()->set_payload_bytes(64);
    v1::LoadSpec* load = run->mutable_test()->mutable_load();
    for (int hold = 0; hold < 2; ++hold) {
      v1::Stage* stage = load->add_connections();
      stage->mutable_duration()->set_seconds(hold == 0 ? 1 : 3);
      stage->set_to_connections(40);
      stage->set_hold(hold == 1);
    }
    load->mutable_connect_timeout()->set_seconds(10);
    load->mutable_requests()->set_model(v1::REQUEST_MODEL_OPEN);
    load->mutable_requests()->set_rate_per_s(200);
    load->mutable_requests()->set_rate_scope(v1::RATE_SCOPE_TOTAL);
    load->mutable_requests()->set_arrival(v1::ARRIVAL_CONSTANT);
    load->mutable_requests()->mutable_timeout()->set_seconds(5);
    load->mutable_requests()->set_pipeline(1);
    for (const std::string& endpoint : endpoints) {
      run->add_endpoints(endpoint);
      run->add_nodes(absl::StrCat("node", run->nodes_size() + 1));
    }
    run->set_worker_count(2);
    run->set_workers_total(2);
    run->set_observe_deployment("stack");
    return prepare;
  }

  std::string folder_;
  os::Child agent_;
};

TEST_F(ProgramTest, RefusesWhatItMayNotDo) {
  const struct {
    const char* coordinator;
    std::vector<std::string> arguments;
    const char* text;
  } cases[] = {
      {"192.0.2.1:7400", {}, "--insecure"},
      {"127.0.0.1:7400", {"--name", "Not A Name"}, "--name"},
      {"127.0.0.1:7400", {"--allow-target", "everywhere"}, "--allow-target"},
      {"127.0.0.1:7400", {"--allow-program", "./x"}, "--allow-program"},
      {"127.0.0.1:7400", {"--no-such-flag"}, "--no-such-flag"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    Start(c.coordinator, c.arguments);
    EXPECT_EQ(os::ToString(WaitForExit()), "exited with code 2");
    EXPECT_THAT(Log(), HasSubstr(c.text));
  }
}

TEST_F(ProgramTest, SecondAgentOnTheSameStateIsRefused) {
  Coordinator coordinator;
  Start(coordinator.address());
  EXPECT_EQ(coordinator.Hello(0).name(), "agent1");
  os::Child first = std::move(agent_);
  Start(coordinator.address());
  EXPECT_EQ(os::ToString(WaitForExit()), "exited with code 4");
  EXPECT_THAT(Log(), HasSubstr(absl::StrCat("in use by process ", first.pid)));
  agent_ = std::move(first);
  kill(agent_.pid, SIGTERM);
  EXPECT_TRUE(WaitForExit().clean());
}

TEST_F(ProgramTest, RefusesLoadAndProgramsThatItsHostDoesNotAllow) {
  Coordinator coordinator;
  Start(coordinator.address());
  coordinator.Hello(0);
  const google::rpc::Status run = coordinator.Do(PrepareCommand({"127.0.0.1:26440", "192.0.2.1:9100"}));
  EXPECT_EQ(run.code(), static_cast<int>(absl::StatusCode::kPermissionDenied)) << run.message();
  v1::Command deploy = DeployCommand(26440);
  deploy.mutable_deploy_nodes()->mutable_nodes(0)->add_command("/bin/sh");
  const google::rpc::Status nodes = coordinator.Do(deploy);
  EXPECT_EQ(nodes.code(), static_cast<int>(absl::StatusCode::kPermissionDenied)) << nodes.message();
  kill(agent_.pid, SIGTERM);
  EXPECT_TRUE(WaitForExit().clean());
}

TEST_F(ProgramTest, DeployedNodesOutliveTheirAgentAndAreTakenOver) {
  Coordinator coordinator;
  Start(coordinator.address());
  EXPECT_TRUE(coordinator.Hello(0).deployments().empty());
  const google::rpc::Status deployed = coordinator.Do(DeployCommand(26400));
  ASSERT_EQ(deployed.code(), 0) << deployed.message();
  coordinator.Want("stack");
  const size_t processes = Ours().size();
  EXPECT_GE(processes, 2u);
  kill(agent_.pid, SIGKILL);
  WaitForExit();
  EXPECT_EQ(Ours().size(), processes);
  Start(coordinator.address());
  EXPECT_THAT(coordinator.Hello(1).deployments(), ElementsAre("stack"));
  v1::Command teardown;
  teardown.mutable_teardown_nodes()->set_deployment("stack");
  EXPECT_EQ(coordinator.Do(teardown).code(), 0);
  EXPECT_TRUE(Ours().empty());
  kill(agent_.pid, SIGTERM);
  EXPECT_TRUE(WaitForExit().clean());
}

TEST_F(ProgramTest, RunsALoadOnItsNodesAndReportsEverySecond) {
  Coordinator coordinator;
  Start(coordinator.address());
  coordinator.Hello(0);
  const google::rpc::Status deployed = coordinator.Do(DeployCommand(26420));
  ASSERT_EQ(deployed.code(), 0) << deployed.message();

  const v1::Command prepare = PrepareCommand({"127.0.0.1:26420", "127.0.0.1:26421"});
  const google::rpc::Status prepared = coordinator.Do(prepare);
  ASSERT_EQ(prepared.code(), 0) << prepared.message();
  v1::Command start;
  start.mutable_start_run()->set_run_id("r");
  start.mutable_start_run()->set_start_unix_ns(Coordinator::UnixNs() + 1'000'000'000);
  ASSERT_EQ(coordinator.Do(start).code(), 0);
  coordinator.Await([](const v1::Report& report) { return report.has_run_finished(); });

  uint64_t sent = 0;
  uint64_t answered = 0;
  uint64_t peak = 0;
  uint64_t seen_by_nodes = 0;
  for (const v1::Report& report : coordinator.reports()) {
    if (!report.has_sample()) continue;
    const v1::AgentSample& sample = report.sample();
    EXPECT_EQ(sample.workers_merged(), sample.workers_expected());
    sent += sample.figures().counters().requests_sent();
    answered += sample.figures().counters().requests_answered();
    peak = std::max(peak, sample.figures().gauges().connections_established());
    uint64_t connections = 0;
    for (const v1::NodeFigures& node : sample.nodes()) connections += node.connections();
    seen_by_nodes = std::max(seen_by_nodes, connections);
  }
  EXPECT_EQ(peak, 40u);
  EXPECT_EQ(seen_by_nodes, 40u);
  EXPECT_GT(sent, 300u);
  EXPECT_EQ(sent, answered);

  v1::Command teardown;
  teardown.mutable_teardown_nodes()->set_deployment("stack");
  EXPECT_EQ(coordinator.Do(teardown).code(), 0);
  kill(agent_.pid, SIGTERM);
  EXPECT_TRUE(WaitForExit().clean());
}

}  // namespace
}  // namespace loadstar::agent
