#include "agent/tuner/coupling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

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

TEST(CouplingTest, WhatAnotherKeyMakesOfAValueIsTold) {
  std::map<std::string, std::string> values = {{"net.core.somaxconn", "4096"},
                                               {"net.netfilter.nf_conntrack_buckets", "65536"},
                                               {"net.ipv4.tcp_mem", "100\t200\t300"}};
  const auto remark = [&](const char* key, const std::string& value) {
    return CouplingRemark(key, value, [&](const std::string& other) { return values[other]; });
  };
  EXPECT_EQ(remark("net.ipv4.tcp_max_syn_backlog", "4096"), "");
  EXPECT_EQ(remark("net.ipv4.tcp_max_syn_backlog", "8192"),
            "a listener has no more connections half open than net.core.somaxconn lets it queue, 4096");
  EXPECT_EQ(remark("net.netfilter.nf_conntrack_max", "131072"), "");
  EXPECT_EQ(remark("net.netfilter.nf_conntrack_max", "2097152"),
            "with its 65536 buckets a full table has lists of 64; a larger net.netfilter.nf_conntrack_buckets makes "
            "them shorter");
  EXPECT_EQ(remark("net.ipv4.tcp_rmem", "4096\t131072\t4096"), "");
  EXPECT_EQ(remark("net.ipv4.tcp_rmem", "4096\t131072\t268435456"),
            "one connection could have more than all together may (net.ipv4.tcp_mem, 300 pages)");
  values.clear();
  for (const char* key : {"net.ipv4.tcp_max_syn_backlog", "net.netfilter.nf_conntrack_max", "net.ipv4.tcp_rmem"}) {
    EXPECT_EQ(remark(key, "4096 131072 268435456"), "") << "what is not known is no reason";
  }
  EXPECT_EQ(remark("net.core.somaxconn", "4096"), "");
}

}  // namespace
}  // namespace loadstar::agent
