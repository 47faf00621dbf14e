#include "agent/tuner/container.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/agent/tuner/fake_host.h"

namespace loadstar::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kBacklog[] = "net.core.somaxconn";

// "key outcome", with "!" in front of an obstacle.
std::vector<std::string> Outcomes(const std::vector<v1::TuneStep>& steps) {
  std::vector<std::string> words;
  for (const v1::TuneStep& step : steps) {
    EXPECT_EQ(step.place(), v1::TUNE_PLACE_CONTAINER);
    words.push_back(absl::StrCat(step.obstacle() ? "!" : "", step.key(), " ",
                                 v1::TuneOutcome_Name(step.outcome()).substr(std::strlen("TUNE_OUTCOME_"))));
  }
  return words;
}

TEST(ContainerTest, DockerSetsKeysOfNetworkAndIpcNamespaces) {
  for (const char* key : {"net.core.somaxconn", "net.ipv4.tcp_rmem", "kernel.shmmax", "fs.mqueue.msg_max"}) {
    EXPECT_TRUE(DockerSets(key)) << key;
  }
  for (const char* key : {"fs.file-max", "kernel.pid_max", "vm.swappiness", "kernel.shmmaxx", "network.x"}) {
    EXPECT_FALSE(DockerSets(key)) << key;
  }
}

TEST(ContainerTest, PlansFromWhatAContainerBeginsWith) {
  FakeHost host;
  FakeHost fresh;
  host.values = {{kBacklog, "65535"}, {"net.core.rmem_max", "212992"}, {"vm.swappiness", "60"}};
  fresh.values = {
      {kBacklog, "4096"}, {"net.ipv4.tcp_fin_timeout", "60"}, {"net.ipv4.ip_local_port_range", "32768\t60999"}};
  v1::SysctlSetting tracked = Setting("net.netfilter.nf_conntrack_max", {1000});
  tracked.set_module("nf_conntrack");
  const std::vector<v1::TuneStep> steps = PlanContainerSysctls(
      Profile("big", {Setting(kBacklog, {1024}), Setting("net.ipv4.tcp_fin_timeout", {30}, v1::SYSCTL_POLICY_EXACTLY),
                      Setting("net.ipv4.ip_local_port_range", {1024, 65'535}, v1::SYSCTL_POLICY_COVERS),
                      Setting("net.core.rmem_max", {1}), Setting("vm.swappiness", {99}), tracked,
                      Setting("net.ipv4.no_such_key", {1})}),
      &host, &fresh);
  EXPECT_THAT(Outcomes(steps), ElementsAre("net.core.somaxconn FULFILLED", "net.ipv4.tcp_fin_timeout CHANGED",
                                           "net.ipv4.ip_local_port_range CHANGED", "!net.core.rmem_max MISSING",
                                           "!vm.swappiness UNSUITABLE", "net.netfilter.nf_conntrack_max MISSING",
                                           "!net.ipv4.no_such_key MISSING"));
  EXPECT_EQ(steps[0].after(), "4096") << "the host's 65535 is not what a container has";
  EXPECT_EQ(steps[1].after(), "30");
  EXPECT_TRUE(steps[1].lowers());
  EXPECT_THAT(steps[2].message(), HasSubstr("ip_local_reserved_ports"));
  EXPECT_THAT(steps[3].message(), HasSubstr("the profile has to say scope: host"));
  EXPECT_THAT(steps[4].message(), HasSubstr("Docker sets no such key"));
}

TEST(ContainerTest, DescriptorsAreRaisedUpToWhatTheKernelGives) {
  v1::TuningProfile profile = Profile("big", {});
  profile.mutable_descriptors()->set_soft(1000);
  profile.mutable_descriptors()->set_hard(2000);
  using Limit = os::DescriptorLimit;
  v1::TuneStep step = PlanContainerDescriptors(profile, Limit{.soft = 500, .hard = 4000}, 10'000);
  EXPECT_THAT(Outcomes({step}), ElementsAre("ulimit nofile CHANGED"));
  EXPECT_EQ(step.before(), "500:4000");
  EXPECT_EQ(step.after(), "1000:4000");
  step = PlanContainerDescriptors(profile, Limit{.soft = 1000, .hard = 2000}, 10'000);
  EXPECT_THAT(Outcomes({step}), ElementsAre("ulimit nofile FULFILLED"));
  step = PlanContainerDescriptors(profile, Limit{}, 10'000);
  EXPECT_THAT(Outcomes({step}), ElementsAre("ulimit nofile CHANGED"));
  EXPECT_EQ(step.before(), "") << "not known is not zero";
  step = PlanContainerDescriptors(profile, Limit{.soft = 0, .hard = 5000}, 10'000);
  EXPECT_EQ(step.before(), "");
  EXPECT_EQ(step.after(), "5000:5000");
  EXPECT_THAT(step.message(), HasSubstr("its soft one cannot be told"));
  step = PlanContainerDescriptors(profile, Limit{}, 1500);
  EXPECT_THAT(Outcomes({step}), ElementsAre("!ulimit nofile REFUSED"));
  EXPECT_THAT(step.message(), HasSubstr("fs.nr_open is 1500"));
  step = PlanContainerDescriptors(profile, absl::InvalidArgumentError("no JSON"), 1500);
  EXPECT_THAT(Outcomes({step}), ElementsAre("!ulimit nofile UNSUITABLE"));
}

TEST(ContainerTest, ANewNamespaceIsLookedAtAndGone) {
  const auto fresh = ReadNewNamespaces({kBacklog, "fs.file-max", "kernel.shmmni", "net.no.such"});
  if (absl::IsPermissionDenied(fresh.status())) GTEST_SKIP() << fresh.status();
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  EXPECT_EQ((*fresh)->Read(kBacklog).value_or(""), "4096") << "the kernel's default since Linux 5.4";
  EXPECT_TRUE((*fresh)->Writable(kBacklog));
  EXPECT_TRUE(absl::IsNotFound((*fresh)->Read("net.no.such").status()));
  EXPECT_TRUE(absl::IsNotFound((*fresh)->Read("not.asked.for").status()));
  EXPECT_FALSE((*fresh)->Write(kBacklog, "1").ok());
}

TEST(ContainerTest, NothingWantedIsNothingPlanned) {
  FakeHost host;
  EXPECT_THAT(PlanContainerSysctls(Profile("big", {}), &host, &host), IsEmpty());
}

}  // namespace
}  // namespace loadstar::agent
