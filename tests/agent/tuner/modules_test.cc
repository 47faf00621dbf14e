#include "agent/tuner/modules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_join.h"

namespace loadstar::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ModulesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "modules-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    Restart("boot-1");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Restart(const std::string& era) {
    modules_ = std::make_unique<Modules>(Modules::Options{.record = root_ + "/record",
                                                          .era = era,
                                                          .run =
                                                              [this](const std::vector<std::string>& command) {
                                                                commands_.push_back(absl::StrJoin(command, " "));
                                                                return result_;
                                                              },
                                                          .loaded_folder = root_ + "/loaded"});
    modules_->Load();
  }
  std::vector<v1::TuneStep> Rollback(bool in_use = false) {
    return modules_->Rollback("p", {}, [in_use](const std::string&) { return in_use; });
  }

  std::string root_;
  absl::StatusOr<CommandResult> result_ = CommandResult{};
  std::vector<std::string> commands_;
  std::unique_ptr<Modules> modules_;
};

TEST_F(ModulesTest, WhatWasLoadedIsKnownToTheNextLifeAndUnloaded) {
  EXPECT_EQ(modules_->Add("p", "nf_conntrack", /*plans=*/true).outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_THAT(commands_, IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(root_ + "/record"));
  EXPECT_EQ(modules_->Add("p", "nf_conntrack", /*plans=*/false).after(), "loaded");
  Restart("boot-1");
  EXPECT_THAT(modules_->Applied(), ElementsAre("p"));
  EXPECT_EQ(modules_->Status().at(0).key(), "module nf_conntrack");
  EXPECT_EQ(Rollback(/*in_use=*/true).at(0).outcome(), v1::TUNE_OUTCOME_KEPT);
  EXPECT_EQ(Rollback().at(0).outcome(), v1::TUNE_OUTCOME_RESTORED);
  EXPECT_THAT(Rollback(), IsEmpty());
  EXPECT_THAT(commands_, ElementsAre("modprobe --first-time -- nf_conntrack", "modprobe -r -- nf_conntrack"));
}

TEST_F(ModulesTest, WhatWasNotLoadedHereIsNotUnloaded) {
  result_ = CommandResult{.code = 1, .output = "modprobe: ERROR: Module already in kernel\n"};
  const v1::TuneStep step = modules_->Add("p", "nf_conntrack", false);
  EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_REFUSED);
  EXPECT_TRUE(step.obstacle());
  EXPECT_EQ(step.after(), "");
  EXPECT_THAT(step.message(), HasSubstr("Module already in kernel"));
  EXPECT_THAT(modules_->Applied(), IsEmpty());
}

TEST_F(ModulesTest, OneThatWasKilledMayHaveLoadedIt) {
  result_ = absl::DeadlineExceededError("modprobe took longer than 30 s and was killed");
  EXPECT_TRUE(modules_->Add("p", "br-netfilter", false).obstacle());
  EXPECT_THAT(modules_->Applied(), IsEmpty());
  std::filesystem::create_directories(root_ + "/loaded/br_netfilter");
  EXPECT_TRUE(modules_->Add("p", "br-netfilter", false).obstacle());
  EXPECT_THAT(modules_->Applied(), ElementsAre("p"));
}

TEST_F(ModulesTest, ABootUnloadsAllAndADamagedRecordUnloadsNothing) {
  (void)modules_->Add("p", "nf_conntrack", false);
  Restart("boot-2");
  EXPECT_THAT(modules_->Applied(), IsEmpty());
  std::ofstream(root_ + "/record") << "boot-1 ../p nf_conntrack\nboot-1 p\n";
  Restart("boot-1");
  EXPECT_THAT(modules_->Applied(), IsEmpty());
}

TEST_F(ModulesTest, NothingIsLoadedThatCannotBeRemembered) {
  std::filesystem::create_directories(root_ + "/record");
  EXPECT_EQ(modules_->Add("p", "nf_conntrack", false).outcome(), v1::TUNE_OUTCOME_NOT_TRIED);
  EXPECT_THAT(commands_, IsEmpty());
}

}  // namespace
}  // namespace loadstar::agent
