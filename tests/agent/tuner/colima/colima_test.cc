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
#include <set>
#include <string>
#include <vector>

#include "agent/tuner/colima/machine_record.h"
#include "lib/os/files.h"
#include "tests/agent/tuner/colima/fake_colima.h"
#include "tests/agent/tuner/colima/kill_points.h"

namespace loadstar::agent {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

// As the kernel shows what was written with blanks.
std::string Tabbed(std::string value) {
  std::replace(value.begin(), value.end(), ' ', '\t');
  return value;
}

constexpr char kMine[] = "# mine\ncpu: 2\n";  // a colima.yaml of the user's
constexpr Colima::Permissions kMay = {.allow_restart = false, .load_modules = true};

class ColimaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    runner_.answer = [this](const std::string& call) { return machine_.Answer(call); };
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
    setting->set_scope(v1::SYSCTL_SCOPE_HOST);
    setting->set_effect("e");
    setting->set_source("s");
    return setting;
  }
  // The profile wants a machine of this size.
  void WantMachine(uint32_t cpus, uint64_t gib) {
    profile_.mutable_virtual_machine()->set_cpus(cpus);
    profile_.mutable_virtual_machine()->set_memory_bytes(gib << 30);
    profile_.mutable_virtual_machine()->set_disk_bytes(60ULL << 30);
  }
  // Of a machine whose kernel has others by itself.
  void WantTwoSettings() {
    Want("net.ipv4.tcp_fin_timeout", 90);
    machine_.by_itself["net.ipv4.tcp_fin_timeout"] = "60";
    machine_.kernel = machine_.by_itself;
  }
  // From here on the profile is another one.
  void Next(const std::string& name, uint64_t backlog = 9000) {
    profile_.Clear();
    profile_.set_name(name);
    Want("net.core.somaxconn", backlog);
  }

  v1::TuneStep StepOf(const ColimaOutcome& outcome, const std::string& key) {
    const auto found = std::find_if(outcome.steps.begin(), outcome.steps.end(),
                                    [&key](const v1::TuneStep& step) { return step.key() == key; });
    return found == outcome.steps.end() ? v1::TuneStep() : *found;
  }

  std::string Path(const std::string& name) const { return absl::StrCat(folder_, "/x/", name); }
  std::string Text(const std::string& name) const { return os::ReadFile(Path(name)).value_or("(not there)"); }
  void Write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(folder_ + "/x");
    std::ofstream(Path(name)) << text;
  }
  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    if (!std::filesystem::exists(folder_ + "/x")) return names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/x"))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  ColimaOutcome Back(bool force = false, const std::set<std::string>& only = {}) {
    return Make().Rollback("", force, only);
  }

  std::string folder_ = std::filesystem::temp_directory_path() / "colima-XXXXXX";
  FakeRunner runner_;
  FakeMachine machine_;
  v1::TuningProfile profile_;
  ColimaCli cli_{&runner_, HostSystem::kLinux, absl::ZeroDuration()};

  Colima Make() { return Colima(&cli_, {.machine = "x", .config_path = folder_ + "/x/colima.yaml"}); }
};

TEST_F(ColimaTest, SettingsAreWrittenAndReadBack) {
  const ColimaOutcome outcome = Make().Start(profile_, kMay);
  EXPECT_TRUE(outcome.ok()) << outcome.failure;
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "4096");
  EXPECT_EQ(StepOf(outcome, "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_EQ(StepOf(outcome, "colima.yaml").outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_THAT(runner_.calls, Not(Contains(StartsWith("colima start"))));
  runner_.calls.clear();
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  EXPECT_THAT(runner_.calls, Not(Contains(HasSubstr("sysctl -w"))));
}

TEST_F(ColimaTest, WhatTheKernelMakesSomethingElseOfIsPutBack) {
  machine_.made_of = [](const std::string& value) { return value == "4096" ? "1000" : value; };
  const ColimaOutcome outcome = Make().Start(profile_, kMay);
  const v1::TuneStep step = StepOf(outcome, "net.core.somaxconn");
  EXPECT_FALSE(outcome.ok());
  EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_REFUSED);
  EXPECT_THAT(step.message(), HasSubstr("the kernel made \"1000\" of \"4096\""));
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "128");
}

TEST_F(ColimaTest, ARefusalSaysWhatTheKernelSaid) {
  machine_.made_of = [](const std::string& /*value*/) { return "128"; };
  machine_.complaint = "sysctl: setting key \"net.core.somaxconn\": Invalid argument\n";
  const v1::TuneStep step = StepOf(Make().Start(profile_, kMay), "net.core.somaxconn");
  EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_REFUSED);
  EXPECT_THAT(step.message(), HasSubstr("Invalid argument"));
}

