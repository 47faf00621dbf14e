#include "agent/tuner/colima/colima_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <string>

namespace loadstar::agent {
namespace {

using ::testing::HasSubstr;
using Action = MachinePlan::Action;

constexpr uint64_t kGib = 1ULL << 30;

v1::TuningProfile Wanted() {
  v1::TuningProfile profile;
  profile.set_name("p");
  profile.mutable_virtual_machine()->set_cpus(12);
  profile.mutable_virtual_machine()->set_memory_bytes(16 * kGib);
  profile.mutable_virtual_machine()->set_disk_bytes(100 * kGib);
  profile.mutable_descriptors()->set_soft(1000);
  profile.mutable_descriptors()->set_hard(2000);
  return profile;
}

MachineFacts Running(uint64_t cpus, uint64_t memory_gib, uint64_t disk_gib) {
  MachineFacts facts;
  facts.machine = Machine{.name = "x",
                          .status = "Running",
                          .arch = "x86_64",
                          .cpus = cpus,
                          .memory_bytes = memory_gib * kGib,
                          .disk_bytes = disk_gib * kGib,
                          .runtime = "docker",
                          .address = ""};
  facts.details = MachineDetails{.driver = "QEMU", .mount_type = "sshfs", .docker_socket = "unix:///s"};
  facts.limits = EngineLimits{.soft = 1000, .hard = 2000};
  facts.containers = 3;
  return facts;
}

std::map<std::string, v1::TuneStep> ByKey(const MachinePlan& plan) {
  std::map<std::string, v1::TuneStep> steps;
  for (const v1::TuneStep& step : plan.steps) steps[step.key()] = step;
  return steps;
}

bool HasObstacle(const MachinePlan& plan) {
  for (const v1::TuneStep& step : plan.steps) {
    if (step.obstacle()) return true;
  }
  return false;
}

TEST(PlanMachineTest, WhatIsNotThereIsCreatedAsWanted) {
  const MachinePlan plan = PlanMachine({}, Wanted(), "", Restart::kRefused);
  EXPECT_EQ(plan.action, Action::kCreate);
  EXPECT_EQ(plan.options.cpus, 12U);
  EXPECT_EQ(plan.options.memory_gib, 16U);
  EXPECT_EQ(plan.options.disk_gib, 100U);
  EXPECT_FALSE(HasObstacle(plan));
  EXPECT_EQ(ByKey(plan).at("virtualMachine.memory").after(), "16 GiB");
  EXPECT_EQ(ByKey(plan).at("descriptors").after(), "1000 2000");
}

TEST(PlanMachineTest, WhatRunsAsWantedIsLeft) {
  const MachinePlan plan = PlanMachine(Running(12, 16, 100), Wanted(), "qemu", Restart::kAllowed);
  EXPECT_EQ(plan.action, Action::kNothing);
  for (const v1::TuneStep& step : plan.steps) EXPECT_EQ(step.outcome(), v1::TUNE_OUTCOME_FULFILLED) << step.key();
}

TEST(PlanMachineTest, NothingGetsSmaller) {
  MachineFacts facts = Running(16, 32, 200);
  facts.limits = EngineLimits{.soft = 5000, .hard = std::numeric_limits<uint64_t>::max()};
  MachinePlan plan = PlanMachine(facts, Wanted(), "", Restart::kAllowed);
  EXPECT_EQ(plan.action, Action::kNothing);
  EXPECT_EQ(plan.options.cpus, 16U);
  EXPECT_EQ(plan.options.memory_gib, 32U);
  EXPECT_EQ(plan.options.disk_gib, 200U);
  EXPECT_EQ(ByKey(plan).at("descriptors").after(), "5000 unlimited");
  // What the configuration would give it, too.
  facts.machine->status = "Stopped";
  facts.config.cpus = 20;
  facts.config.memory_gib = 32.5;
  plan = PlanMachine(facts, Wanted(), "", Restart::kRefused);
  EXPECT_EQ(plan.action, Action::kStart);
  EXPECT_EQ(plan.options.cpus, 20U);
  EXPECT_EQ(plan.options.memory_gib, 33U);
}

TEST(PlanMachineTest, ARunningMachineIsRestartedOnlyWhenThatIsAllowed) {
  const MachineFacts facts = Running(2, 16, 100);
  MachinePlan plan = PlanMachine(facts, Wanted(), "", Restart::kRefused);
  EXPECT_EQ(plan.action, Action::kNothing);
  v1::TuneStep cpus = ByKey(plan).at("virtualMachine.cpus");
  EXPECT_EQ(cpus.outcome(), v1::TUNE_OUTCOME_NOT_TRIED);
  EXPECT_TRUE(cpus.obstacle());
  EXPECT_EQ(cpus.message(),
            "needs a restart of the virtual machine, which would interrupt 3 running containers; --allow-restart does "
            "it");
  plan = PlanMachine(facts, Wanted(), "", Restart::kAllowed);
  EXPECT_EQ(plan.action, Action::kRestart);
  EXPECT_FALSE(HasObstacle(plan));
  EXPECT_EQ(ByKey(plan).at("virtualMachine.cpus").message(),
            "the virtual machine is restarted, which interrupts 3 running containers");
  plan = PlanMachine(facts, Wanted(), "", Restart::kNever);
  EXPECT_EQ(plan.action, Action::kNothing);
  EXPECT_TRUE(HasObstacle(plan));
}

TEST(PlanMachineTest, LimitsOfTheEngineNeedARestart) {
  MachineFacts facts = Running(12, 16, 100);
  facts.limits = EngineLimits{};
  facts.containers.reset();
  const MachinePlan plan = PlanMachine(facts, Wanted(), "", Restart::kRefused);
  EXPECT_THAT(ByKey(plan).at("descriptors").message(), HasSubstr("an unknown number of running containers"));
  EXPECT_EQ(ByKey(plan).at("descriptors").before(), "the engine's default");
  EXPECT_EQ(PlanMachine(facts, Wanted(), "", Restart::kAllowed).action, Action::kRestart);
}

TEST(PlanMachineTest, AStoppedMachineIsStartedAndHasEverythingThen) {
  MachineFacts facts = Running(2, 2, 60);
  facts.machine->status = "Stopped";
  facts.machine->runtime = "";
  facts.details.reset();
  facts.limits.reset();
  facts.containers.reset();
  EXPECT_EQ(PlanMachine(facts, Wanted(), "", Restart::kRefused).action, Action::kStart);
  const MachinePlan later = PlanMachine(facts, Wanted(), "", Restart::kNever);
  EXPECT_EQ(later.action, Action::kNothing);
  EXPECT_FALSE(HasObstacle(later));
  EXPECT_EQ(ByKey(later).at("virtualMachine.cpus").message(), "comes with the next start");
}

TEST(PlanMachineTest, WhatCannotChangeAnyMoreIsAnObstacle) {
  MachineFacts facts = Running(2, 2, 60);
  facts.machine->runtime = "containerd+k3s";
  MachinePlan plan = PlanMachine(facts, Wanted(), "", Restart::kAllowed);
  EXPECT_EQ(plan.action, Action::kBlocked);
  EXPECT_EQ(ByKey(plan).at("virtualMachine.runtime").before(), "containerd");
  facts.machine->runtime = "docker+k3s";
  EXPECT_EQ(PlanMachine(facts, Wanted(), "", Restart::kAllowed).action, Action::kRestart);
  plan = PlanMachine(facts, Wanted(), "vz", Restart::kAllowed);
  EXPECT_EQ(plan.action, Action::kBlocked);
  EXPECT_EQ(ByKey(plan).at("virtualMachine.vmType").before(), "qemu");
  facts.details->driver = "macOS Virtualization.Framework";
  EXPECT_EQ(PlanMachine(facts, Wanted(), "vz", Restart::kAllowed).action, Action::kRestart);

  // The user's own configuration asks for these: named, and the rest goes on.
  facts.config.arch = "aarch64";
  facts.config.mount_type = "virtiofs";
  plan = PlanMachine(facts, Wanted(), "", Restart::kAllowed);
  EXPECT_EQ(plan.action, Action::kRestart);
  EXPECT_TRUE(ByKey(plan).at("virtualMachine.arch").obstacle());
  EXPECT_TRUE(ByKey(plan).at("virtualMachine.mountType").obstacle());
  facts.config.arch = "host";
  EXPECT_FALSE(ByKey(PlanMachine(facts, Wanted(), "", Restart::kAllowed)).contains("virtualMachine.arch"));
  // Of a stopped machine the configuration tells the engine.
  facts.machine->status = "Stopped";
  facts.machine->runtime = "";
  facts.config.runtime = "incus";
  EXPECT_EQ(PlanMachine(facts, Wanted(), "", Restart::kAllowed).action, Action::kBlocked);
}

TEST(PlanMachineTest, WhatThisMachineLacksIsRemarked) {
  MachineFacts facts;
  facts.host_cores = 2;
  facts.host_memory_bytes = 8 * kGib;
  facts.hardware_virtualization = false;
  const MachinePlan plan = PlanMachine(facts, Wanted(), "", Restart::kRefused);
  EXPECT_THAT(ByKey(plan).at("virtualMachine.cpus").message(), HasSubstr("this machine has 2 cores"));
  EXPECT_THAT(ByKey(plan).at("virtualMachine.cpus").message(), HasSubstr("/dev/kvm"));
  EXPECT_THAT(ByKey(plan).at("virtualMachine.memory").message(), HasSubstr("this machine has 8 GiB"));
  EXPECT_FALSE(HasObstacle(plan));
}

TEST(PlanMachineTest, AProfileWithoutAMachineLeavesItsSize) {
  v1::TuningProfile profile = Wanted();
  profile.clear_virtual_machine();
  const MachinePlan plan = PlanMachine(Running(2, 2, 60), profile, "", Restart::kAllowed);
  EXPECT_EQ(plan.action, Action::kNothing);
  EXPECT_EQ(plan.options.cpus, 0U);
}

TEST(ReadEngineLimitsTest, NamesAreTakenInAnyCaseAndNonsenseSaysNothing) {
  const EngineLimits limits = ReadEngineLimits(R"({"default-ulimits":{"nofile":{"hard":-1,"Soft":4096}}})");
  EXPECT_EQ(limits.soft, 4096U);
  EXPECT_EQ(limits.hard, std::numeric_limits<uint64_t>::max());
  for (const char* text :
       {"", "{", "[]", "{}", R"({"default-ulimits":[]})", R"({"default-ulimits":{"nofile":{"Soft":"x"}}})"}) {
    EXPECT_EQ(ReadEngineLimits(text).soft, 0U) << text;
  }
}

}  // namespace
}  // namespace loadstar::agent
