#include "agent/tuner/tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/agent/tuner/fake_host.h"

namespace loadstar::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using Outcome = TuneStep::Outcome;

class TunerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    host.values = {{"net.core.somaxconn", "128"},
                   {"net.ipv4.tcp_rmem", "4096\t131072\t6291456"},
                   {"net.ipv4.tcp_fin_timeout", "60"},
                   {"net.ipv4.ip_local_port_range", "32768\t60999"},
                   {"net.ipv4.ip_local_reserved_ports", ""}};
    before = host.values;
    Restart();
  }
  void Restart(const std::string& boot = "boot-1") {
    tuner = std::make_unique<Tuner>(&host, &host, boot);
    const absl::Status loaded = tuner->Load();
    ASSERT_TRUE(loaded.ok()) << loaded;
  }
  const std::string& Value(const std::string& key) { return host.values[key]; }

  const v1::TuningProfile profile =
      Profile("big", {Setting("net.core.somaxconn", {4096}), Setting("net.ipv4.tcp_rmem", {4096, 131072, 268435456}),
                      Setting("net.ipv4.tcp_fin_timeout", {30}, v1::SYSCTL_POLICY_EXACTLY),
                      Setting("net.ipv4.ip_local_port_range", {1024, 65535}, v1::SYSCTL_POLICY_COVERS),
                      Setting("net.ipv4.ip_local_reserved_ports", {9100, 9103}, v1::SYSCTL_POLICY_INCLUDES)});
  FakeHost host;
  std::map<std::string, std::string> before;
  std::unique_ptr<Tuner> tuner;
};

TEST_F(TunerTest, PlanSaysWhatApplyDoesAndChangesNothing) {
  const std::vector<TuneStep> plan = tuner->Plan(profile);
  EXPECT_EQ(host.values, before);
  EXPECT_EQ(host.operations, 0);
  const std::vector<TuneStep> applied = tuner->Apply(profile);
  ASSERT_EQ(plan.size(), applied.size());
  for (size_t i = 0; i < plan.size(); ++i) {
    EXPECT_EQ(plan[i].outcome, Outcome::kChanged) << plan[i].key;
    EXPECT_EQ(applied[i].outcome, Outcome::kChanged) << plan[i].key;
    EXPECT_EQ(plan[i].before, before[plan[i].key]);
    EXPECT_EQ(plan[i].after, host.values[plan[i].key]);
    EXPECT_EQ(plan[i].lowers, plan[i].key == "net.ipv4.tcp_fin_timeout") << plan[i].key;
  }
  EXPECT_EQ(Value("net.ipv4.tcp_rmem"), "4096\t131072\t268435456");
  EXPECT_EQ(Value("net.ipv4.ip_local_port_range"), "1024\t65535");
  EXPECT_EQ(Value("net.ipv4.ip_local_reserved_ports"), "9100-9103");
}

TEST_F(TunerTest, RollbackRestoresByteForByteAndEmptiesTheJournal) {
  host.values["net.ipv4.tcp_rmem"] = "4096 131072   6291456";  // as nobody would write it
  before = host.values;
  tuner->Apply(profile);
  for (const TuneStep& step : tuner->Rollback("big", false)) EXPECT_EQ(step.outcome, Outcome::kRestored) << step.key;
  EXPECT_EQ(host.values, before);
  EXPECT_EQ(host.journal, "");
  EXPECT_THAT(tuner->Status(), IsEmpty());
  EXPECT_THAT(tuner->Rollback("big", false), IsEmpty());
}

TEST_F(TunerTest, ApplyingTwiceWritesNothing) {
  tuner->Apply(profile);
  const int operations = host.operations;
  for (const TuneStep& step : tuner->Apply(profile)) EXPECT_EQ(step.outcome, Outcome::kFulfilled) << step.key;
  EXPECT_EQ(host.operations, operations);
  Restart();
  for (const TuneStep& step : tuner->Apply(profile)) EXPECT_EQ(step.outcome, Outcome::kFulfilled) << step.key;
  EXPECT_EQ(host.operations, operations);
}

TEST_F(TunerTest, AValueThatIsAlreadyHigherStays) {
  host.values["net.core.somaxconn"] = "65535";
  EXPECT_EQ(tuner->Apply(profile)[0].outcome, Outcome::kFulfilled);
  EXPECT_EQ(Value("net.core.somaxconn"), "65535");
  tuner->Rollback("big", false);
  EXPECT_EQ(Value("net.core.somaxconn"), "65535");
}

