#include "agent/tuner/colima/machine_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tests/agent/tuner/fake_host.h"

namespace loadstar::agent {
namespace {

using ::testing::HasSubstr;

MachineRecord Two() {
  MachineRecord record;
  record.entries.push_back(
      {.profile = Profile("p", {Setting("a.one", {10}), Setting("a.two", {3}, v1::SYSCTL_POLICY_EXACTLY)}),
       .applied_in = "boot"});
  record.entries.push_back(
      {.profile = Profile("q", {Setting("a.one", {5}), Setting("a.two", {4}, v1::SYSCTL_POLICY_EXACTLY)})});
  v1::TuningProfile& second = record.entries[1].profile;
  second.mutable_virtual_machine()->set_cpus(12);
  second.mutable_virtual_machine()->set_memory_bytes(16ULL << 30);
  second.mutable_virtual_machine()->set_disk_bytes(100ULL << 30);
  second.mutable_descriptors()->set_soft(1'073'741'816);
  second.mutable_descriptors()->set_hard(1'073'741'816);
  second.mutable_sysctls(0)->set_module("nf_conntrack");
  record.entries[1].modules = {"nf_conntrack"};
  for (MachineRecord::Entry& entry : record.entries) {
    for (v1::SysctlSetting& setting : *entry.profile.mutable_sysctls()) {
      setting.set_scope(v1::SYSCTL_SCOPE_HOST);
      setting.set_effect("e");
      setting.set_source("s");
    }
  }
  record.created = true;
  record.earlier = "cpu: 4\n";
  record.left = "cpu: 12\n\"a\": \"\\\"\"\n";
  return record;
}

TEST(MachineRecordTest, IsReadAsItWasWritten) {
  const MachineRecord record = Two();
  const auto read = ParseRecord(ToText(record));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, record);
}

TEST(MachineRecordTest, TogetherIsAllThatIsConfiguredWithoutWhatContradicts) {
  MachineRecord record = Two();
  v1::TuningProfile all = record.Together();
  EXPECT_EQ(all.name(), "p, q");
  ASSERT_EQ(all.sysctls_size(), 3) << "the second one's a.two is left out";
  EXPECT_EQ(all.sysctls(1).values(0), 3U);
  EXPECT_EQ(all.virtual_machine().cpus(), 12U);
  record.entries[0].configured = false;
  all = record.Together();
  EXPECT_EQ(all.name(), "q");
  EXPECT_EQ(all.sysctls(1).values(0), 4U);
}

TEST(MachineRecordTest, AModuleIsInItOnlyWhenItIsLoadedForOneOfThem) {
  MachineRecord record = Two();
  EXPECT_EQ(record.Together().sysctls(2).module(), "nf_conntrack");
  record.entries[0].profile.mutable_sysctls(0)->set_module("nf_conntrack");
  EXPECT_EQ(record.Together().sysctls(0).module(), "nf_conntrack") << "it is loaded anyway";
  record.entries[1].modules.clear();
  EXPECT_EQ(record.Together().sysctls(0).module(), "");
  EXPECT_EQ(record.Together().sysctls(2).module(), "");
}

TEST(MachineRecordTest, AProfileWithoutSettingsIsRead) {
  MachineRecord record = Two();
  record.entries[1].profile.clear_sysctls();
  EXPECT_TRUE(ParseRecord(ToText(record)).ok());
}

// It becomes a script that root runs, and arguments.
TEST(MachineRecordTest, AProfileThatIsNotSoundIsRefused) {
  const std::vector<std::function<void(v1::SysctlSetting*)>> injections = {
      [](v1::SysctlSetting* setting) { setting->set_key("a.one;reboot"); },
      [](v1::SysctlSetting* setting) { setting->set_key("--system"); },
      [](v1::SysctlSetting* setting) { setting->set_module("x; reboot"); },
      [](v1::SysctlSetting* setting) { setting->set_module("-r"); },
  };
  for (const auto& inject : injections) {
    MachineRecord record = Two();
    inject(record.entries[1].profile.mutable_sysctls(0));
    EXPECT_FALSE(ParseRecord(ToText(record)).ok()) << record.entries[1].profile.DebugString();
  }
  MachineRecord record = Two();
  record.entries[0].profile.set_name("p\nreboot");
  EXPECT_FALSE(ParseRecord(ToText(record)).ok());
}

TEST(MachineRecordTest, WhatIsNoRecordIsRefused) {
  for (const char* text : {"", "{}", "[]", "{\"created\":1,\"had_config\":true,\"left\":\"\",\"profiles\":[]}",
                           "{\"created\":true,\"had_config\":true,\"left\":\"\",\"profiles\":[{}]}"}) {
    EXPECT_FALSE(ParseRecord(text).ok()) << text;
  }
  const std::string text = ToText(Two());
  for (size_t size = 0; size + 2 < text.size(); ++size) EXPECT_FALSE(ParseRecord(text.substr(0, size)).ok()) << size;
}

TEST(LockMachineTest, NamesWhoHasItAndLeavesNothing) {
  std::string folder = std::filesystem::temp_directory_path() / "machine-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  {
    const auto lock = LockMachine(folder);
    ASSERT_TRUE(lock.ok()) << lock.status();
    const auto second = LockMachine(folder);
    EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(second.status().message()), HasSubstr(folder));
  }
  EXPECT_TRUE(LockMachine(folder).ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  std::filesystem::remove_all(folder);
  EXPECT_TRUE(absl::IsNotFound(LockMachine(folder).status()));
}

}  // namespace
}  // namespace loadstar::agent
