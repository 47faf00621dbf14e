#include "lib/plan/tuning_need.h"

#include <gtest/gtest.h>

#include <string>

namespace loadstar::plan {
namespace {

v1::TestSpec Ramp(uint64_t connections, int ramp_s) {
  v1::TestSpec test;
  test.set_name("big");
  test.mutable_target()->add_endpoints("127.0.0.1:9100");
  v1::Stage* ramp = test.mutable_load()->add_connections();
  ramp->mutable_duration()->set_seconds(ramp_s);
  ramp->set_to_connections(connections);
  v1::Stage* hold = test.mutable_load()->add_connections();
  hold->mutable_duration()->set_seconds(60);
  hold->set_to_connections(connections);
  hold->set_hold(true);
  return test;
}

const v1::SysctlSetting* Find(const v1::TuningProfile& profile, const std::string& key) {
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (setting.key() == key) return &setting;
  }
  return nullptr;
}

uint64_t Value(const v1::TuningProfile& profile, const std::string& key) {
  const v1::SysctlSetting* setting = Find(profile, key);
  return setting == nullptr ? 0 : setting->values(0);
}

TEST(TuningNeedTest, FollowsFromTheConnectionsAndTheirRamp) {
  const v1::TuningProfile profile = TuningNeed(Ramp(100'000, 50));
  EXPECT_EQ(profile.name(), "for-big");
  EXPECT_EQ(Value(profile, "fs.file-max"), 265'536u);
  EXPECT_EQ(Value(profile, "net.core.somaxconn"), 2'000u);
  EXPECT_EQ(Value(profile, "net.ipv4.tcp_max_syn_backlog"), 2'000u);
  EXPECT_EQ(Value(profile, "net.ipv4.tcp_max_tw_buckets"), 100'000u);
  EXPECT_EQ(Value(profile, "net.netfilter.nf_conntrack_max"), 125'000u);
  EXPECT_EQ(Find(profile, "net.netfilter.nf_conntrack_max")->module(), "nf_conntrack");
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    EXPECT_FALSE(setting.effect().empty()) << setting.key();
    EXPECT_FALSE(setting.source().empty()) << setting.key();
    EXPECT_NE(setting.scope(), v1::SYSCTL_SCOPE_UNSPECIFIED) << setting.key();
    EXPECT_NE(setting.policy(), v1::SYSCTL_POLICY_EXACTLY) << setting.key();
  }
}

TEST(TuningNeedTest, AsksForMorePortsThanTheDefaultOnlyWhereOnePairOfAddressesNeedsThem) {
  const auto first_port = [](const v1::TestSpec& test) {
    return Value(TuningNeed(test), "net.ipv4.ip_local_port_range");
  };
  v1::TestSpec test = Ramp(14'116, 10);
  EXPECT_EQ(first_port(test), 32'768u);
  test = Ramp(14'117, 10);
  EXPECT_EQ(first_port(test), 1'024u);
  test.mutable_target()->add_endpoints("127.0.0.1:9101");
  EXPECT_EQ(first_port(test), 32'768u);
  test = Ramp(30'000, 10);
  for (const char* source : {"127.0.0.2", "127.0.0.3", "127.0.0.4"}) test.mutable_load()->add_source_addresses(source);
  EXPECT_EQ(first_port(test), 32'768u);
}

TEST(TuningNeedTest, GoesByTheSteepestOfTheRampsWithinWhatAQueueCanBe) {
  v1::TestSpec test = Ramp(1'000, 100);
  EXPECT_EQ(Value(TuningNeed(test), "net.core.somaxconn"), 128u) << "no less than the least that kernels have";
  v1::Stage* burst = test.mutable_load()->add_connections();
  burst->mutable_duration()->set_nanos(500'000'000);
  burst->set_to_connections(4'000);
  EXPECT_EQ(Value(TuningNeed(test), "net.core.somaxconn"), 6'000u);
  burst->set_to_connections(1'000'000);
  EXPECT_EQ(Value(TuningNeed(test), "net.core.somaxconn"), 65'535u);
}

TEST(TuningNeedTest, ALongNameIsCut) {
  v1::TestSpec test = Ramp(10, 1);
  test.set_name(std::string(63, 'a'));
  EXPECT_EQ(TuningNeed(test).name().size(), 63u);
}

}  // namespace
}  // namespace loadstar::plan