TEST_F(TunerTest, TwoProfilesAreRolledBackInEitherOrder) {
  const v1::TuningProfile small = Profile("small", {Setting("net.core.somaxconn", {1024})});
  for (const bool small_first : {true, false}) {
    for (const bool small_applied_first : {true, false}) {
      tuner->Apply(small_applied_first ? small : profile);
      tuner->Apply(small_applied_first ? profile : small);
      EXPECT_EQ(Value("net.core.somaxconn"), "4096");
      Restart();
      tuner->Rollback(small_first ? "small" : "big", false);
      EXPECT_EQ(Value("net.core.somaxconn"), small_first ? "4096" : "1024");
      tuner->Rollback(small_first ? "big" : "small", false);
      EXPECT_EQ(host.values, before);
    }
  }
}

TEST_F(TunerTest, WhatAnotherProfileWantsExactlyIsNotOverruled) {
  tuner->Apply(profile);
  const std::vector<TuneStep> steps = tuner->Apply(
      Profile("other", {Setting("net.ipv4.tcp_fin_timeout", {60}), Setting("net.core.somaxconn", {5000})}));
  EXPECT_EQ(steps[0].outcome, Outcome::kContradicts);
  EXPECT_THAT(steps[0].why, HasSubstr("profile big"));
  EXPECT_EQ(steps[1].outcome, Outcome::kChanged);
  EXPECT_EQ(Value("net.ipv4.tcp_fin_timeout"), "30");
}

TEST_F(TunerTest, WhatOthersChangedSinceIsReportedAndLeftUnlessForced) {
  tuner->Apply(profile);
  host.values["net.core.somaxconn"] = "9999";
  EXPECT_EQ(tuner->Status()[0].outcome, Outcome::kForeign);
  const std::vector<TuneStep> steps = tuner->Rollback("big", false);
  EXPECT_EQ(steps.back().key, "net.core.somaxconn");
  EXPECT_EQ(steps.back().outcome, Outcome::kForeign);
  EXPECT_THAT(steps.back().why, HasSubstr("set to \"4096\", and somebody else wrote \"9999\""));
  EXPECT_EQ(Value("net.core.somaxconn"), "9999");
  EXPECT_EQ(Value("net.ipv4.tcp_fin_timeout"), "60");
  EXPECT_THAT(Words(tuner->Rollback("big", true)), ElementsAre("net.core.somaxconn restored"));
  EXPECT_EQ(host.values, before);
}

TEST_F(TunerTest, WhatOthersWroteIsTheBaseOfWhatIsAppliedOnTop) {
  tuner->Apply(profile);
  host.values["net.core.somaxconn"] = "500";
  const std::vector<TuneStep> steps = tuner->Apply(Profile("more", {Setting("net.core.somaxconn", {10000})}));
  EXPECT_EQ(steps[0].before, "500");
  EXPECT_EQ(Value("net.core.somaxconn"), "10000");
  tuner->Rollback("more", false);
  EXPECT_EQ(Value("net.core.somaxconn"), "4096");
  tuner->Rollback("big", false);
  EXPECT_EQ(Value("net.core.somaxconn"), "500");
}

TEST_F(TunerTest, KeysThatCannotBeHadAreNamedAndTheRestIsDone) {
  host.values.erase("net.core.somaxconn");
  host.read_only.insert("net.ipv4.tcp_rmem");
  host.values["net.ipv4.tcp_fin_timeout"] = "soon";
  host.refused.insert("net.ipv4.ip_local_port_range");
  v1::SysctlSetting conntrack = Setting("net.netfilter.nf_conntrack_max", {2097152});
  conntrack.set_module("nf_conntrack");
  v1::TuningProfile more = profile;
  *more.add_sysctls() = conntrack;
  const std::vector<TuneStep> steps = tuner->Apply(more);
  EXPECT_THAT(Words(steps),
              ElementsAre("net.core.somaxconn missing", "net.ipv4.tcp_rmem read-only",
                          "net.ipv4.tcp_fin_timeout unsuitable", "net.ipv4.ip_local_port_range refused",
                          "net.ipv4.ip_local_reserved_ports changed", "net.netfilter.nf_conntrack_max missing"));
  EXPECT_THAT(steps[5].why, HasSubstr("modprobe nf_conntrack"));
  EXPECT_EQ(Value("net.ipv4.ip_local_port_range"), "32768\t60999");
  EXPECT_THAT(Words(tuner->Rollback("big", false)), ElementsAre("net.ipv4.ip_local_reserved_ports restored"));
}

TEST_F(TunerTest, AValueThatTheKernelMakesAnotherOfIsPutBack) {
  host.coerced["net.core.somaxconn"] = [](const std::string& value) { return value == "4096" ? "4000" : value; };
  const std::vector<TuneStep> steps = tuner->Apply(profile);
  EXPECT_EQ(steps[0].outcome, Outcome::kRefused);
  EXPECT_THAT(steps[0].why, StartsWith("the kernel made \"4000\" of \"4096\""));
  EXPECT_EQ(Value("net.core.somaxconn"), "128");
  EXPECT_EQ(Value("net.ipv4.tcp_fin_timeout"), "30");
}

