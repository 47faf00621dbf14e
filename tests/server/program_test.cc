// loadstar-coordinator as a process: its exits, its line when ready, and how it lives through a lack of descriptors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "lib/os/fd.h"
#include "lib/os/ports.h"
#include "lib/rpc/rpc.h"
#include "loadstar/v1/agent_service.grpc.pb.h"
#include "loadstar/v1/coordinator_service.grpc.pb.h"
#include "server/service/probe.h"
#include "tests/server/temporary_folder.h"

extern char** environ;

namespace loadstar::server {
namespace {

using ::testing::HasSubstr;

class Program {
 public:
  // With a limit of descriptors if it is not 0.
  explicit Program(std::vector<std::string> arguments, rlim_t descriptors = 0) {
    int out[2];
    int err[2];
    if (pipe(out) != 0 || pipe(err) != 0) return;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    for (int fd : {out[0], out[1], err[0], err[1]}) posix_spawn_file_actions_addclose(&actions, fd);
    arguments.insert(arguments.begin(), std::string(LOADSTAR_BIN_DIR) + "/loadstar-coordinator");
    if (descriptors > 0) {
      const std::string limit = "--nofile=" + std::to_string(descriptors);
      arguments.insert(arguments.begin(), {"/usr/bin/prlimit", limit});
    }
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ) != 0) pid_ = 0;
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    out_.Reset(out[0]);
    err_.Reset(err[0]);
  }
  ~Program() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    Wait();
  }

  pid_t pid() const { return pid_; }
  // The address of its first line, empty when it ended before.
  std::string WaitUntilReady() {
    std::string line;
    while (line.find('\n') == std::string::npos && Readable(out_, 30'000)) {
      char byte = 0;
      if (read(out_.get(), &byte, 1) != 1) break;
      line.push_back(byte);
    }
    const std::string key = "listening=";
    const size_t at = line.find(key);
    return at == std::string::npos ? "" : line.substr(at + key.size(), line.find(' ', at) - at - key.size());
  }
  // Exit code; 128 + number of the signal.
  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string ErrorText() {
    std::string text;
    char block[4096];
    ssize_t got = 0;
    while (Readable(err_, 1000) && (got = read(err_.get(), block, sizeof(block))) > 0) text.append(block, got);
    return text;
  }

 private:
  static bool Readable(const os::Fd& fd, int within_ms) {
    pollfd watched{fd.get(), POLLIN, 0};
    return poll(&watched, 1, within_ms) > 0;
  }
  pid_t pid_ = 0;
  os::Fd out_, err_;
};

os::Fd Connect(const std::string& address) {
  const auto resolved = os::Resolve(address);
  os::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!resolved.ok() || connect(fd.get(), resolved->get(), resolved->length) != 0) return {};
  return fd;
}

v1::ListRunsResponse ListRuns(const std::string& address, absl::Status* status) {
  auto stub = v1::CoordinatorService::NewStub(rpc::MakeChannel(address));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  context.set_wait_for_ready(true);
  v1::ListRunsResponse response;
  *status = rpc::FromGrpc(stub->ListRuns(&context, {}, &response));
  return response;
}

TEST(Program, BadFlagsAndAddressesAreExit2WithTheRemedy) {
  TemporaryFolder folder;
  Program unknown({"--nonsense"});
  EXPECT_EQ(unknown.Wait(), 2);
  Program no_state({"--listen", "127.0.0.1:0"});
  EXPECT_EQ(no_state.Wait(), 2);
  Program open({"--listen", "0.0.0.0:0", "--state", folder.path()});
  EXPECT_THAT(open.ErrorText(), HasSubstr("--insecure"));
  EXPECT_EQ(open.Wait(), 2);
}

TEST(Program, ServesBeyondLoopbackWhenToldTo) {
  TemporaryFolder folder;
  Program program({"--listen", "0.0.0.0:0", "--insecure", "--state", folder.path()});
  EXPECT_THAT(program.WaitUntilReady(), HasSubstr("0.0.0.0:"));
}

TEST(Program, ATakenPortIsExit4NamingTheAddressAndTheHolder) {
  TemporaryFolder first_folder, second_folder;
  Program first({"--listen", "127.0.0.1:0", "--state", first_folder.path()});
  const std::string address = first.WaitUntilReady();
  ASSERT_FALSE(address.empty());
  Program second({"--listen", address, "--state", second_folder.path()});
  const std::string error = second.ErrorText();
  EXPECT_EQ(second.Wait(), 4);
  EXPECT_THAT(error, HasSubstr(address));
  EXPECT_THAT(error, HasSubstr(std::to_string(first.pid())));
}

TEST(Program, ATakenStateFolderIsExit4) {
  TemporaryFolder folder;
  Program first({"--listen", "127.0.0.1:0", "--state", folder.path()});
  ASSERT_FALSE(first.WaitUntilReady().empty());
  Program second({"--listen", "127.0.0.1:0", "--state", folder.path()});
  EXPECT_THAT(second.ErrorText(), HasSubstr(folder.path()));
  EXPECT_EQ(second.Wait(), 4);
}