TEST_F(ColimaTest, AModuleIsLoadedForItsSettings) {
  Want("net.netfilter.nf_conntrack_max", 2000)->set_module("nf_conntrack");
  machine_.of_module = {{"net.netfilter.nf_conntrack_max", "1000"}};
  const ColimaOutcome loaded = Make().Start(profile_, kMay);
  EXPECT_TRUE(loaded.ok()) << loaded.failure;
  EXPECT_EQ(StepOf(loaded, "module nf_conntrack").outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_EQ(StepOf(loaded, "module nf_conntrack").after(), "loaded");
  EXPECT_THAT(runner_.calls, Contains("colima ssh --profile x -- sudo modprobe -- nf_conntrack"));
  EXPECT_EQ(machine_.kernel["net.netfilter.nf_conntrack_max"], "2000");

  machine_.kernel.erase("net.netfilter.nf_conntrack_max");
  machine_.of_module.clear();
  const v1::TuneStep step = StepOf(Make().Start(profile_, kMay), "net.netfilter.nf_conntrack_max");
  EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_MISSING);
  EXPECT_TRUE(step.obstacle());
  EXPECT_EQ(step.message(), "the module nf_conntrack is not loaded in the virtual machine");
}

TEST_F(ColimaTest, ASettingOfAnotherKindIsLeft) {
  machine_.kernel["net.core.somaxconn"] = "1\t2";
  const v1::TuneStep step = StepOf(Make().Start(profile_, kMay), "net.core.somaxconn");
  EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_UNSUITABLE);
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "1\t2");
}

