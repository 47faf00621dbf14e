#include "agent/tuner/settings_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <thread>

namespace loadstar::agent {
namespace {

using ::testing::HasSubstr;

TEST(SettingsLockTest, OneAgentHasTheSettingsOfANamespace) {
  // A namespace of the test's own, where no other test and no agent is.
  std::thread([] {
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no network namespace can be made here";
    SettingsLock one;
    SettingsLock other;
    EXPECT_TRUE(one.Take(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE).ok());
    EXPECT_TRUE(one.Take(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE).ok()) << "what it has it keeps";
    const absl::Status refused = other.Take(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE);
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refused.message()), HasSubstr("another agent (process " + std::to_string(getpid()) +
                                                          ") has settings of this network namespace"));
    std::thread([&other] {
      ASSERT_EQ(unshare(CLONE_NEWNET), 0);
      EXPECT_TRUE(other.Take(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE).ok()) << "those of another one are others";
      other.Keep({});
    }).join();
    EXPECT_TRUE(one.Ask(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE).ok());
    EXPECT_FALSE(other.Ask(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE).ok());
    one.Keep({v1::SYSCTL_SCOPE_NETWORK_NAMESPACE});
    EXPECT_FALSE(other.Ask(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE).ok());
    one.Keep({v1::SYSCTL_SCOPE_HOST});
    EXPECT_TRUE(other.Ask(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE).ok());
    EXPECT_TRUE(one.Ask(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE).ok()) << "who asks takes nothing";
    EXPECT_TRUE(other.Take(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE).ok());
  }).join();
}

TEST(SettingsLockTest, TheHostsSettingsAreThoseOfEveryNamespace) {
  SettingsLock one;
  if (const absl::Status taken = one.Take(v1::SYSCTL_SCOPE_HOST); !taken.ok()) GTEST_SKIP() << taken;
  std::thread([] {
    if (geteuid() == 0) (void)unshare(CLONE_NEWNET);
    EXPECT_FALSE(SettingsLock().Ask(v1::SYSCTL_SCOPE_HOST).ok());
    EXPECT_TRUE(SettingsLock().Ask(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE).ok() || geteuid() != 0);
  }).join();
}

TEST(SettingsLockTest, SaysThatItCannotLock) {
  SettingsLock nowhere("/nonexistent");
  EXPECT_THAT(std::string(nowhere.Take(v1::SYSCTL_SCOPE_HOST).message()), HasSubstr("/nonexistent/fs/file-max"));
}

}  // namespace
}  // namespace loadstar::agent
