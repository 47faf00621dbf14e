#include "agent/tuner/tuner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
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
  void Restart(const Era& era = kEra) {
    tuner = std::make_unique<Tuner>(&host, &host, era);
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
  EXPECT_EQ(tuner->Status()[0].outcome, Outcome::kApplied);
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
  EXPECT_THAT(steps[5].why, HasSubstr("comes with the module nf_conntrack"));
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
  Restart({.of_host = "boot-2", .of_network_namespace = "boot-2/namespace-1"});
  EXPECT_THAT(tuner->Status(), IsEmpty());
  EXPECT_THAT(tuner->Rollback("big", false), IsEmpty());
  EXPECT_EQ(host.values, before);
  EXPECT_EQ(host.journal, "");
}

// Flips a bit of the journal's line with that number, the first one being 1.
void Damage(int line, std::string* journal) {
  size_t at = 0;
  for (int i = 1; i < line; ++i) at = journal->find('\n', at) + 1;
  (*journal)[at + 20] ^= 1;
}

TEST_F(TunerTest, ADamagedJournalIsKeptNamedAndUsedWhereItIsIntact) {
  tuner->Apply(profile);
  const std::string intact = host.journal;
  Damage(2, &host.journal);  // that the first key was applied
  const std::string damaged = host.journal;
  Restart();
  EXPECT_THAT(tuner->problems(), ElementsAre("line 2 is damaged", HasSubstr("steps 2 to 2 are missing"),
                                             "the damaged journal is kept as journal.damaged"));
  EXPECT_EQ(host.damaged, damaged);
  // What the line said, the key itself tells.
  for (const TuneStep& step : tuner->Status()) EXPECT_EQ(step.outcome, Outcome::kApplied) << step.key;
  tuner->Rollback("big", false);
  EXPECT_EQ(host.values, before);
  Restart();
  EXPECT_THAT(tuner->problems(), IsEmpty());
}

TEST_F(TunerTest, AKeyWhoseHistoryHasAHoleIsLeftUnlessForced) {
  const v1::TuningProfile one = Profile("one", {Setting("net.core.somaxconn", {4096})});
  tuner->Apply(one);
  host.values["net.core.somaxconn"] = "2048";
  tuner->Apply(one);
  Damage(3, &host.journal);  // that 2048 is the base now
  Restart();
  Restart();  // and a second time, from the journal that was written anew
  EXPECT_EQ(tuner->Status()[0].outcome, Outcome::kUncertain);
  EXPECT_THAT(tuner->Status()[0].why, HasSubstr("the journal is damaged where it tells of it"));
  EXPECT_EQ(tuner->Apply(one)[0].outcome, Outcome::kUncertain);
  EXPECT_THAT(Words(tuner->Rollback("one", false)), ElementsAre("net.core.somaxconn uncertain"));
  EXPECT_EQ(Value("net.core.somaxconn"), "4096");
  EXPECT_THAT(Words(tuner->Rollback("one", true)), ElementsAre("net.core.somaxconn restored"));
  EXPECT_THAT(tuner->Status(), IsEmpty());
}

TEST_F(TunerTest, NothingIsGluedToATornEnd) {
  tuner->Apply(profile);
  Damage(2, &host.journal);
  host.journal.resize(host.journal.size() - 10);  // in the line that the last key was applied
  Restart();
  tuner->Apply(Profile("more", {Setting("net.core.somaxconn", {8192})}));
  Restart();
  tuner->Rollback("more", false);
  EXPECT_EQ(Value("net.core.somaxconn"), "4096");
  tuner->Rollback("big", false);
  EXPECT_EQ(host.values, before);
  Restart();
  EXPECT_THAT(tuner->Status(), IsEmpty());
}

TEST_F(TunerTest, AFailedCompactionLeavesTheJournalWhole) {
  tuner->Apply(profile);
  const v1::TuningProfile more = Profile("more", {Setting("net.core.somaxconn", {8192})});
  for (int i = 0; i < 400; ++i) {
    tuner->Apply(more);
    tuner->Rollback("more", false);
  }
  host.replace_fails = true;
  for (int i = 0; i < 400; ++i) {
    tuner->Apply(more);
    tuner->Rollback("more", false);
  }
  host.replace_fails = false;
  Restart();
  EXPECT_THAT(tuner->problems(), IsEmpty());
  tuner->Rollback("big", false);
  EXPECT_EQ(host.values, before);
}