TEST_F(ColimaTest, StatusChangesNothing) {
  const ColimaOutcome outcome = Make().Status(profile_);
  EXPECT_FALSE(outcome.ok());
  EXPECT_EQ(StepOf(outcome, "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_FAILS);
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "128");
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/x"));
  EXPECT_THAT(outcome.message, HasSubstr("with 2 running containers"));
}

TEST_F(ColimaTest, AConfigurationThatWasMadeForAMachineThatNeverWasIsTakenBack) {
  machine_.list = "";
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
  machine_.list = "";
  std::filesystem::create_directories(folder_ + "/x");
  std::ofstream(folder_ + "/x/colima.yaml") << "cpu: 2\n";
  EXPECT_FALSE(Make().FindLeftovers()->any());
}

TEST_F(ColimaTest, AnInterruptedCommandEndsTheOperation) {
  runner_.answer = [this](const std::string& call) -> absl::StatusOr<ProgramResult> {
    if (call.find("sysctl -w") != std::string::npos) return absl::CancelledError("interrupted");
    return machine_.Answer(call);
  };
  EXPECT_EQ(Make().Start(profile_, kMay).failure.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(runner_.calls.back(), HasSubstr("sysctl -w"));
}

TEST_F(ColimaTest, APlanSaysWhatWouldBeAndChangesNothing) {
  profile_.mutable_virtual_machine()->set_cpus(8);
  const ColimaOutcome plan = Make().Plan(profile_, {});
  EXPECT_TRUE(plan.failure.ok()) << plan.failure;
  const v1::TuneStep backlog = StepOf(plan, "net.core.somaxconn");
  EXPECT_EQ(backlog.outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_EQ(backlog.before(), "128");
  EXPECT_EQ(backlog.after(), "4096");
  EXPECT_EQ(StepOf(plan, "virtualMachine.cpus").outcome(), v1::TUNE_OUTCOME_NOT_TRIED) << "needs a restart";
  EXPECT_EQ(StepOf(plan, "colima.yaml").after(), "p");
  for (const v1::TuneStep& step : plan.steps) EXPECT_EQ(step.place(), v1::TUNE_PLACE_VIRTUAL_MACHINE);
  EXPECT_THAT(Files(), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/x"));
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "128");

  machine_.list = FakeMachine::kStopped;
  const ColimaOutcome stopped = Make().Plan(profile_, {});
  EXPECT_EQ(StepOf(stopped, "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_EQ(StepOf(stopped, "net.core.somaxconn").after(), "4096");
  EXPECT_THAT(runner_.calls, Not(Contains(StartsWith("colima start"))));
}

TEST_F(ColimaTest, SettingsAreReadInOneCallAndEachWriteIsReadAlone) {
  Want("net.ipv4.tcp_fin_timeout", 90);
  machine_.kernel["net.ipv4.tcp_fin_timeout"] = "60";
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  std::vector<std::string> sysctl;
  for (const std::string& call : runner_.calls) {
    const size_t at = call.find("sysctl ");
    if (at != std::string::npos) sysctl.push_back(call.substr(at + 7));
  }
  EXPECT_THAT(sysctl,
              ElementsAre("-e net.core.somaxconn net.ipv4.tcp_fin_timeout", "-w net.core.somaxconn=4096",
                          "-e net.core.somaxconn", "-w net.ipv4.tcp_fin_timeout=90", "-e net.ipv4.tcp_fin_timeout"));
}

TEST_F(ColimaTest, ARollbackLeavesEverythingAsItWas) {
  Write("colima.yaml", kMine);
  Want("net.ipv4.tcp_rmem", 4096)->add_values(131072);
  profile_.mutable_sysctls(1)->add_values(8388608);
  machine_.kernel["net.ipv4.tcp_rmem"] = "4096\t131072\t6291456";
  const auto kernel = machine_.kernel;
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  EXPECT_NE(machine_.kernel, kernel);
  EXPECT_NE(Text("colima.yaml"), kMine);
  EXPECT_THAT(Files(),
              ElementsAre("colima.yaml", "colima.yaml.before-loadstar", "loadstar.journal", "loadstar.record"));

  const ColimaOutcome back = Back();
  EXPECT_TRUE(back.ok()) << back.failure;
  EXPECT_EQ(StepOf(back, "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_RESTORED);
  EXPECT_EQ(StepOf(back, "net.core.somaxconn").after(), "128");
  EXPECT_EQ(StepOf(back, "colima.yaml").outcome(), v1::TUNE_OUTCOME_RESTORED);
  machine_.kernel["net.ipv4.tcp_rmem"] = Tabbed(machine_.kernel["net.ipv4.tcp_rmem"]);
  EXPECT_EQ(machine_.kernel, kernel);
  EXPECT_EQ(Text("colima.yaml"), kMine);
  EXPECT_THAT(Files(), ElementsAre("colima.yaml"));
  EXPECT_THAT(Back().steps, IsEmpty()) << "twice is once";
}

TEST_F(ColimaTest, WithoutAConfigurationBeforeOurPartsAreTakenOut) {
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  Write("colima.yaml", Text("colima.yaml") + "hostname: mine\n");
  EXPECT_TRUE(Back().ok());
  EXPECT_EQ(Text("colima.yaml"), "runtime: docker\nhostname: mine\n");

  machine_.list = "";
  std::filesystem::remove_all(folder_ + "/x");
  EXPECT_TRUE(Make().Configure(profile_).ok());
  EXPECT_TRUE(Back().ok());
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/x"));
}

TEST_F(ColimaTest, WhatTheUserChangedInTheConfigurationSinceStays) {
  Write("colima.yaml", "# mine\ncpu: 2\n");
  WantMachine(2, 2);
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  std::string text = Text("colima.yaml");
  text.replace(text.find("memory: 2"), 9, "memory: 8");
  Write("colima.yaml", text + "hostname: mine\n");
  const ColimaOutcome back = Back();
  EXPECT_TRUE(back.ok()) << back.failure;
  EXPECT_EQ(Text("colima.yaml"), "cpu: 2\nmemory: 8\nruntime: docker\nhostname: mine\n");
  EXPECT_THAT(StepOf(back, "colima.yaml").message(), HasSubstr("somebody else changed it since: memory"));
  EXPECT_THAT(Files(), ElementsAre("colima.yaml"));
}

TEST_F(ColimaTest, ProfilesAreLayered) {
  Write("colima.yaml", "cpu: 2\n");
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  Next("q");
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "9000");
  EXPECT_THAT(Text("colima.yaml"), HasSubstr("for the tuning profile p, q,"));
  EXPECT_TRUE(Make().Rollback("q", false, {}).ok());
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "4096");
  EXPECT_THAT(Text("colima.yaml"), HasSubstr("for the tuning profile p,"));
  EXPECT_EQ(StepOf(Make().Report("", false), "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_APPLIED);
  EXPECT_TRUE(Make().Rollback("p", false, {}).ok());
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "128");
  EXPECT_EQ(Text("colima.yaml"), "cpu: 2\n");
}

TEST_F(ColimaTest, ARestartOfTheMachineIsNoticed) {
  Write("colima.yaml", "cpu: 2\n");
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  machine_.by_configuration["net.core.somaxconn"] = "4096";
  machine_.Boot();
  const ColimaOutcome status = Make().Report("p", true);
  EXPECT_TRUE(status.ok()) << status.failure;
  EXPECT_EQ(StepOf(status, "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_APPLIED);

  const ColimaOutcome back = Back();
  EXPECT_TRUE(back.ok()) << back.failure;
  EXPECT_EQ(StepOf(back, "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_KEPT);
  EXPECT_THAT(StepOf(back, "net.core.somaxconn").message(), HasSubstr("with the next start"));
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "4096");
  EXPECT_EQ(Text("colima.yaml"), "cpu: 2\n");
  EXPECT_THAT(Files(), ElementsAre("colima.yaml"));
}

TEST_F(ColimaTest, WhatAStartOfOursMadeIsKeptUntilTheNext) {
  machine_.list = FakeMachine::kStopped;
  machine_.by_configuration["net.core.somaxconn"] = "4096";
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  const ColimaOutcome back = Back();
  EXPECT_EQ(StepOf(back, "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_KEPT);
  EXPECT_THAT(runner_.calls, Not(Contains(AnyOf(StartsWith("colima stop"), StartsWith("colima delete")))));
}

TEST_F(ColimaTest, WhatSomebodyElseChangedInsideIsLeftUnlessForced) {
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  machine_.kernel["net.core.somaxconn"] = "5000";
  EXPECT_EQ(StepOf(Make().Report("p", false), "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_FOREIGN);
  const ColimaOutcome left = Back();
  EXPECT_FALSE(left.ok());
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "5000");
  EXPECT_THAT(Files(), Contains("loadstar.record")) << "it is known that something is left";
  const ColimaOutcome forced = Back(true);
  EXPECT_TRUE(forced.ok()) << forced.failure;
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "128");
  EXPECT_THAT(Files(), ElementsAre("colima.yaml"));
}

TEST_F(ColimaTest, OnlyTheNamedKeysAreUndone) {
  Want("net.ipv4.tcp_fin_timeout", 90);
  machine_.kernel["net.ipv4.tcp_fin_timeout"] = "60";
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  EXPECT_TRUE(Back(false, {"net.ipv4.tcp_fin_timeout"}).ok());
  EXPECT_EQ(machine_.kernel["net.ipv4.tcp_fin_timeout"], "60");
  EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "4096");
  EXPECT_THAT(Files(), Contains("loadstar.record"));
}

TEST_F(ColimaTest, WhatIsNotAllowedAndWhatIsMeantForContainersIsLeftAlone) {
  Want("vm.swappiness", 90);
  Want("net.ipv4.tcp_fin_timeout", 90)->set_scope(v1::SYSCTL_SCOPE_CONTAINER);
  profile_.mutable_sysctls(0)->set_scope(v1::SYSCTL_SCOPE_VIRTUAL_MACHINE);
  profile_.mutable_descriptors()->set_soft(1000);
  profile_.mutable_descriptors()->set_hard(1000);
  machine_.kernel["vm.swappiness"] = machine_.kernel["net.ipv4.tcp_fin_timeout"] = "60";
  Colima colima(&cli_, {.machine = "x",
                        .config_path = Path("colima.yaml"),
                        .allowed = std::set<std::string>{"net.core.somaxconn", "net.ipv4.tcp_fin_timeout"}});
  const ColimaOutcome outcome = colima.Start(profile_, kMay);
  EXPECT_EQ(StepOf(outcome, "vm.swappiness").outcome(), v1::TUNE_OUTCOME_FORBIDDEN);
  EXPECT_THAT(StepOf(outcome, "vm.swappiness").message(), HasSubstr("--allow-tuning vm.swappiness"));
  EXPECT_EQ(StepOf(outcome, "descriptors").outcome(), v1::TUNE_OUTCOME_FORBIDDEN);
  EXPECT_EQ(StepOf(outcome, "net.ipv4.tcp_fin_timeout").outcome(), v1::TUNE_OUTCOME_NOT_MEANT);
  EXPECT_FALSE(StepOf(outcome, "net.ipv4.tcp_fin_timeout").obstacle());
  EXPECT_EQ(StepOf(outcome, "net.core.somaxconn").outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_EQ(machine_.kernel["vm.swappiness"], "60");
  EXPECT_THAT(Text("colima.yaml"), Not(AnyOf(HasSubstr("swappiness"), HasSubstr("fin_timeout"), HasSubstr("nofile"))));
}

TEST_F(ColimaTest, AModuleIsLoadedOnlyWhenThatIsAsked) {
  Want("net.netfilter.nf_conntrack_max", 2000)->set_module("nf_conntrack");
  machine_.of_module = {{"net.netfilter.nf_conntrack_max", "1000"}};
  const ColimaOutcome outcome = Make().Start(profile_, {});
  EXPECT_TRUE(outcome.ok()) << "a limit of a module that is not loaded limits nothing";
  EXPECT_THAT(Text("colima.yaml"), HasSubstr("at_least - /proc/sys/net/netfilter")) << "nor at a boot";
  EXPECT_EQ(StepOf(outcome, "net.netfilter.nf_conntrack_max").outcome(), v1::TUNE_OUTCOME_MISSING);
  EXPECT_THAT(runner_.calls, Not(Contains(HasSubstr("modprobe"))));
}

TEST_F(ColimaTest, AnAgentLoadsOnlyWhatItMayAndKnows) {
  Want("net.netfilter.nf_conntrack_max", 2000)->set_module("nf_conntrack");
  Want("net.core.rmem_max", 2000)->set_module("anything");
  for (const bool may : {true, false}) {
    runner_.calls.clear();
    std::set<std::string> allowed = {"net.core.somaxconn", "net.netfilter.nf_conntrack_max", "net.core.rmem_max"};
    if (may) allowed.insert("modules");
    Colima colima(&cli_, {.machine = "x", .config_path = Path("colima.yaml"), .allowed = allowed});
    const ColimaOutcome outcome = colima.Start(profile_, kMay);
    EXPECT_EQ(StepOf(outcome, "module anything").outcome(), v1::TUNE_OUTCOME_FORBIDDEN);
    EXPECT_EQ(StepOf(outcome, "module nf_conntrack").outcome(),
              may ? v1::TUNE_OUTCOME_CHANGED : v1::TUNE_OUTCOME_FORBIDDEN);
    EXPECT_EQ(Text("colima.yaml").find("at_least nf_conntrack ") != std::string::npos, may) << "at boot as well";
    EXPECT_THAT(Text("colima.yaml"), HasSubstr("at_least - /proc/sys/net/core/rmem_max"));
    EXPECT_EQ(std::any_of(runner_.calls.begin(), runner_.calls.end(),
                          [](const std::string& call) { return call.find("modprobe") != std::string::npos; }),
              may);
    EXPECT_THAT(runner_.calls, Not(Contains(HasSubstr("anything"))));
  }
}

TEST_F(ColimaTest, AMachineThatDoesNotRunIsNotAsItWasTuned) {
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  machine_.list = FakeMachine::kStopped;
  const ColimaOutcome status = Make().Report("", false);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(StepOf(status, "virtualMachine").message(), HasSubstr("does not run (Stopped)"));
  EXPECT_TRUE(Back().ok());
  EXPECT_THAT(Files(), ElementsAre("colima.yaml"));
}

TEST_F(ColimaTest, OneIsAtWorkAtATime) {
  std::filesystem::create_directories(folder_ + "/x");
  const auto lock = LockMachine(folder_ + "/x");
  ASSERT_TRUE(lock.ok()) << lock.status();
  for (const ColimaOutcome& outcome : {Make().Start(profile_, kMay), Make().Plan(profile_, {}), Make().Status(profile_),
                                       Make().Report("", true), Back(), Make().Stop()}) {
    EXPECT_EQ(outcome.failure.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(outcome.failure.message()), HasSubstr("is at work on the virtual machine"));
    EXPECT_THAT(std::string(outcome.failure.message()), HasSubstr("try again"));
  }
  EXPECT_THAT(runner_.calls, IsEmpty());
}

TEST_F(ColimaTest, ADamagedRecordIsNamed) {
  Write("loadstar.record", "{");
  EXPECT_THAT(std::string(Make().Start(profile_, kMay).failure.message()),
              AllOf(HasSubstr("loadstar.record"), HasSubstr("Move it away")));
  EXPECT_EQ(Text("loadstar.record"), "{");
}

TEST_F(ColimaTest, WhatWasNotThereBeforeIsNotThereAfterTwoProfilesEither) {
  machine_.list = "";
  EXPECT_TRUE(Make().Configure(profile_).ok());
  profile_.mutable_sysctls(0)->set_values(0, 5000);
  EXPECT_TRUE(Make().Configure(profile_).ok()) << "with other values";
  Next("q");
  EXPECT_TRUE(Make().Configure(profile_).ok());
  EXPECT_THAT(Files(), ElementsAre("colima.yaml", "loadstar.record")) << "our own file is no original";
  EXPECT_TRUE(Make().Rollback("q", false, {}).ok());
  EXPECT_THAT(Text("colima.yaml"), HasSubstr("for the tuning profile p,"));
  EXPECT_TRUE(Make().Rollback("p", false, {}).ok());
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/x"));
}

TEST_F(ColimaTest, AnOriginalOfNoFileIsNotPutBack) {
  machine_.list = "";
  EXPECT_TRUE(Make().Configure(profile_).ok());
  Write("colima.yaml.before-loadstar", Text("colima.yaml"));  // as earlier versions kept it
  EXPECT_TRUE(Back().ok());
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/x"));
}

// With and without a file before, the first profile taken back first or last.
TEST_F(ColimaTest, WhatTheUserAddsBetweenTwoProfilesStaysAfterBoth) {
  for (const bool had : {true, false}) {
    for (const bool first_first : {true, false}) {
      SCOPED_TRACE(absl::StrCat(had ? "a file" : "no file", first_first ? ", first first" : ", last first"));
      std::filesystem::remove_all(folder_ + "/x");
      machine_ = FakeMachine();
      if (had) Write("colima.yaml", "# mine\ncpu: 2\n");
      Next("p", 4096);
      WantMachine(2, 2);
      EXPECT_TRUE(Make().Start(profile_, kMay).ok());
      Write("colima.yaml", Text("colima.yaml") + "hostname: mine\n");
      Next("q");
      WantMachine(2, 2);
      EXPECT_TRUE(Make().Start(profile_, kMay).ok());
      EXPECT_TRUE(Make().Rollback(first_first ? "p" : "q", false, {}).ok());
      EXPECT_TRUE(Make().Rollback(first_first ? "q" : "p", false, {}).ok());
      EXPECT_EQ(Text("colima.yaml"),
                had ? "cpu: 2\nruntime: docker\nhostname: mine\n" : "runtime: docker\nhostname: mine\n");
      EXPECT_THAT(Files(), ElementsAre("colima.yaml"));
      EXPECT_EQ(machine_.kernel["net.core.somaxconn"], "128");
    }
  }
}

TEST_F(ColimaTest, WhatTheUserAddsBeforeTheFirstOfTwoRollbacksStaysAfterBoth) {
  Write("colima.yaml", "# mine\ncpu: 2\n");
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  Next("q");
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  Write("colima.yaml", Text("colima.yaml") + "hostname: mine\n");
  EXPECT_TRUE(Make().Rollback("p", false, {}).ok());
  EXPECT_THAT(Text("colima.yaml"), AllOf(HasSubstr("hostname: mine"), HasSubstr("for the tuning profile q,")));
  EXPECT_TRUE(Make().Rollback("q", false, {}).ok());
  EXPECT_EQ(Text("colima.yaml"), "cpu: 2\nruntime: docker\nhostname: mine\n");
}

TEST_F(ColimaTest, AfterTheLargerProfileTheConfigurationIsAsTheSmallerOneWants) {
  machine_.list = FakeMachine::kStopped;
  Write("colima.yaml", "cpu: 2\nmemory: 2\n");
  WantMachine(4, 4);
  EXPECT_TRUE(Make().Configure(profile_).ok());
  Next("q");
  WantMachine(12, 16);
  EXPECT_TRUE(Make().Configure(profile_).ok());
  EXPECT_THAT(Text("colima.yaml"), HasSubstr("cpu: 12\nmemory: 16\n"));
  machine_.list =
      R"({"name":"x","status":"Running","arch":"x86_64","cpus":12,"memory":17179869184,"disk":107374182400,)"
      R"("runtime":"docker"})";
  const ColimaOutcome back = Make().Rollback("q", false, {});
  EXPECT_TRUE(back.ok()) << back.failure;
  EXPECT_THAT(Text("colima.yaml"), AllOf(HasSubstr("cpu: 4\nmemory: 4\n"), HasSubstr("disk: 100\n")));
  EXPECT_THAT(StepOf(back, "virtualMachine.cpus").message(), HasSubstr("what colima.yaml says: 4"));
  EXPECT_EQ(StepOf(Make().Report("p", false), "colima.yaml").outcome(), v1::TUNE_OUTCOME_APPLIED);
  EXPECT_TRUE(Make().Rollback("p", false, {}).ok());
  EXPECT_EQ(Text("colima.yaml"), "cpu: 2\nmemory: 2\n");
}

TEST_F(ColimaTest, ACleanLeavesWhatIsTheUsers) {
  machine_.list = "";
  const auto clean = [this] {
    const auto leftovers = Make().FindLeftovers();
    EXPECT_TRUE(leftovers.ok() && leftovers->any()) << leftovers.status();
    return Make().Clean(*leftovers);
  };
  EXPECT_TRUE(Make().Configure(profile_).ok());
  Write("colima.yaml", Text("colima.yaml") + "hostname: mine\n");
  EXPECT_TRUE(clean().ok());
  EXPECT_EQ(Text("colima.yaml"), "runtime: docker\nhostname: mine\n") << "it was edited";

  Write("colima.yaml", "# mine\n");
  EXPECT_TRUE(Make().Configure(profile_).ok());
  EXPECT_TRUE(clean().ok());
  EXPECT_EQ(Text("colima.yaml"), "# mine\n");

  EXPECT_TRUE(Make().Configure(profile_).ok());
  Write("colima.yaml", "cpu: 3\n");
  std::filesystem::remove(Path("colima.yaml.before-loadstar"));
  EXPECT_TRUE(clean().ok());
  EXPECT_EQ(Text("colima.yaml"), "cpu: 3\n") << "it has nothing of ours in it";
  EXPECT_THAT(Files(), ElementsAre("colima.yaml"));

  Write("loadstar.record", "{");
  machine_.list = FakeMachine::kStopped;
  const ColimaOutcome refused = clean();
  EXPECT_THAT(std::string(refused.failure.message()), HasSubstr("Move it away"));
  EXPECT_EQ(Text("colima.yaml"), "cpu: 3\n");
  EXPECT_THAT(runner_.calls, Not(Contains(StartsWith("colima delete")))) << "nothing is deleted before that";
}

TEST_F(ColimaTest, ACleanWithoutARecordPutsTheOriginalBack) {
  machine_.list = "";
  for (const bool gone : {false, true}) {
    Write("colima.yaml", "# mine\n");
    EXPECT_TRUE(Make().Configure(profile_).ok());
    std::filesystem::remove(Path("loadstar.record"));
    if (gone) std::filesystem::remove(Path("colima.yaml"));
    EXPECT_TRUE(Make().Clean(*Make().FindLeftovers()).ok());
    EXPECT_EQ(Text("colima.yaml"), "# mine\n");
    EXPECT_THAT(Files(), ElementsAre("colima.yaml"));
  }
}

TEST_F(ColimaTest, ARollbackWithoutAnOriginalTakesOursOut) {
  Write("colima.yaml", "# mine\ncpu: 2\n");
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  std::filesystem::remove(Path("colima.yaml.before-loadstar"));
  const ColimaOutcome back = Back();
  EXPECT_TRUE(back.ok()) << back.failure;
  EXPECT_THAT(StepOf(back, "colima.yaml").message(), HasSubstr("before-loadstar is gone"));
  EXPECT_THAT(Text("colima.yaml"), Not(HasSubstr("made by loadstar")));
  EXPECT_THAT(Files(), ElementsAre("colima.yaml"));
}

TEST_F(ColimaTest, ARollbackWithoutAConfigurationPutsTheOriginalBack) {
  Write("colima.yaml", "# mine\ncpu: 2\n");
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  std::filesystem::remove(Path("colima.yaml"));
  const ColimaOutcome back = Back();
  EXPECT_TRUE(back.ok()) << back.failure;
  EXPECT_THAT(StepOf(back, "colima.yaml").message(), HasSubstr("which was gone, is again what it was"));
  EXPECT_EQ(Text("colima.yaml"), "# mine\ncpu: 2\n");
  EXPECT_THAT(Files(), ElementsAre("colima.yaml"));
}

// An agent with a list of its own does not take out of the boot script what the stand-alone program put in.
TEST_F(ColimaTest, WhatABootLoadsIsDecidedByWhoAppliedIt) {
  Want("net.netfilter.nf_conntrack_max", 2000)->set_module("nf_conntrack");
  machine_.of_module = {{"net.netfilter.nf_conntrack_max", "1000"}};
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  const std::string text = Text("colima.yaml");
  EXPECT_THAT(text, HasSubstr("at_least nf_conntrack "));
  Colima agent(
      &cli_,
      {.machine = "x", .config_path = Path("colima.yaml"), .allowed = std::set<std::string>{"net.core.somaxconn"}});
  EXPECT_EQ(StepOf(agent.Report("p", false), "colima.yaml").outcome(), v1::TUNE_OUTCOME_APPLIED);
  Next("q");
  EXPECT_TRUE(agent.Start(profile_, {}).ok());
  EXPECT_THAT(Text("colima.yaml"), HasSubstr("at_least nf_conntrack "));
  EXPECT_TRUE(agent.Rollback("q", false, {}).ok());
  EXPECT_EQ(Text("colima.yaml"), text);
}

TEST_F(ColimaTest, APlanTellsTheModulesThatAnApplyTells) {
  Want("net.netfilter.nf_conntrack_max", 2000)->set_module("nf_conntrack");
  Want("net.core.rmem_max", 2000)->set_module("anything");
  Colima agent(&cli_, {.machine = "x",
                       .config_path = Path("colima.yaml"),
                       .allowed = std::set<std::string>{"net.core.somaxconn", "net.netfilter.nf_conntrack_max",
                                                        "net.core.rmem_max", "modules"}});
  const ColimaOutcome plan = agent.Plan(profile_, kMay);
  EXPECT_TRUE(plan.failure.ok()) << plan.failure;
  EXPECT_EQ(StepOf(plan, "module anything").outcome(), v1::TUNE_OUTCOME_FORBIDDEN);
  EXPECT_TRUE(StepOf(plan, "module anything").obstacle());
  EXPECT_TRUE(StepOf(plan, "net.core.rmem_max").obstacle());
  EXPECT_EQ(StepOf(plan, "module nf_conntrack").outcome(), v1::TUNE_OUTCOME_CHANGED);
  EXPECT_FALSE(StepOf(plan, "net.netfilter.nf_conntrack_max").obstacle());
  EXPECT_THAT(runner_.calls, Not(Contains(HasSubstr("modprobe"))));
  EXPECT_EQ(StepOf(agent.Plan(profile_, {}), "module anything").outcome(), v1::TUNE_OUTCOME_UNSPECIFIED);
}

TEST_F(ColimaTest, AModuleThatCannotBeLoadedIsNamed) {
  Want("net.netfilter.nf_conntrack_max", 2000)->set_module("nf_conntrack");
  runner_.answer = [this](const std::string& call) -> absl::StatusOr<ProgramResult> {
    if (call.find("modprobe") != std::string::npos) return Says("", 1, "modprobe: FATAL: Module not found.");
    return machine_.Answer(call);
  };
  const v1::TuneStep step = StepOf(Make().Start(profile_, kMay), "module nf_conntrack");
  EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_REFUSED);
  EXPECT_THAT(step.message(), HasSubstr("Module not found"));
}

TEST_F(ColimaTest, WhatIsTakenBackIsNotSaidToComeWithTheNextStart) {
  EXPECT_TRUE(Make().Start(profile_, kMay).ok());
  machine_.kernel["net.core.somaxconn"] = "5000";
  EXPECT_FALSE(Back().ok());
  machine_.list = FakeMachine::kStopped;
  const v1::TuneStep step = StepOf(Make().Report("", false), "virtualMachine");
  EXPECT_THAT(step.message(), HasSubstr("its next start is without it"));
  EXPECT_TRUE(step.obstacle());
}

TEST_F(ColimaTest, WhatColimaWritesAtAStartThatFailsIsNoEditOfTheUsers) {
  machine_.list = FakeMachine::kStopped;
  Write("colima.yaml", kMine);
  bool fails = true;
  runner_.answer = [&](const std::string& call) -> absl::StatusOr<ProgramResult> {
    if (!call.starts_with("colima start")) return machine_.Answer(call);
    if (fails) Write("colima.yaml", "arch: host\n" + Text("colima.yaml"));
    return fails ? Says("", 1, "error starting vm") : machine_.Answer(call);
  };
  EXPECT_FALSE(Make().Start(profile_, kMay).ok());
  fails = false;
  const ColimaOutcome started = Make().Start(profile_, kMay);
  EXPECT_TRUE(started.ok()) << started.failure;
  EXPECT_TRUE(Back().ok());
  EXPECT_EQ(Text("colima.yaml"), kMine);
}

// Killed between the record and the file, or after it: what is in the file is ours all the same, and no edit.
TEST_F(ColimaTest, AFileThatWasNotWrittenAnyMoreIsNoEdit) {
  machine_.list = FakeMachine::kStopped;
  Write("colima.yaml", "cpu: 2\n");
  WantMachine(4, 4);
  EXPECT_TRUE(Make().Configure(profile_).ok());
  const std::string of_p = Text("colima.yaml");
  Next("q");
  WantMachine(12, 16);
  EXPECT_TRUE(Make().Configure(profile_).ok());
  const std::string of_both = Text("colima.yaml");
  Write("colima.yaml", of_p);
  EXPECT_TRUE(Make().Configure(profile_).ok());
  EXPECT_EQ(Text("colima.yaml"), of_both);
  auto pending = ParseRecord(Text("loadstar.record"));
  ASSERT_TRUE(pending.ok()) << pending.status();
  EXPECT_TRUE(Make().Rollback("q", false, {}).ok());
  const std::string without_q = Text("colima.yaml");
  EXPECT_THAT(without_q, AllOf(HasSubstr("cpu: 4\n"), HasSubstr("for the tuning profile p,")));
  pending->left = without_q;
  pending->earlier = of_both;
  for (const std::string& died_with : {of_both, without_q}) {
    Write("loadstar.record", ToText(*pending));
    Write("colima.yaml", died_with);
    EXPECT_TRUE(Make().Rollback("q", false, {}).ok());
    EXPECT_EQ(Text("colima.yaml"), without_q);
    EXPECT_EQ(Text("colima.yaml.before-loadstar"), "cpu: 2\n");
  }
  EXPECT_TRUE(Back().ok());
  EXPECT_EQ(Text("colima.yaml"), "cpu: 2\n");
}

// Each call in turn and all after it fail, before or after the machine has done what it was to. The next one finds its
// way back from there, and also from an apply that is made again over it.
TEST_F(ColimaTest, AfterAnyCallThatFailsEverythingCanBePutBack) {
  WantTwoSettings();
  size_t crashes = 0;
  for (const bool rolls_back : {false, true}) {
    for (const bool done : {false, true}) {
      for (const bool again : {false, true}) {
        bool died_on_the_way = true;
        for (int dies_at = 0; died_on_the_way; ++dies_at) {
          SCOPED_TRACE(
              absl::StrCat(rolls_back ? "rollback" : "apply", " dies at ", dies_at, done ? " after" : " before"));
          Write("colima.yaml", kMine);
          if (rolls_back) {
            ASSERT_TRUE(Make().Start(profile_, kMay).ok());
          }
          int made = 0;
          died_on_the_way = false;
          runner_.answer = [&](const std::string& call) -> absl::StatusOr<ProgramResult> {
            if (made == dies_at) {
              died_on_the_way = true;
              if (done) (void)machine_.Answer(call);
              return absl::CancelledError("killed");
            }
            ++made;
            return machine_.Answer(call);
          };
          const ColimaOutcome died = rolls_back ? Back() : Make().Start(profile_, kMay);
          runner_.answer = [this](const std::string& call) { return machine_.Answer(call); };
          if (died_on_the_way) {
            EXPECT_EQ(died.failure.code(), absl::StatusCode::kCancelled);
            ++crashes;
          }
          if (again) {
            EXPECT_TRUE(Make().Start(profile_, kMay).ok());
          }
          const ColimaOutcome back = Back();
          EXPECT_TRUE(back.ok()) << back.failure;
          EXPECT_EQ(machine_.kernel, machine_.by_itself);
          EXPECT_EQ(Text("colima.yaml"), kMine);
          EXPECT_THAT(Files(), ElementsAre("colima.yaml"));
        }
      }
    }
  }
  EXPECT_GT(crashes, 60U);
}

// As before, but the process is killed, and at each change of a file as well.
TEST_F(ColimaTest, AfterAKillAtAnyStepEverythingCanBePutBack) {
  WantTwoSettings();
  runner_.answer = [this](const std::string& call) {
    absl::StatusOr<ProgramResult> result;
    Step([&] { result = machine_.Answer(call); });
    return result;
  };
  // What the child did to the machine, for its parent.
  const std::string kernel_file = folder_ + "/kernel";
  const auto save_kernel = [&] {
    std::ofstream file(kernel_file);
    for (const auto& [key, value] : machine_.kernel) file << key << '=' << value << '\n';
  };
  const auto load_kernel = [&] {
    machine_.kernel.clear();
    std::ifstream file(kernel_file);
    for (std::string line; std::getline(file, line);) {
      machine_.kernel[line.substr(0, line.find('='))] = line.substr(line.find('=') + 1);
    }
  };
  size_t kills = 0;
  for (const bool rolls_back : {false, true}) {
    for (const KilledWhen when : {KilledWhen::kBefore, KilledWhen::kHalfWay, KilledWhen::kAfter}) {
      for (const bool again : {false, true}) {
        bool survived = false;
        for (int step = 0; !survived; ++step) {
          SCOPED_TRACE(absl::StrCat(rolls_back ? "rollback" : "apply", " is killed at ", step, ", moment ",
                                    static_cast<int>(when), again ? ", then applied again" : ""));
          Write("colima.yaml", kMine);
          if (rolls_back) {
            ASSERT_TRUE(Make().Start(profile_, kMay).ok());
          }
          survived = SurvivesStep(
              step, when, [&] { rolls_back ? Back() : Make().Start(profile_, kMay); }, save_kernel);
          load_kernel();
          if (!survived) ++kills;
          if (again) {
            const ColimaOutcome outcome = Make().Start(profile_, kMay);
            ASSERT_TRUE(outcome.ok()) << outcome.failure;
          }
          const ColimaOutcome back = Back();
          ASSERT_TRUE(back.ok()) << back.failure;
          ASSERT_EQ(machine_.kernel, machine_.by_itself);
          ASSERT_EQ(Text("colima.yaml"), kMine);
          // A journal with nothing in it does no harm.
          ASSERT_THAT(Files(), AnyOf(ElementsAre("colima.yaml"), ElementsAre("colima.yaml", "loadstar.journal")));
          ASSERT_THAT(Text("loadstar.journal"), AnyOf("(not there)", ""));
        }
      }
    }
  }
  EXPECT_GT(kills, 250U);
}

}  // namespace
}  // namespace loadstar::agent
