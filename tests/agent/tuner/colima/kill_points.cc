#include "tests/agent/tuner/colima/kill_points.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

namespace loadstar::agent {
namespace {

constexpr int kKilled = 77;

struct Plan {
  int steps_left = 0;
  KilledWhen when = KilledWhen::kBefore;
  const std::function<void()>* last_words = nullptr;
};
// Set in the child alone, which has one thread.
Plan* plan = nullptr;

[[noreturn]] void End(int code) {
  const Plan* ended = plan;
  plan = nullptr;  // what follows is the test's
  (*ended->last_words)();
  _exit(code);
}

// `half` does the first half, where there is one.
template <typename Act, typename Half>
auto Count(const Act& act, const Half& half) {
  if (plan == nullptr) return act();
  const bool last = plan->steps_left-- == 0;
  if (last && plan->when == KilledWhen::kBefore) End(kKilled);
  if (last && plan->when == KilledWhen::kHalfWay) {
    half();
    End(kKilled);
  }
  const auto result = act();
  if (last) End(kKilled);
  return result;
}
template <typename Act>
auto Count(const Act& act) {
  return Count(act, act);
}

}  // namespace

bool SurvivesStep(int step, KilledWhen when, const std::function<void()>& work,
                  const std::function<void()>& last_words) {
  const pid_t child = fork();
  if (child == 0) {
    Plan mine = {.steps_left = step, .when = when, .last_words = &last_words};
    plan = &mine;
    work();
    End(0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << status;
  EXPECT_TRUE(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == kKilled) << status;
  return WEXITSTATUS(status) != kKilled;
}

void Step(const std::function<void()>& act) {
  Count([&act] {
    act();
    return 0;
  });
}

}  // namespace loadstar::agent

extern "C" {

// NOLINTBEGIN(readability-identifier-naming): the C library's names.
ssize_t write(int fd, const void* bytes, size_t count) {
  return loadstar::agent::Count([=] { return syscall(SYS_write, fd, bytes, count); },
                                [=] { return syscall(SYS_write, fd, bytes, count / 2); });
}
int rename(const char* from, const char* to) noexcept {
  return loadstar::agent::Count(
      [=] { return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0)); });
}
int unlink(const char* path) noexcept {
  return loadstar::agent::Count([=] { return static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, 0)); });
}
int unlinkat(int folder, const char* path, int flags) noexcept {
  return loadstar::agent::Count([=] { return static_cast<int>(syscall(SYS_unlinkat, folder, path, flags)); });
}
// NOLINTEND(readability-identifier-naming)
}