TEST_F(TunerTest, TheKernelsOwnBlanksAreNoDifference) {
  host.coerced["net.ipv4.tcp_rmem"] = [](const std::string& value) {
    std::string spaced = value;
    std::replace(spaced.begin(), spaced.end(), '\t', ' ');
    return spaced;
  };
  EXPECT_EQ(tuner->Apply(profile)[1].outcome, Outcome::kChanged);
  EXPECT_EQ(tuner->Status()[1].outcome, Outcome::kApplied);
  EXPECT_EQ(tuner->Apply(profile)[1].outcome, Outcome::kFulfilled);
}

TEST_F(TunerTest, WithoutRoomForTheJournalNothingIsChanged) {
  host.full = true;
  for (const TuneStep& step : tuner->Apply(profile)) {
    EXPECT_EQ(step.outcome, Outcome::kNotTried);
    EXPECT_THAT(step.why, HasSubstr("full"));
  }
  EXPECT_EQ(host.values, before);
  host.full = false;
  tuner->Apply(profile);
  host.full = true;
  const std::map<std::string, std::string> tuned = host.values;
  for (const TuneStep& step : tuner->Rollback("big", false)) EXPECT_EQ(step.outcome, Outcome::kNotTried);
  EXPECT_EQ(host.values, tuned);
  host.full = false;
  tuner->Rollback("big", false);
  EXPECT_EQ(host.values, before);
}

TEST_F(TunerTest, ARebootLeavesNothingToUndo) {
  tuner->Apply(profile);
  host.values = before;
  Restart("boot-2");
  EXPECT_THAT(tuner->Status(), IsEmpty());
  EXPECT_THAT(tuner->Rollback("big", false), IsEmpty());
  EXPECT_EQ(host.values, before);
  EXPECT_EQ(host.journal, "");
}

TEST_F(TunerTest, ADamagedJournalIsKeptNamedAndUsedWhereItIsIntact) {
  tuner->Apply(profile);
  const size_t second = host.journal.find('\n') + 1;
  host.journal[second + 20] ^= 1;  // that the first key was applied
  Restart();
  EXPECT_THAT(tuner->problems(), ElementsAre("line 2 is damaged", HasSubstr("steps 2 to 2 are missing")));
  // What the line said, the key itself tells.
  for (const TuneStep& step : tuner->Status()) EXPECT_EQ(step.outcome, Outcome::kApplied) << step.key;
  tuner->Rollback("big", false);
  EXPECT_EQ(host.values, before);
  EXPECT_THAT(host.journal, HasSubstr("applying"));
}

TEST_F(TunerTest, ATornEndIsNotGluedToWhatComesNext) {
  tuner->Apply(profile);
  host.journal[host.journal.find('\n') + 21] ^= 1;
  host.journal += "0123abcd {\"torn";
  Restart();
  tuner->Rollback("big", false);
  EXPECT_EQ(host.values, before);
  Restart();
  EXPECT_THAT(tuner->Status(), IsEmpty());
}

TEST_F(TunerTest, AnInterruptedStepWhoseKeyHoldsNeitherIsLeftUnlessForced) {
  host.DieAt(0, FakeHost::Death::kAfter);  // the first step is announced
  tuner->Apply(profile);
  host.Revive();
  host.values["net.core.somaxconn"] = "777";
  Restart();
  const std::vector<TuneStep> status = tuner->Status();
  ASSERT_EQ(status.size(), 1U);
  EXPECT_EQ(status[0].outcome, Outcome::kUncertain);
  EXPECT_THAT(status[0].why, HasSubstr("from \"128\" to \"4096\", and now holds \"777\""));
  EXPECT_EQ(tuner->Apply(profile)[0].outcome, Outcome::kUncertain);
  EXPECT_EQ(tuner->Rollback("big", false).back().outcome, Outcome::kUncertain);
  EXPECT_EQ(Value("net.core.somaxconn"), "777");
  EXPECT_EQ(tuner->Rollback("big", true).back().outcome, Outcome::kRestored);
  EXPECT_EQ(host.values, before);
}

TEST_F(TunerTest, TheJournalIsWrittenAnewBeforeItGrowsForEver) {
  const v1::TuningProfile one = Profile("one", {Setting("net.core.somaxconn", {4096})});
  const v1::TuningProfile two = Profile("two", {Setting("net.core.somaxconn", {8192})});
  tuner->Apply(profile);
  size_t longest = 0;
  for (int i = 0; i < 2000; ++i) {
    tuner->Apply(i % 2 == 0 ? one : two);
    tuner->Rollback(i % 2 == 0 ? "one" : "two", false);
    longest = std::max(longest, host.journal.size());
  }
  EXPECT_LT(longest, 300U * 1024);
  Restart();
  tuner->Rollback("big", false);
  EXPECT_EQ(host.values, before);
}

}  // namespace
}  // namespace loadstar::agent
