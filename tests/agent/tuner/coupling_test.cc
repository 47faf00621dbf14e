#include "agent/tuner/coupling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/agent/tuner/fake_host.h"

namespace loadstar::agent {
namespace {

using ::testing::ElementsAre;

const v1::SysctlSetting kRange = Setting("net.ipv4.ip_local_port_range", {1024, 65'535}, v1::SYSCTL_POLICY_COVERS);

std::vector<std::string> KeysOf(const v1::TuningProfile& profile) {
  std::vector<std::string> keys;
  keys.reserve(static_cast<size_t>(profile.sysctls_size()));
  for (const v1::SysctlSetting& setting : profile.sysctls()) keys.push_back(setting.key());
  return keys;
}

TEST(CouplingTest, PortsThatSomebodyListensOnAreReservedBeforeTheRangeIsWidened) {
  const v1::TuningProfile coupled =
      WithCouplings(Profile("p", {Setting("net.core.somaxconn", {4096}), kRange}), {22, 7400, 9100, 9101});
  EXPECT_THAT(KeysOf(coupled),
              ElementsAre("net.core.somaxconn", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_local_port_range"));
  EXPECT_THAT(coupled.sysctls(1).values(), ElementsAre(7400, 7400, 9100, 9100, 9101, 9101));
  FakeHost host;
  host.values = {{"net.core.somaxconn", "128"},
                 {"net.ipv4.ip_local_port_range", "32768\t60999"},
                 {"net.ipv4.ip_local_reserved_ports", "8080"}};
  Tuner tuner(&host, &host, kEra);
  ASSERT_TRUE(tuner.Load().ok());
  tuner.Apply(coupled);
  EXPECT_EQ(host.values["net.ipv4.ip_local_reserved_ports"], "7400,8080,9100-9101");
}

TEST(CouplingTest, WhatTheProfileReservesItselfStays) {
  const v1::SysctlSetting own = Setting("net.ipv4.ip_local_reserved_ports", {5000, 5010}, v1::SYSCTL_POLICY_INCLUDES);
  EXPECT_THAT(WithCouplings(Profile("p", {kRange, own}), {9100}).sysctls(0).values(),
              ElementsAre(9100, 9100, 5000, 5010));
  EXPECT_THAT(KeysOf(WithCouplings(Profile("p", {kRange, own}), {})), ElementsAre(kRange.key(), own.key()));
}

TEST(CouplingTest, WithoutAWiderRangeNothingIsReserved) {
  EXPECT_THAT(KeysOf(WithCouplings(Profile("p", {Setting("net.core.somaxconn", {4096})}), {9100})),
              ElementsAre("net.core.somaxconn"));
}

}  // namespace
}  // namespace loadstar::agent
