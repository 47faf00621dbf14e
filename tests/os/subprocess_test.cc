#include "lib/os/subprocess.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>

#include <filesystem>
#include <string>

namespace loadstar::os {
namespace {

struct Pipe {
  Fd read;
  Fd write;
  Pipe() {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    read.Reset(ends[0]);
    write.Reset(ends[1]);
  }
};

std::string ReadAll(int fd) {
  std::string all;
  char buffer[4096];
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) all.append(buffer, static_cast<size_t>(got));
  return all;
}

SpawnOptions Shell(const std::string& script) {
  return {.program = "/bin/sh", .arguments = {"-c", script}, .environment = {"PATH=/usr/bin:/bin"}};
}

Exit WaitFor(const Child& child) {
  pollfd poller{.fd = child.pidfd.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&poller, 1, 10'000), 1);
  return PollExit(child.pidfd, true).value_or(Exit{});
}

TEST(Spawn, ReportsExitCodeAndOutput) {
  Pipe out;
  SpawnOptions options = Shell("echo $GREETING; exit 3");
  options.environment.push_back("GREETING=hello");
  options.stdout_fd = out.write.get();
  absl::StatusOr<Child> child = Spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  out.write.Reset();
  EXPECT_EQ(ReadAll(out.read.get()), "hello\n");
  EXPECT_EQ(ToString(WaitFor(*child)), "exited with code 3");
}

TEST(Spawn, GivesTheChildTheNamedDescriptorsAndNoOther) {
  Pipe out;
  Pipe extra;
  Fd leaky(open("/dev/null", O_RDONLY));  // not close-on-exec, as a library may leave one
  SpawnOptions options = Shell("echo to-three >&3; ls /proc/self/fd");
  options.stdout_fd = out.write.get();
  options.inherit = {extra.write.get()};
  absl::StatusOr<Child> child = Spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  out.write.Reset();
  extra.write.Reset();
  // 0 to 2, the inherited 3, and the one with which ls reads the folder.
  EXPECT_EQ(ReadAll(out.read.get()), "0\n1\n2\n3\n4\n");
  EXPECT_EQ(ReadAll(extra.read.get()), "to-three\n");
  EXPECT_TRUE(WaitFor(*child).clean());
}

TEST(Spawn, InheritedDescriptorsSurviveOverlappingNumbers) {
  // The second source has the number that the first target wants.
  Pipe first;
  Pipe second;
  Pipe out;
  Fd low(fcntl(second.write.get(), F_DUPFD_CLOEXEC, 3));
  SpawnOptions options = Shell("echo one >&3; echo two >&4");
  options.inherit = {first.write.get(), low.get()};
  absl::StatusOr<Child> child = Spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  first.write.Reset();
  second.write.Reset();
  low.Reset();
  EXPECT_EQ(ReadAll(first.read.get()), "one\n");
  EXPECT_EQ(ReadAll(second.read.get()), "two\n");
  WaitFor(*child);
}

TEST(Spawn, MissingProgramIsAnErrorWithItsName) {
  const absl::StatusOr<Child> child = Spawn({.program = "/nonexistent/program"});
  EXPECT_EQ(child.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(child.status().message().find("/nonexistent/program"), std::string::npos);
}

TEST(Spawn, ChildLeadsItsOwnGroupWithDefaultSignals) {
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  absl::StatusOr<Child> child = Spawn(Shell("sleep 30"));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(getpgid(child->pid), child->pid);
  ASSERT_EQ(kill(-child->pid, SIGTERM), 0);
  EXPECT_EQ(ToString(WaitFor(*child)), "killed by signal 15 (SIGTERM)");
}

TEST(PollExit, LeavesAZombieWhenNotAskedToReap) {
  absl::StatusOr<Child> child = Spawn(Shell("exit 0"));
  ASSERT_TRUE(child.ok()) << child.status();
  pollfd poller{.fd = child->pidfd.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(poll(&poller, 1, 10'000), 1);
  EXPECT_TRUE(PollExit(child->pidfd, false).has_value());
  EXPECT_EQ(kill(child->pid, 0), 0);
  EXPECT_TRUE(PollExit(child->pidfd, true)->clean());
  EXPECT_EQ(kill(child->pid, 0), -1);
}

TEST(PollExit, SaysNothingOfALivingProcessThatIsNoChild) {
  absl::StatusOr<Fd> parent = OpenProcess(getppid());
  ASSERT_TRUE(parent.ok()) << parent.status();
  EXPECT_FALSE(PollExit(*parent, true).has_value());
}

}  // namespace
}  // namespace loadstar::os
