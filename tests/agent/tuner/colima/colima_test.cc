// The operations against a machine whose kernel and engine do what a test says. Whole verbs, with the programs' real
// arguments and a real kernel, are tests/e2e/test_colima.py's.
#include "agent/tuner/colima/colima.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>

#include "agent/tuner/wish.h"
#include "lib/os/files.h"
#include "tests/agent/tuner/colima/fake_colima.h"

namespace loadstar::agent {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ColimaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    runner_.answer = [this](const std::string& call) { return Answer(call); };
    ASSERT_TRUE(cli_.Detect().ok());
    runner_.calls.clear();
    profile_.set_name("p");
    Want("net.core.somaxconn", 4096);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  v1::SysctlSetting* Want(const std::string& key, uint64_t value) {
    v1::SysctlSetting* setting = profile_.add_sysctls();
    setting->set_key(key);
    setting->add_values(value);
    setting->set_policy(v1::SYSCTL_POLICY_AT_LEAST);
    return setting;
  }

  absl::StatusOr<ProgramResult> Answer(const std::string& call) {
    const std::string inside = "colima ssh --profile x -- sudo ";
    if (call == "colima list --json") return Says(list_);
    if (call.starts_with("colima status")) {
      return Says(R"({"driver":"QEMU","mount_type":"9p","docker_socket":"s"})");
    }
    if (call.starts_with("colima start")) {
      list_ = kRunning;
      return Says("");
    }
    if (call.starts_with(inside + "cat ")) return Says("{}");
    if (call.starts_with(inside + "docker ps")) return Says("a\nb\n");
    if (call.starts_with(inside + "modprobe")) {
      for (const auto& [key, value] : of_module_) kernel_[key] = value;
      return Says("");
    }
    if (call.starts_with(inside + "sysctl -w ")) {
      const std::string setting = call.substr(inside.size() + 10);
      const size_t is = setting.find('=');
      kernel_[setting.substr(0, is)] = made_of_(setting.substr(is + 1));
      return Says("", 0, complaint_);
    }
    if (call.starts_with(inside + "sysctl -e ")) {
      std::string text;
      for (const auto& [key, value] : kernel_) {
        if ((call + " ").find(" " + key + " ") != std::string::npos) text += key + " = " + value + "\n";
      }
      return Says(text);
    }
    return Says("", 64, "unexpected");
  }

  v1::TuneStep StepOf(const ColimaOutcome& outcome, const std::string& key) {
    const auto found = std::find_if(outcome.steps.begin(), outcome.steps.end(),
                                    [&key](const v1::TuneStep& step) { return step.key() == key; });
    return found == outcome.steps.end() ? v1::TuneStep() : *found;
  }

  static constexpr char kRunning[] =
      R"({"name":"x","status":"Running","arch":"x86_64","cpus":2,"memory":2147483648,"disk":64424509440,)"
      R"("runtime":"docker"})";

  std::string folder_ = std::filesystem::temp_directory_path() / "colima-XXXXXX";
  FakeRunner runner_;
  std::string list_ = kRunning;
  std::map<std::string, std::string> kernel_ = {{"net.core.somaxconn", "128"}};
  std::map<std::string, std::string> of_module_;
  std::function<std::string(const std::string&)> made_of_ = [](const std::string& value) { return value; };
  std::string complaint_;
  v1::TuningProfile profile_;
  ColimaCli cli_{&runner_, HostSystem::kLinux, absl::ZeroDuration()};

  Colima Make() { return Colima(&cli_, {.machine = "x", .config_path = folder_ + "/x/colima.yaml"}); }
};