TEST(Program, TermEndsItCleanlyAndSoon) {
  TemporaryFolder folder;
  Program program({"--listen", "127.0.0.1:0", "--state", folder.path()});
  const std::string address = program.WaitUntilReady();
  ASSERT_FALSE(address.empty());
  absl::Status status;
  ListRuns(address, &status);
  EXPECT_TRUE(status.ok()) << status;
  const absl::Time begin = absl::Now();
  kill(program.pid(), SIGTERM);
  EXPECT_EQ(program.Wait(), 0);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
}

// gRPC 1.51 stops accepting for good when accept() once met the limit of descriptors.
TEST(Program, AcceptsAgainWithinSecondsAfterItRanOutOfDescriptors) {
  TemporaryFolder folder;
  Program program({"--listen", "127.0.0.1:0", "--state", folder.path()}, 128);
  const std::string address = program.WaitUntilReady();
  ASSERT_FALSE(address.empty());
  {
    std::vector<os::Fd> crowd;
    crowd.reserve(300);
    for (int i = 0; i < 300; ++i) crowd.push_back(Connect(address));
    // Until nobody speaks to a newcomer any more.
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    ProbeResult result = ProbeResult::kAlive;
    while (result == ProbeResult::kAlive && absl::Now() < deadline) {
      result = ProbeListener(address, absl::Milliseconds(200));
    }
    ASSERT_NE(result, ProbeResult::kAlive) << "300 connections did not exhaust 128 descriptors";
  }
  const absl::Time released = absl::Now();
  bool alive = false;
  while (!alive && absl::Now() - released < absl::Seconds(20)) {
    alive = ProbeListener(address, absl::Milliseconds(200)) == ProbeResult::kAlive;
  }
  EXPECT_TRUE(alive);
  EXPECT_LT(absl::Now() - released, absl::Seconds(5));
  absl::Status status;
  ListRuns(address, &status);
  EXPECT_TRUE(status.ok()) << status;
}

// A size-limited tmpfs as the disk: agents' hellos and calls while it is full, and after room was made.
TEST(Program, AFullDiskRefusesCallsAndARoomierOneTakesThemAgain) {
  TemporaryFolder folder;
  if (mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=1m") != 0) GTEST_SKIP() << "no right to mount a tmpfs";
  struct Unmount {
    const std::string& path;
    ~Unmount() { umount2(path.c_str(), MNT_DETACH); }
  } unmount{folder.path()};
  {
    Program program({"--listen", "127.0.0.1:0", "--state", folder.path()});
    const std::string address = program.WaitUntilReady();
    ASSERT_FALSE(address.empty());
    // An agent, so that Deploy has something to record.
    auto agents = v1::AgentService::NewStub(rpc::MakeChannel(address));
    grpc::ClientContext session_context;
    auto session = agents->Session(&session_context);
    v1::SessionRequest hello;
    hello.mutable_hello()->set_name("host1");
    hello.mutable_hello()->set_instance_id("i1");
    ASSERT_TRUE(session->Write(hello));
    v1::SessionResponse welcome;
    ASSERT_TRUE(session->Read(&welcome));
    const std::string filler = folder.path() + "/filler";
    {
      std::ofstream file(filler, std::ios::binary);
      const std::string block(4096, 'x');
      while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
      }
    }
    auto stub = v1::CoordinatorService::NewStub(rpc::MakeChannel(address));
    v1::DeployRequest request;
    request.mutable_stack()->set_name("stack");
    request.mutable_stack()->set_runtime(v1::RUNTIME_PROCESS);
    v1::NodeSpec* node = request.mutable_stack()->add_nodes();
    node->set_name("node1");
    node->set_listen_address("127.0.0.1:25002");
    node->add_environment("PADDING=" + std::string(3000, 'x'));
    const auto deploy = [&] {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
      auto reader = stub->Deploy(&context, request);
      v1::DeployResponse response;
      if (reader->Read(&response)) {
        context.TryCancel();  // it was recorded and begun
        reader->Finish();
        return absl::OkStatus();
      }
      return rpc::FromGrpc(reader->Finish());
    };
    const absl::Status refused = deploy();
    EXPECT_TRUE(absl::IsResourceExhausted(refused) || absl::IsUnavailable(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("make room"));
    ASSERT_EQ(unlink(filler.c_str()), 0);
    v1::ListDeploymentsResponse deployments;
    absl::Status listed = absl::UnknownError("never asked");
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    while (!listed.ok() && absl::Now() < deadline) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
      listed = rpc::FromGrpc(stub->ListDeployments(&context, {}, &deployments));
      absl::SleepFor(absl::Milliseconds(50));
    }
    EXPECT_TRUE(listed.ok()) << listed;
    session_context.TryCancel();
    session->Finish().ok();
  }
}

}  // namespace
}  // namespace loadstar::server
