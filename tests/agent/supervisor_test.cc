#include "agent/supervisor/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <string>
#include <vector>

#include "lib/os/clock.h"
#include "lib/os/files.h"
#include "lib/os/proc.h"

namespace loadstar::agent {
namespace {

using testing::HasSubstr;

class SupervisorTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "loadstar-supervisor-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    Start(FAKE_WORKER);
  }
  void TearDown() override {
    supervisor_.reset();
    EXPECT_TRUE(Children().empty());
    std::filesystem::remove_all(folder_);
  }
  void Start(const std::string& program) {
    supervisor_.reset();
    auto made = Supervisor::Create({.program = program,
                                    .log_folder = folder_ + "/logs",
                                    .log_max_bytes = 100'000,
                                    .logs_kept = 3,
                                    .queue_max_bytes = 1 << 20},
                                   [this](Input input) { inbox_.Push(std::move(input)); });
    ASSERT_TRUE(made.ok()) << made.status();
    supervisor_ = *std::move(made);
  }
  void SpawnWith(WorkerId worker, const std::string& task) {
    supervisor_->Spawn(worker);
    v1::AgentToWorker message;
    message.mutable_plan()->set_run_id(task);
    supervisor_->Send(worker, message);
  }
  // The next input, or a Tick when none comes in time.
  Input Next() {
    while (pending_.empty()) {
      std::vector<Input> inputs;
      const int64_t until = os::MonotonicNs() + 15'000'000'000;
      while (inputs.empty() && os::MonotonicNs() < until) inbox_.Take(until, &inputs);
      if (inputs.empty()) return Tick{};
      pending_.insert(pending_.end(), std::make_move_iterator(inputs.begin()), std::make_move_iterator(inputs.end()));
    }
    Input input = std::move(pending_.front());
    pending_.erase(pending_.begin());
    return input;
  }
  void ExpectReady(const std::string& task) {
    const Input input = Next();
    const auto* said = std::get_if<WorkerSaid>(&input);
    ASSERT_NE(said, nullptr);
    EXPECT_EQ(said->message.ready().backend(), task);
  }
  WorkerExited ExpectExit() {
    const Input input = Next();
    const auto* exited = std::get_if<WorkerExited>(&input);
    EXPECT_NE(exited, nullptr);
    return exited == nullptr ? WorkerExited{} : *exited;
  }
  static std::vector<pid_t> Children() {
    std::vector<pid_t> children;
    const os::Proc proc;
    for (pid_t pid : proc.Pids()) {
      const auto stat = proc.Stat(pid);
      if (stat.ok() && stat->parent == getpid()) children.push_back(pid);
    }
    return children;
  }

  std::string folder_;
  Inbox inbox_{100};
  std::vector<Input> pending_;
  std::unique_ptr<Supervisor> supervisor_;
};

TEST_F(SupervisorTest, DeliversEverythingAWorkerSaidBeforeItsEnd) {
  SpawnWith(1, "finish");
  ExpectReady("finish");
  for (uint32_t second = 0; second < 200; ++second) {
    const Input input = Next();
    ASSERT_TRUE(std::holds_alternative<WorkerSaid>(input));
    EXPECT_EQ(std::get<WorkerSaid>(input).message.sample().elapsed_s(), second);
  }
  EXPECT_TRUE(std::get<WorkerSaid>(Next()).message.has_finished());
  const WorkerExited exited = ExpectExit();
  EXPECT_EQ(exited.worker, 1u);
  EXPECT_TRUE(exited.clean);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/logs/worker-1.log"));
}

TEST_F(SupervisorTest, CrashIsNamedWithTheLastWords) {
  SpawnWith(1, "crash");
  ExpectReady("crash");
  const WorkerExited exited = ExpectExit();
  EXPECT_FALSE(exited.clean);
  EXPECT_THAT(exited.cause, HasSubstr("assertion failed: x > 0"));
}

TEST_F(SupervisorTest, ExitCodeIsNamed) {
  SpawnWith(1, "code");
  ExpectReady("code");
  EXPECT_EQ(ExpectExit().cause, "exited with code 7");
}

TEST_F(SupervisorTest, KilledWorkerIsReportedOnce) {
  SpawnWith(1, "wait");
  ExpectReady("wait");
  supervisor_->Kill(1);
  supervisor_->Kill(1);
  EXPECT_EQ(ExpectExit().cause, "killed by signal 9 (SIGKILL)");
  // Unknown by now: neither crashes nor reports again.
  supervisor_->Kill(1);
  supervisor_->Send(1, v1::AgentToWorker());
  SpawnWith(2, "code");
  ExpectReady("code");
}

TEST_F(SupervisorTest, GarbageEndsTheWorker) {
  SpawnWith(1, "garbage");
  ExpectReady("garbage");
  EXPECT_THAT(ExpectExit().cause, HasSubstr("by its agent: it sent a message of 4294967295 bytes"));
}

TEST_F(SupervisorTest, ClosedChannelWithoutAnEndIsEnded) {
  SpawnWith(1, "close");
  ExpectReady("close");
  EXPECT_THAT(ExpectExit().cause, HasSubstr("it closed its channel and did not end"));
}

TEST_F(SupervisorTest, WorkerThatDoesNotReadIsEndedAndMemoryIsBounded) {
  SpawnWith(1, "deaf");
  ExpectReady("deaf");
  v1::AgentToWorker large;
  large.mutable_plan()->set_run_id(std::string(200'000, 'x'));
  for (int i = 0; i < 20; ++i) supervisor_->Send(1, large);
  EXPECT_THAT(ExpectExit().cause, HasSubstr("it did not read what it was sent"));
}

TEST_F(SupervisorTest, MissingProgramIsAnExit) {
  Start("/nonexistent/loadstar-worker");
  supervisor_->Spawn(1);
  const WorkerExited exited = ExpectExit();
  EXPECT_FALSE(exited.clean);
  EXPECT_THAT(exited.cause, HasSubstr("could not be started: cannot start /nonexistent/loadstar-worker"));
}

TEST_F(SupervisorTest, EndTakesEveryWorkerWithIt) {
  for (WorkerId worker = 1; worker <= 5; ++worker) SpawnWith(worker, "wait");
  for (int i = 0; i < 5; ++i) Next();
  EXPECT_EQ(Children().size(), 5u);
  supervisor_.reset();
  EXPECT_TRUE(Children().empty());
}

TEST_F(SupervisorTest, LogsAreBoundedInSizeAndNumber) {
  SpawnWith(1, "chatty");
  ExpectReady("chatty");
  const int64_t until = os::MonotonicNs() + 15'000'000'000;
  while (os::MonotonicNs() < until && !std::filesystem::exists(folder_ + "/logs/worker-1.log.1")) usleep(50'000);
  EXPECT_LE(std::filesystem::file_size(folder_ + "/logs/worker-1.log.1"), 100'000u);
  EXPECT_LE(std::filesystem::file_size(folder_ + "/logs/worker-1.log"), 100'000u);
  supervisor_->Kill(1);
  ExpectExit();
  for (WorkerId worker = 2; worker <= 9; ++worker) {
    SpawnWith(worker, "crash");
    ExpectReady("crash");
    ExpectExit();
  }
  size_t logs = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_ + "/logs")) ++logs;
  EXPECT_LE(logs, 4u);
}

}  // namespace
}  // namespace loadstar::agent