TEST_F(ColimaTest, SettingsAreWrittenAndReadBack) {
  const ColimaOutcome outcome = Make().Start(profile_, false);
  EXPECT_TRUE(outcome.ok()) << outcome.failure;
  EXPECT_EQ(kernel_["net.core.somaxconn"], "4096");
  EXPECT_EQ(StepOf(outcome, "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_EQ(StepOf(outcome, "colima.yaml").outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_THAT(runner_.calls, Not(Contains(StartsWith("colima start"))));
  runner_.calls.clear();
  EXPECT_TRUE(Make().Start(profile_, false).ok());
  EXPECT_THAT(runner_.calls, Not(Contains(HasSubstr("sysctl -w"))));
}

TEST_F(ColimaTest, WhatTheKernelMakesSomethingElseOfIsPutBack) {
  made_of_ = [](const std::string& value) { return value == "4096" ? "1000" : value; };
  const ColimaOutcome outcome = Make().Start(profile_, false);
  const v1::TuneStep step = StepOf(outcome, "net.core.somaxconn");
  EXPECT_FALSE(outcome.ok());
  EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_REFUSED);
  EXPECT_THAT(step.message(), HasSubstr("the kernel made \"1000\" of it"));
  EXPECT_EQ(kernel_["net.core.somaxconn"], "128");
}

TEST_F(ColimaTest, ARefusalSaysWhatTheKernelSaid) {
  made_of_ = [](const std::string& /*value*/) { return "128"; };
  complaint_ = "sysctl: setting key \"net.core.somaxconn\": Invalid argument\n";
  const v1::TuneStep step = StepOf(Make().Start(profile_, false), "net.core.somaxconn");
  EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_REFUSED);
  EXPECT_THAT(step.message(), HasSubstr("Invalid argument"));
}

TEST_F(ColimaTest, AModuleIsLoadedForItsSettings) {
  Want("net.netfilter.nf_conntrack_max", 2000)->set_module("nf_conntrack");
  of_module_ = {{"net.netfilter.nf_conntrack_max", "1000"}};
  EXPECT_TRUE(Make().Start(profile_, false).ok());
  EXPECT_THAT(runner_.calls, Contains("colima ssh --profile x -- sudo modprobe -- nf_conntrack"));
  EXPECT_EQ(kernel_["net.netfilter.nf_conntrack_max"], "2000");

  kernel_.erase("net.netfilter.nf_conntrack_max");
  of_module_.clear();
  const v1::TuneStep step = StepOf(Make().Start(profile_, false), "net.netfilter.nf_conntrack_max");
  EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_MISSING);
  EXPECT_TRUE(step.obstacle());
  EXPECT_EQ(step.message(), "the module nf_conntrack is not loaded in the virtual machine");
}

TEST_F(ColimaTest, ASettingOfAnotherKindIsLeft) {
  kernel_["net.core.somaxconn"] = "1\t2";
  const v1::TuneStep step = StepOf(Make().Start(profile_, false), "net.core.somaxconn");
  EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_UNSUITABLE);
  EXPECT_EQ(kernel_["net.core.somaxconn"], "1\t2");
}

TEST_F(ColimaTest, StatusChangesNothing) {
  const ColimaOutcome outcome = Make().Status(profile_);
  EXPECT_FALSE(outcome.ok());
  EXPECT_EQ(StepOf(outcome, "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_FAILS);
  EXPECT_EQ(kernel_["net.core.somaxconn"], "128");
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/x"));
  EXPECT_THAT(outcome.message, HasSubstr("with 2 running containers"));
}

TEST_F(ColimaTest, AConfigurationThatWasMadeForAMachineThatNeverWasIsTakenBack) {
  list_ = "";
  EXPECT_TRUE(Make().Configure(profile_).ok());
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/x/colima.yaml"));
  const auto leftovers = Make().FindLeftovers();
  ASSERT_TRUE(leftovers.ok()) << leftovers.status();
  EXPECT_TRUE(leftovers->any());
  EXPECT_TRUE(Make().Clean(*leftovers).ok());
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/x"));
  EXPECT_FALSE(Make().FindLeftovers()->any());
}

TEST_F(ColimaTest, AConfigurationOfTheUsersAloneIsNoLeftover) {
  list_ = "";
  std::filesystem::create_directories(folder_ + "/x");
  std::ofstream(folder_ + "/x/colima.yaml") << "cpu: 2\n";
  EXPECT_FALSE(Make().FindLeftovers()->any());
}

TEST_F(ColimaTest, AnInterruptedCommandEndsTheOperation) {
  runner_.answer = [this](const std::string& call) -> absl::StatusOr<ProgramResult> {
    if (call.find("sysctl -w") != std::string::npos) return absl::CancelledError("interrupted");
    return Answer(call);
  };
  EXPECT_EQ(Make().Start(profile_, false).failure.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(runner_.calls.back(), HasSubstr("sysctl -w"));
}

}  // namespace
}  // namespace loadstar::agent
