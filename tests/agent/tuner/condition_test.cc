#include "agent/tuner/condition.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "lib/spec/kernel_version.h"

namespace loadstar::agent {
namespace {

v1::TuneCondition Kernel(const std::string& from, const std::string& before) {
  v1::TuneCondition condition;
  condition.set_kernel_from(from);
  condition.set_kernel_before(before);
  return condition;
}

TEST(KernelVersionTest, IsThreeNumbersAndWhatTheDistributionAppends) {
  using spec::ReadKernelVersion;
  EXPECT_EQ(ReadKernelVersion("6.1"), (spec::KernelVersion{6, 1, 0}));
  EXPECT_EQ(ReadKernelVersion("5.10.234"), (spec::KernelVersion{5, 10, 234}));
  for (const char* text :
       {"", "6", "6.", "six", "6.1-rc1", "6.1.2.3", "-6.1", "6.1 ", " 6.1", "99999999999.1", "6..1"}) {
    EXPECT_EQ(ReadKernelVersion(text), std::nullopt) << text;
  }
  const struct {
    const char* text;
    spec::KernelVersion version;
    const char* rest;
  } releases[] = {
      {"6.1.0-18-amd64", {6, 1, 0}, "-18-amd64"},
      {"5.15.167.4-microsoft-standard-WSL2", {5, 15, 167}, ".4-microsoft-standard-WSL2"},
      {"6.9-rc3", {6, 9, 0}, "-rc3"},
      {"4.18.0-553.el8.x86_64", {4, 18, 0}, "-553.el8.x86_64"},
  };
  for (const auto& one : releases) {
    std::string_view rest;
    EXPECT_EQ(ReadKernelVersion(one.text, &rest), one.version) << one.text;
    EXPECT_EQ(rest, one.rest);
  }
}

TEST(ConditionTest, ComparesVersionsAsNumbers) {
  const KernelFacts facts{.release = "5.10.0-30-amd64", .cgroup = 2};
  EXPECT_EQ(WhyNotMeant({}, facts), "");
  EXPECT_EQ(WhyNotMeant(Kernel("5.9", ""), facts), "");
  EXPECT_EQ(WhyNotMeant(Kernel("5.10", "5.11"), facts), "");
  EXPECT_EQ(WhyNotMeant(Kernel("6.1", ""), facts),
            "meant for kernels from 6.1 on; this host has kernel 5.10.0-30-amd64");
  EXPECT_EQ(WhyNotMeant(Kernel("", "5.10"), facts),
            "meant for kernels before 5.10; this host has kernel 5.10.0-30-amd64");
}

TEST(ConditionTest, WhatIsNotKnownFulfilsNothing) {
  v1::TuneCondition condition = Kernel("4.0", "");
  condition.set_cgroup(2);
  EXPECT_EQ(WhyNotMeant(condition, {}),
            "meant for kernels from 4.0 on and control groups of version 2; this host has kernel of no known version "
            "and no control groups");
  EXPECT_EQ(WhyNotMeant(condition, {.release = "6.1", .cgroup = 1}),
            "meant for control groups of version 2; this host has control groups of version 1");
}

TEST(ConditionTest, FindsTheVersionOfTheControlGroups) {
  std::string folder = std::filesystem::temp_directory_path() / "condition-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  EXPECT_EQ(ReadKernelFacts(os::Proc(), folder).cgroup, 0U);
  std::filesystem::create_directory(folder + "/memory");
  EXPECT_EQ(ReadKernelFacts(os::Proc(), folder).cgroup, 1U);
  std::ofstream(folder + "/cgroup.controllers") << "cpu memory\n";
  EXPECT_EQ(ReadKernelFacts(os::Proc(), folder).cgroup, 2U);
  std::filesystem::remove_all(folder);
  std::string_view rest;
  EXPECT_TRUE(spec::ReadKernelVersion(ReadKernelFacts(os::Proc()).release, &rest).has_value());
}

}  // namespace
}  // namespace loadstar::agent