TEST_F(TunerTest, AWishThatTheHostFulfilsIsKnownAllTheSame) {
  host.values["net.core.somaxconn"] = "8192";
  before = host.values;
  EXPECT_EQ(tuner->Apply(profile)[0].outcome, Outcome::kFulfilled);
  Restart();
  const v1::TuningProfile low = Profile("low", {Setting("net.core.somaxconn", {1024}, v1::SYSCTL_POLICY_EXACTLY)});
  EXPECT_EQ(tuner->Apply(low)[0].outcome, Outcome::kContradicts);
  // Nobody wrote it, so it is nobody's to restore.
  host.values["net.core.somaxconn"] = "9000";
  tuner->Rollback("big", false);
  EXPECT_EQ(Value("net.core.somaxconn"), "9000");
  EXPECT_THAT(tuner->Status(), IsEmpty());
}

TEST_F(TunerTest, AWishThatSomebodyElsesValueFulfilsOutlivesAForcedRollback) {
  tuner->Apply(Profile("one", {Setting("net.core.somaxconn", {4096})}));
  host.values["net.core.somaxconn"] = "8192";
  EXPECT_EQ(tuner->Apply(Profile("two", {Setting("net.core.somaxconn", {6000})}))[0].outcome, Outcome::kFulfilled);
  tuner->Rollback("one", true);
  EXPECT_EQ(Value("net.core.somaxconn"), "8192");
}

TEST_F(TunerTest, AListThatTheKernelCannotTakeAtOnceIsLeftAlone) {
  std::string list;
  for (int port = 10'000; list.size() < 5000; port += 2) absl::StrAppend(&list, list.empty() ? "" : ",", port);
  host.values["net.ipv4.ip_local_reserved_ports"] = list;
  EXPECT_EQ(tuner->Apply(profile)[4].outcome, Outcome::kUnsuitable);
  EXPECT_EQ(Value("net.ipv4.ip_local_reserved_ports"), list);
}

TEST_F(TunerTest, AValueThatTheKernelRoundsUpWillDo) {
  host.coerced["net.core.somaxconn"] = [](const std::string& value) { return value == "4096" ? "4608" : value; };
  const std::vector<TuneStep> steps = tuner->Apply(profile);
  EXPECT_EQ(steps[0].outcome, Outcome::kChanged);
  EXPECT_EQ(steps[0].after, "4608");
  tuner->Rollback("big", false);
  EXPECT_EQ(host.values, before);
}

TEST_F(TunerTest, ARollbackThatTheKernelDoesNotTakeLeavesWhatWasSet) {
  tuner->Apply(profile);
  host.coerced["net.core.somaxconn"] = [](const std::string& value) { return value == "128" ? "256" : value; };
  host.refused.insert("net.ipv4.tcp_fin_timeout");
  const std::vector<TuneStep> steps = tuner->Rollback("big", false);
  EXPECT_EQ(steps[2].outcome, Outcome::kRefused);  // tcp_fin_timeout
  EXPECT_EQ(Value("net.ipv4.tcp_fin_timeout"), "30");
  EXPECT_EQ(steps[4].outcome, Outcome::kRefused);  // somaxconn
  EXPECT_THAT(steps[4].why, HasSubstr("the kernel made \"256\" of \"128\""));
  EXPECT_EQ(Value("net.core.somaxconn"), "4096");
  for (const TuneStep& step : tuner->Status()) EXPECT_EQ(step.outcome, Outcome::kApplied) << step.key;
  host.coerced.clear();
  host.refused.clear();
  tuner->Rollback("big", false);
  EXPECT_EQ(host.values, before);
}

TEST_F(TunerTest, AKeyThatHasGoneWithItsModuleIsNamed) {
  tuner->Apply(profile);
  host.values.erase("net.core.somaxconn");
  EXPECT_EQ(tuner->Status()[0].outcome, Outcome::kMissing);
  EXPECT_EQ(tuner->Rollback("big", false).back().outcome, Outcome::kMissing);
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
