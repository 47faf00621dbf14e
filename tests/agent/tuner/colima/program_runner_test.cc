#include "agent/tuner/colima/program_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "lib/os/clock.h"

namespace loadstar::agent {
namespace {

using ::testing::HasSubstr;

class ProgramRunnerTest : public ::testing::Test {
 protected:
  absl::StatusOr<ProgramResult> Shell(const std::string& script, absl::Duration patience = absl::Seconds(30)) {
    return runner_->Run({.program = "/bin/sh", .arguments = {"-c", script}, .patience = patience});
  }
  const std::unique_ptr<ProgramRunner> runner_ = MakeProgramRunner({"PATH=relative::/nowhere:/bin", "COLOUR=blue"});
};

TEST_F(ProgramRunnerTest, ProgramsAreFoundInAbsoluteFoldersOfPath) {
  EXPECT_EQ(*runner_->Find("sh"), "/bin/sh");
  EXPECT_EQ(runner_->Find("no-such-program").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ProgramRunnerTest, ResultsAreBothStreamsAndTheExit) {
  const auto result = Shell("echo $COLOUR; echo bad >&2; exit 3");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->out, "blue\n");
  EXPECT_EQ(result->err, "bad\n");
  EXPECT_EQ(result->exit.number, 3);
}

TEST_F(ProgramRunnerTest, ArgumentsReachNoShell) {
  const auto result = runner_->Run({.program = "/bin/echo", .arguments = {"a  b", "$COLOUR", "`id`", "; exit 1", ""}});
  EXPECT_EQ(result->out, "a  b $COLOUR `id` ; exit 1 \n");
}

TEST_F(ProgramRunnerTest, ADaemonThatKeepsTheStreamsIsNotWaitedFor) {
  const int64_t began_ns = os::MonotonicNs();
  const auto result = Shell("setsid sleep 20 & echo up");
  EXPECT_EQ(result->out, "up\n");
  EXPECT_LT(os::MonotonicNs() - began_ns, 15'000'000'000);
}

TEST_F(ProgramRunnerTest, WhatTakesTooLongIsEndedWithItsChildren) {
  const auto result = Shell("sleep 61 & echo $!; wait", absl::Milliseconds(300));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("did not end within 300ms"));
}

TEST_F(ProgramRunnerTest, EndlessOutputIsCutOff) {
  EXPECT_EQ(Shell("yes").status().code(), absl::StatusCode::kResourceExhausted);
  const auto result = Shell("yes | head -c 3000000 >&2; echo end >&2");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->err.size(), 16U << 10);
  EXPECT_TRUE(result->err.ends_with("y\nend\n"));
}

TEST_F(ProgramRunnerTest, ASignalEndsTheProgramAndNotTheCaller) {
  // Blocked in all threads, as it would otherwise end this process in the moment before the program runs.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread interrupter([] {
    usleep(300'000);
    kill(getpid(), SIGTERM);
  });
  const auto result = Shell("sleep 30");
  interrupter.join();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
}

TEST(ProgramRunnerStopTest, ADescriptorEndsTheProgramAndLeavesSignalsAlone) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const std::unique_ptr<ProgramRunner> runner = MakeProgramRunner({"PATH=/bin"}, ends[0]);
  EXPECT_EQ(runner->Run({.program = "/bin/echo", .arguments = {"a"}})->out, "a\n");
  const int64_t began_ns = os::MonotonicNs();
  std::thread stopper([&] {
    usleep(200'000);
    EXPECT_EQ(write(ends[1], "x", 1), 1);
  });
  const auto ended = runner->Run({.program = "/bin/sleep", .arguments = {"20"}});
  stopper.join();
  EXPECT_EQ(ended.status().code(), absl::StatusCode::kCancelled);
  EXPECT_LT(os::MonotonicNs() - began_ns, 15'000'000'000);
  EXPECT_EQ(runner->Run({.program = "/bin/echo", .arguments = {"a"}}).status().code(), absl::StatusCode::kCancelled)
      << "also what comes after it";
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace loadstar::agent
