#include "agent/tuner/colima/machine_tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "tests/agent/tuner/colima/fake_colima.h"

namespace loadstar::agent {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::set<std::string> kAllowed = {"net.core.somaxconn", "virtual-machine"};

class MachineTunerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    runner_.answer = [this](const std::string& call) { return machine_.Answer(call); };
    order_.mutable_profile()->set_name("p");
    order_.mutable_profile()->mutable_virtual_machine()->set_cpus(2);
    order_.mutable_profile()->mutable_virtual_machine()->set_memory_bytes(2ULL << 30);
    order_.mutable_profile()->mutable_virtual_machine()->set_disk_bytes(60ULL << 30);
    v1::SysctlSetting* setting = order_.mutable_profile()->add_sysctls();
    setting->set_key("net.core.somaxconn");
    setting->add_values(4096);
    setting->set_scope(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE);
    setting->set_effect("e");
    setting->set_source("s");
    setting->set_policy(v1::SYSCTL_POLICY_AT_LEAST);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  MachineTuner Make(std::set<std::string> allowed = kAllowed) {
    return MachineTuner(
        &runner_, HostSystem::kLinux,
        [this] {
          return ColimaSettings{.machine = "x", .config_path = folder_ + "/x/colima.yaml", .folder = folder_ + "/x"};
        },
        std::move(allowed));
  }
  absl::Status Do(v1::TuneAction action, std::set<std::string> allowed = kAllowed) {
    steps_.clear();
    v1::TuneHost order = order_;
    order.set_action(action);
    if (action != v1::TUNE_ACTION_PLAN && action != v1::TUNE_ACTION_APPLY) {
      order.clear_profile();
      order.set_profile_name("p");
    }
    return Make(std::move(allowed)).CarryOut(order, [this](const v1::TuneStep& step) {
      steps_.push_back(absl::StrCat(step.key(), " ", v1::TuneOutcome_Name(step.outcome()).substr(13), " ",
                                    step.before(), " ", step.after()));
    });
  }

  std::string folder_ = std::filesystem::temp_directory_path() / "machine-XXXXXX";
  FakeRunner runner_;
  FakeMachine machine_;
  v1::TuneHost order_;
  std::vector<std::string> steps_;
};

TEST_F(MachineTunerTest, EveryActionIsCarriedOut) {
  EXPECT_TRUE(Do(v1::TUNE_ACTION_PLAN).ok());
  EXPECT_THAT(steps_, Contains("net.core.somaxconn CHANGED 128 4096"));
  EXPECT_FALSE(Make().HasApplied(""));
  EXPECT_TRUE(Do(v1::TUNE_ACTION_APPLY).ok());
  EXPECT_THAT(steps_, Contains("net.core.somaxconn CHANGED 128 4096"));
  EXPECT_TRUE(Make().HasApplied("p"));
  EXPECT_FALSE(Make().HasApplied("q"));
  for (const v1::TuneAction action : {v1::TUNE_ACTION_VERIFY, v1::TUNE_ACTION_STATUS}) {
    EXPECT_TRUE(Do(action).ok());
    EXPECT_THAT(steps_, Contains("net.core.somaxconn APPLIED 128 4096"));
  }
  EXPECT_TRUE(Do(v1::TUNE_ACTION_ROLLBACK).ok());
  EXPECT_THAT(steps_, Contains("net.core.somaxconn RESTORED 4096 128"));
  EXPECT_FALSE(Make().HasApplied(""));
}

TEST_F(MachineTunerTest, MissingProgramsAreNamedBeforeAnythingIsDone) {
  runner_.missing = {"colima", "limactl", "docker"};
  const absl::Status refused = Do(v1::TUNE_ACTION_APPLY);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("colima is not installed: "), HasSubstr("limactl is not"), HasSubstr("docker is not")));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/x"));
}

TEST_F(MachineTunerTest, NoProgramIsCalledToSeeThatNothingIsApplied) {
  EXPECT_FALSE(Make().HasApplied(""));
  EXPECT_FALSE(Make().HasApplied("p"));
  EXPECT_THAT(runner_.calls, IsEmpty());
}

TEST_F(MachineTunerTest, WhatTheAgentMayNotDoIsNotDone) {
  const absl::Status refused = Do(v1::TUNE_ACTION_APPLY, {"net.core.somaxconn"});
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--allow-tuning virtual-machine"));
  EXPECT_THAT(runner_.calls, IsEmpty());
  EXPECT_TRUE(Do(v1::TUNE_ACTION_PLAN, {"net.core.somaxconn"}).ok());
  EXPECT_TRUE(Do(v1::TUNE_ACTION_APPLY, {"net.core.rmem_max", "virtual-machine"}).ok());
  EXPECT_THAT(steps_, Contains("net.core.somaxconn FORBIDDEN  "));
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "128");
}

TEST_F(MachineTunerTest, WhatTheProfileLeavesToDefaultsIsFilledIn) {
  order_.mutable_profile()->mutable_sysctls(0)->clear_policy();
  order_.mutable_profile()->mutable_descriptors()->set_soft(1000);
  machine_.list = FakeMachine::kStopped;
  EXPECT_TRUE(Do(v1::TUNE_ACTION_PLAN, {"net.core.somaxconn", "descriptors"}).ok());
  EXPECT_THAT(steps_, Contains("descriptors CHANGED  1000 1000"));
  EXPECT_THAT(steps_, Contains("net.core.somaxconn CHANGED  4096"));
}

TEST_F(MachineTunerTest, ContainersArePlannedForByOtherProfiles) {
  order_.set_containers(true);
  const absl::Status refused = Do(v1::TUNE_ACTION_PLAN);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("profiles without virtualMachine"));
  EXPECT_THAT(runner_.calls, IsEmpty());
}

TEST_F(MachineTunerTest, AProfileThatIsNotSoundReachesNoShell) {
  order_.mutable_profile()->mutable_sysctls(0)->set_module("x; reboot");
  EXPECT_EQ(Do(v1::TUNE_ACTION_APPLY).code(), absl::StatusCode::kInvalidArgument);
  order_.mutable_profile()->mutable_sysctls(0)->clear_module();
  order_.mutable_profile()->mutable_sysctls(0)->set_key("net.core.somaxconn=1");
  EXPECT_EQ(Do(v1::TUNE_ACTION_PLAN).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Do(v1::TUNE_ACTION_UNSPECIFIED).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/x"));
}

}  // namespace
}  // namespace loadstar::agent
