#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "lib/spec/spec.h"
#include "lib/spec/sysctl_key.h"

namespace loadstar::spec {
namespace {

using ::testing::HasSubstr;

TEST(SysctlKeyTest, OnlyDottedNamesAreKeys) {
  for (const char* key : {"net.core.somaxconn", "fs.file-max", "net.ipv4.conf.eth0.rp_filter", "kernel.pid_max"}) {
    EXPECT_TRUE(IsSysctlKey(key)) << key;
  }
  for (const char* text :
       {"", ".", "net", "net.", ".net.core", "net..core", "net/core/somaxconn", "net.core/somaxconn",
        "net.core.somaxconn\n", "../etc/passwd", "net. core", "net.core.somaxconn=5", "n\xc3\xa9t.x"}) {
    EXPECT_FALSE(IsSysctlKey(text)) << text;
  }
  EXPECT_FALSE(IsSysctlKey(std::string(100, 'a') + "." + std::string(100, 'b')));
}

// A profile of one setting, which these lines say.
Parsed WithSetting(const std::string& lines) {
  v1::Document document;
  document.set_file_name("tuning.yaml");
  document.set_yaml("apiVersion: loadstar/v1\nkind: TuningProfile\nname: mine\nsysctls:\n  - {" + lines + "}\n");
  return Parse(document);
}
constexpr char kRest[] = ", scope: host, effect: e, source: s";

TEST(TuningProfileTest, ValuesAreReadAsPeopleWriteThem) {
  const struct {
    const char* key;
    const char* text;
    std::vector<uint64_t> values;
    v1::SysctlPolicy policy;
  } cases[] = {
      {"a.b", "4096", {4096}, v1::SYSCTL_POLICY_AT_LEAST},
      {"a.b", "2M", {2'000'000}, v1::SYSCTL_POLICY_AT_LEAST},
      {"a.b", "256MiB", {268'435'456}, v1::SYSCTL_POLICY_AT_LEAST},
      {"a.b", "4096  131072 256MiB", {4096, 131'072, 268'435'456}, v1::SYSCTL_POLICY_AT_LEAST},
      {"a.b", "30, policy: exactly", {30}, v1::SYSCTL_POLICY_EXACTLY},
      {"net.ipv4.tcp_tw_reuse", "1", {1}, v1::SYSCTL_POLICY_EXACTLY},
      {"net.ipv4.ip_local_port_range", "1024-65535", {1024, 65'535}, v1::SYSCTL_POLICY_COVERS},
      {"net.ipv4.ip_local_port_range", "1024 65535", {1024, 65'535}, v1::SYSCTL_POLICY_COVERS},
      {"net.ipv4.ip_local_port_range", "1024 - 65535, policy: exactly", {1024, 65'535}, v1::SYSCTL_POLICY_EXACTLY},
      {"net.ipv4.ip_local_reserved_ports", "9100", {9100, 9100}, v1::SYSCTL_POLICY_INCLUDES},
      {"net.ipv4.ip_local_reserved_ports", "\"8080, 9100-9103\"", {8080, 8080, 9100, 9103}, v1::SYSCTL_POLICY_INCLUDES},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.text);
    const Parsed parsed = WithSetting(std::string("key: ") + one.key + kRest + ", value: " + one.text);
    ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
    ASSERT_EQ(parsed.kind, Parsed::Kind::kTuningProfile);
    const v1::SysctlSetting& setting = parsed.tuning_profile.sysctls(0);
    EXPECT_THAT(setting.values(), ::testing::ElementsAreArray(one.values));
    EXPECT_EQ(setting.policy(), one.policy);
  }
}

TEST(TuningProfileTest, BadSettingsAreToldWithPlaceAndRemedy) {
  const std::string rest = kRest;
  const std::string range = "key: net.ipv4.ip_local_port_range, value: ";
  const std::string ports = "key: net.ipv4.ip_local_reserved_ports, value: ";
  const struct {
    std::string setting;
    const char* problem;
  } cases[] = {
      {"key: net/core/somaxconn, value: 1" + rest,
       "tuning.yaml:5:11: sysctls[0].key: \"net/core/somaxconn\" is no sysctl's name. Write it with dots"},
      {"key: ../x.y, value: 1" + rest, "is no sysctl's name"},
      {"value: 1" + rest, "sysctls[0].key: the setting has no key"},
      {"key: a.b" + rest, "sysctls[0].value: the setting has no value"},
      {"key: a.b, value: many" + rest, "sysctls[0].value: \"many\""},
      {"key: a.b, value: -5" + rest, "sysctls[0].value: \"-5\""},
      {"key: a.b, value: 1 2 3 4" + rest, "there are 4 numbers; at most 3 are possible"},
      {"key: a.b, value: 1e19" + rest, "is more than the kernel can hold"},
      {"key: a.b, value: 0" + rest, "every value is at least 0, so this asks for nothing. Write policy: exactly"},
      {"key: a.b, value: 1024-65535" + rest, "sysctls[0].value: \"1024-65535\""},
      {range + "1024" + rest, "\"1024\" is no range. Write it such as 1024-65535"},
      {range + "65535-1024" + rest, "the range 65535-1024 ends before it begins"},
      {range + "1024-70000" + rest, "there is no port 70000. The last one is 65535"},
      {range + "1024-65535, policy: at-least" + rest,
       "the numbers of net.ipv4.ip_local_port_range are the ends of a range, for which at-least means nothing. Write "
       "policy: covers or exactly"},
      {ports + "\"80,\"" + rest, "sysctls[0].value: "},
      {ports + "80, policy: exactly" + rest, "Write policy: includes"},
      {"key: a.b, value: 5, policy: covers" + rest, "are sizes, for which covers means nothing"},
      {"key: a.b, value: 5, policy: at-last" + rest, "Did you mean \"at-least\"?"},
      {"key: a.b, valeu: 5" + rest, "unknown key \"valeu\". Did you mean \"value\""},
      {"key: net.ipv4.tcp_tw_reuse, value: 1, policy: at-least" + rest,
       "are choices, of which none is more than another, for which at-least means nothing. Write policy: exactly"},
      {"key: a.b, value: 5, effect: e, source: s", "sysctls[0].scope: it is not said what a change reaches"},
      {"key: a.b, value: 5, scope: host, source: s", "sysctls[0].effect: the setting has no effect"},
      {"key: a.b, value: 5, scope: host, effect: e", "sysctls[0].source: the setting has no source"},
      {"key: a.b, value: 5, module: \"-r x\"" + rest,
       "sysctls[0].module: \"-r x\" is no module's name. Write it as lsmod shows it, such as nf_conntrack"},
      {"key: a.b, value: 5" + rest + "}\n  - {key: a.b, value: 6" + rest,
       "tuning.yaml:6:11: sysctls[1].key: a.b is there twice (sysctls[0].key). Keep one of them"},
  };
  for (const auto& one : cases) {
    const Parsed parsed = WithSetting(one.setting);
    EXPECT_EQ(parsed.problems.size(), 1U) << one.setting << "\n" << ToString(parsed.problems);
    EXPECT_THAT(ToString(parsed.problems), HasSubstr(one.problem)) << one.setting;
  }
}

// A profile of one good setting and these lines besides, from line 6 on.
Parsed WithLines(const std::string& lines) {
  v1::Document document;
  document.set_file_name("tuning.yaml");
  document.set_yaml(std::string("apiVersion: loadstar/v1\nkind: TuningProfile\nname: mine\nsysctls:\n  - {key: a.b, "
                                "value: 5") +
                    kRest + "}\n" + lines);
  return Parse(document);
}

TEST(TuningProfileTest, DescriptorsAndTheVirtualMachineAreReadAsPeopleWriteThem) {
  const Parsed parsed =
      WithLines("descriptors: {soft: 100k, hard: 262144}\nvirtualMachine: {cpus: 12, memory: 16GiB, disk: 100GiB}\n");
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  EXPECT_EQ(parsed.tuning_profile.descriptors().soft(), 100'000U);
  EXPECT_EQ(parsed.tuning_profile.descriptors().hard(), 262'144U);
  EXPECT_EQ(parsed.tuning_profile.virtual_machine().cpus(), 12U);
  EXPECT_EQ(parsed.tuning_profile.virtual_machine().memory_bytes(), 16ULL << 30);
  EXPECT_EQ(parsed.tuning_profile.virtual_machine().disk_bytes(), 100ULL << 30);
}

TEST(TuningProfileTest, TheHardLimitIsTheSoftOneUnlessSaid) {
  const Parsed parsed = WithLines("descriptors: {soft: 1}\n");
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  EXPECT_EQ(parsed.tuning_profile.descriptors().hard(), 1U);
  EXPECT_FALSE(parsed.tuning_profile.has_virtual_machine());
  EXPECT_FALSE(WithLines("").tuning_profile.has_descriptors());
}

TEST(TuningProfileTest, BadDescriptorsAndMachinesAreToldWithPlaceAndRemedy) {
  const std::string rest = ", memory: 16GiB, disk: 100GiB}\n";
  const struct {
    std::string lines;
    const char* problem;
  } cases[] = {
      {"descriptors: {soft: 5, hard: 4}\n",
       "tuning.yaml:6:21: descriptors.soft: a process would begin with 5, which is more than it may have (4). Raise "
       "hard or lower soft"},
      {"descriptors: {soft: 0}\n", "descriptors.soft: a process has to be allowed at least one file"},
      {"descriptors: {soft: 1, hard: 0}\n", "descriptors.hard: a process has to be allowed at least one file"},
      {"descriptors: {hard: 5}\n", "descriptors.soft: a process has to be allowed at least one file"},
      {"descriptors: {}\n", "descriptors.soft: a process has to be allowed at least one file"},
      {"descriptors: {soft: 5, hard: 1073741817}\n",
       "descriptors.hard: 1073741817 is more than the kernel lets a process have. At most 1073741816 is possible"},
      {"descriptors: {soft: many}\n", "tuning.yaml:6:21: descriptors.soft: \"many\""},
      {"descriptors: {sotf: 5}\n", "unknown key \"sotf\". Did you mean \"soft\""},
      {"descriptors: 262144\n", "descriptors: found \"262144\" where a mapping such as {soft: 262144, hard: 262144}"},
      {"descriptors:\n", "descriptors: the key has no value"},
      {"virtualMachine: {cpus: 0" + rest, "virtualMachine.cpus: the virtual machine has no cpus. Write it such as"},
      {"virtualMachine: {cpus: 1025" + rest, "virtualMachine.cpus: 1025 is more than 1024, the most that is allowed"},
      {"virtualMachine: {cpus: 12, memory: 511MiB, disk: 10GiB}\n",
       "virtualMachine.memory: 535822336 bytes is less than 536870912 bytes, the least that is allowed. Write it such "
       "as memory: 16GiB"},
      {"virtualMachine: {cpus: 12, memory: 1GiB, disk: 9GiB}\n", "virtualMachine.disk: 9663676416 bytes is less than"},
      {"virtualMachine: {cpus: 12, memory: 1GiB}\n", "virtualMachine.disk: the virtual machine has no disk"},
      {"virtualMachine: {cpu: 12" + rest, "unknown key \"cpu\". Did you mean \"cpus\""},
      {"virtualMachine: [12]\n", "virtualMachine: found a list where a mapping such as {cpus: 12"},
  };
  for (const auto& one : cases) {
    const Parsed parsed = WithLines(one.lines);
    EXPECT_EQ(parsed.problems.size(), 1U) << one.lines << "\n" << ToString(parsed.problems);
    EXPECT_THAT(ToString(parsed.problems), HasSubstr(one.problem)) << one.lines;
  }
  const Parsed least = WithLines("virtualMachine: {cpus: 1, memory: 512MiB, disk: 10GiB}\n");
  EXPECT_TRUE(least.problems.empty()) << ToString(least.problems);
}

TEST(TuningProfileTest, ConditionsSayWhichHostsAreMeant) {
  const Parsed parsed = WithLines("when: {kernelFrom: 5.10, kernelBefore: 6.1.3, cgroup: 2}\n");
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  EXPECT_EQ(parsed.tuning_profile.when().kernel_from(), "5.10");
  EXPECT_EQ(parsed.tuning_profile.when().kernel_before(), "6.1.3");
  EXPECT_EQ(parsed.tuning_profile.when().cgroup(), 2U);
  const Parsed setting = WithSetting("key: a.b, value: 5, scope: container, when: {cgroup: 1}, effect: e, source: s");
  ASSERT_TRUE(setting.problems.empty()) << ToString(setting.problems);
  EXPECT_EQ(setting.tuning_profile.sysctls(0).scope(), v1::SYSCTL_SCOPE_CONTAINER);
  EXPECT_EQ(setting.tuning_profile.sysctls(0).when().cgroup(), 1U);
  EXPECT_FALSE(WithLines("").tuning_profile.has_when());
}

TEST(TuningProfileTest, BadConditionsAreToldWithPlaceAndRemedy) {
  const struct {
    const char* lines;
    const char* problem;
  } cases[] = {
      {"when: {kernelFrom: six}\n",
       "tuning.yaml:6:20: when.kernelFrom: \"six\" is no kernel's version. Write it such as 5.7 or 6.1.10"},
      {"when: {kernelBefore: 6}\n", "when.kernelBefore: \"6\" is no kernel's version"},
      {"when: {kernelFrom: 6.1, kernelBefore: 5.10}\n",
       "when.kernelBefore: no kernel is 6.1 or newer and older than 5.10. Raise kernelBefore or leave one of them out"},
      {"when: {kernelFrom: 6.1, kernelBefore: 6.1.0}\n", "no kernel is 6.1 or newer and older than 6.1.0"},
      {"when: {cgroup: 3}\n", "when.cgroup: there is no version 3 of control groups. Write cgroup: 1 or cgroup: 2"},
      {"when: {cgroup: 0}\n", "when.cgroup: there is no version 0 of control groups"},
      {"when: {cgroup: }\n", "when.cgroup: the key has no value"},
      {"when: {}\n", "when: the condition says nothing"},
      {"when: {cgroup: 2}\nvirtualMachine: {cpus: 1, memory: 1GiB, disk: 10GiB}\n",
       "virtualMachine: a profile for a virtual machine can have no conditions (when)"},
      {"when: {kernel: 6.1}\n", "unknown key \"kernel\""},
      {"when: 6.1\n", "when: found \"6.1\" where a mapping such as {kernelFrom: 5.7, cgroup: 2}"},
  };
  for (const auto& one : cases) {
    const Parsed parsed = WithLines(one.lines);
    EXPECT_EQ(parsed.problems.size(), 1U) << one.lines << "\n" << ToString(parsed.problems);
    EXPECT_THAT(ToString(parsed.problems), HasSubstr(one.problem)) << one.lines;
  }
}

TEST(TuningProfileTest, AProfileWithoutSettingsIsNone) {
  v1::Document document;
  document.set_yaml("apiVersion: loadstar/v1\nkind: TuningProfile\nname: mine\n");
  EXPECT_THAT(ToString(Parse(document).problems), HasSubstr("sysctls: the profile has no settings"));
}

TEST(TuningProfileTest, AMessageIsHeldToTheSameRules) {
  v1::TuningProfile profile;
  profile.set_name("mine");
  v1::SysctlSetting* setting = profile.add_sysctls();
  setting->set_key("a..b");
  setting->add_values(1);
  setting->set_scope(v1::SYSCTL_SCOPE_HOST);
  setting->set_effect("e");
  setting->set_source("s");
  EXPECT_THAT(ToString(Complete(&profile)), HasSubstr("\"a..b\" is no sysctl's name"));
  setting->set_key("a.b");
  EXPECT_EQ(ToString(Complete(&profile)), "");
  EXPECT_EQ(setting->policy(), v1::SYSCTL_POLICY_AT_LEAST);
}

}  // namespace
}  // namespace loadstar::spec
