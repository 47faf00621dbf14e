#include "agent/tuner/colima/colima_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "agent/tuner/colima/program_runner.h"
#include "lib/spec/spec.h"

namespace loadstar::agent {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

v1::TuningProfile Profile(const std::string& sysctls) {
  v1::Document document;
  document.set_yaml(
      "apiVersion: loadstar/v1\nkind: TuningProfile\nname: mine\ndescriptors: {soft: 1000, hard: 2000}\n"
      "sysctls:\n" +
      sysctls);
  spec::Parsed parsed = spec::Parse(document);
  EXPECT_TRUE(parsed.problems.empty()) << spec::ToString(parsed.problems);
  return std::move(parsed.tuning_profile);
}
std::string Setting(const std::string& key, const std::string& rest) {
  return "  - {key: " + key + ", value: " + rest + ", scope: host, effect: e, source: s}\n";
}
v1::TuningProfile Small() { return Profile(Setting("net.core.somaxconn", "4096")); }

constexpr StartOptions kSizes = {.cpus = 12, .memory_gib = 16, .disk_gib = 100};

TEST(MergeConfigTest, ANewConfigurationSaysEverythingAndReadsBack) {
  const auto text = MergeConfig("", Small(), kSizes);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, AllOf(HasSubstr("cpu: 12\nmemory: 16\ndisk: 100\nruntime: docker\n"),
                           HasSubstr("default-ulimits:"), HasSubstr("Soft: 1000"), HasSubstr("script: |\n"),
                           HasSubstr("at_least - /proc/sys/net/core/somaxconn 4096\n"), Not(HasSubstr("vmType"))));
  const auto config = ReadConfig(*text);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->cpus, 12U);
  EXPECT_EQ(config->memory_gib, 16);
  EXPECT_EQ(config->disk_gib, 100U);
  EXPECT_EQ(config->runtime, "docker");
  EXPECT_TRUE(config->ours);
  EXPECT_EQ(*MergeConfig(*text, Small(), kSizes), *text) << "a second time changes nothing";
}

TEST(MergeConfigTest, WhatIsTheUsersStays) {
  constexpr char kTheirs[] = R"(# comment
arch: host
cpu: "12"
network: {address: false, dns: [1.1.1.1]}
docker:
  log-opts: {max-file: "3"}
  default-ulimits:
    memlock: {Name: memlock, Soft: -1, Hard: -1}
    nofile: {name: nofile, soft: 5000, hard: -1}
"yes": "no"
layer:
provision:
  - mode: user
    script: |
      echo "mine"

      echo more
  - {mode: system, script: "a\tb \" \\ \n\n"}
)";
  const auto text = MergeConfig(kTheirs, Small(), kSizes);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text,
              AllOf(HasSubstr("cpu: \"12\"\n"), HasSubstr("max-file: \"3\""), HasSubstr("\"yes\": \"no\""),
                    HasSubstr("memlock:"), HasSubstr("soft: 5000"), HasSubstr("hard: -1"), Not(HasSubstr("Soft: 1000")),
                    HasSubstr("echo \"mine\"\n\n"), HasSubstr("1.1.1.1"), HasSubstr("layer: ~")));
  EXPECT_EQ(*MergeConfig(*text, Small(), kSizes), *text);
}

TEST(MergeConfigTest, OurScriptIsReplacedWhereItIs) {
  const auto first = MergeConfig("provision: [{mode: user, script: one}]", Small(), {});
  ASSERT_TRUE(first.ok()) << first.status();
  std::string edited = *first;
  edited.insert(edited.find("runtime:"), "  - {mode: user, script: two}\n");
  const auto second = MergeConfig(edited, Profile(Setting("a.b", "7")), {});
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_THAT(*second, AllOf(HasSubstr("at_least - /proc/sys/a/b 7"), Not(HasSubstr("somaxconn")), HasSubstr("two")));
  EXPECT_LT(second->find("script: one"), second->find("at_least -"));
  EXPECT_LT(second->find("at_least -"), second->find("script: two"));
}

TEST(MergeConfigTest, LowerLimitsAreRaised) {
  const auto text =
      MergeConfig("docker: {default-ulimits: {nofile: {Name: nofile, Hard: 1500, Soft: 100}}}", Small(), {});
  EXPECT_THAT(*text, AllOf(HasSubstr("Hard: 2000"), HasSubstr("Soft: 1000")));
}

TEST(MergeConfigTest, WhatCannotBeKeptIsRefusedWithItsPlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"cpu: &n 2\nmemory: *n\n", "colima.yaml:1:6: anchors"},
      {"cpu: [\n", "colima.yaml:"},
      {"- cpu\n", "colima.yaml:1:1: this is no mapping"},
      {"docker: many\n", "colima.yaml:1:9: docker: here is a value where a mapping is expected"},
      {"docker: {default-ulimits: [1]}\n", "docker.default-ulimits: here is a list where a mapping"},
      {"provision: {a: b}\n", "provision: here is a mapping where a list is expected"},
      {"cpu: 1\ncpu: 2\n", "the key \"cpu\" is there twice"},
      {"cpu: 1\n---\ncpu: 2\n", "second document"},
      {"\x01", "binary"},
  };
  for (const auto& [text, problem] : cases) {
    const auto merged = MergeConfig(text, Small(), kSizes);
    EXPECT_EQ(merged.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(merged.status().message()), HasSubstr(problem)) << text;
  }
}

TEST(ReadConfigTest, WhatIsNoNumberSaysNothing) {
  const auto config = ReadConfig("cpu: many\nmemory: -2\ndisk: 1.5\nvmType: vz\narch: [x]\n# end\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->cpus + config->disk_gib, 0U);
  EXPECT_EQ(config->memory_gib, 0);
  EXPECT_EQ(config->vm_type, "vz");
  EXPECT_EQ(config->arch, "");
  EXPECT_FALSE(config->ours);
}

// The script, run by sh over files in place of the kernel's.
class ProvisionScriptTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(folder_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Put(const std::string& path, const std::string& value) {
    const std::filesystem::path file = folder_ + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << value << "\n";
  }
  std::string Get(const std::string& path) {
    std::stringstream text;
    text << std::ifstream(folder_ + "/" + path).rdbuf();
    return text.str();
  }
  ProgramResult Run(const v1::TuningProfile& profile) {
    const auto runner = MakeProgramRunner({"PATH=/usr/sbin:/usr/bin:/sbin:/bin"});
    return runner->Run({.program = "/bin/sh", .arguments = {"-c", ProvisionScript(profile, folder_)}}).value();
  }

  std::string folder_ = std::filesystem::temp_directory_path() / "provision-XXXXXX";
};

TEST_F(ProvisionScriptTest, NothingIsLoweredButWhatIsWantedExactly) {
  Put("a/low", "128");
  Put("a/high", "18446744073709551615");
  Put("a/three", "4096\t200000\t6291456");
  Put("net/ipv4/ip_local_port_range", "512\t60999");
  Put("net/ipv4/ip_local_reserved_ports", "8080");
  Put("a/exact", "60");
  const auto result = Run(Profile(
      Setting("a.low", "4096") + Setting("a.high", "9223372036854775807") + Setting("a.three", "4096 131072 256MiB") +
      Setting("net.ipv4.ip_local_port_range", "1024-65535") +
      Setting("net.ipv4.ip_local_reserved_ports", "\"9100-9103,22\"") + Setting("a.exact", "30, policy: exactly")));
  EXPECT_EQ(result.exit.number, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(Get("a/low"), "4096\n");
  EXPECT_EQ(Get("a/high"), "18446744073709551615\n") << "beyond what a shell counts with";
  EXPECT_EQ(Get("a/three"), "4096 200000 268435456\n");
  EXPECT_EQ(Get("net/ipv4/ip_local_port_range"), "512 65535\n");
  EXPECT_EQ(Get("net/ipv4/ip_local_reserved_ports"), "8080,9100-9103,22\n");
  EXPECT_EQ(Get("a/exact"), "30\n");
}

TEST_F(ProvisionScriptTest, WhatCannotBeHadIsToldAndTheRestIsDone) {
  Put("a/pair", "1\t2");
  Put("a/last", "1");
  const auto result = Run(Profile(Setting("a.missing", "5") + Setting("a.of_module", "5, module: no_such_module") +
                                  Setting("a.pair", "5") + Setting("a.last", "5")));
  EXPECT_EQ(result.exit.number, 0) << "the machine comes up all the same";
  EXPECT_THAT(result.err, AllOf(HasSubstr("there is no " + folder_ + "/a/missing"), HasSubstr("/a/of_module"),
                                HasSubstr("/a/pair has more numbers than are wanted")));
  EXPECT_EQ(Get("a/pair"), "1\t2\n");
  EXPECT_EQ(Get("a/last"), "5\n");
}

TEST_F(ProvisionScriptTest, IsCleanForShellcheck) {
  const auto runner = MakeProgramRunner({"PATH=/usr/bin:/bin"});
  const auto shellcheck = runner->Find("shellcheck");
  if (!shellcheck.ok()) GTEST_SKIP() << "shellcheck is not installed";
  const auto shipped = spec::ReadDocument(LOADSTAR_SOURCE_DIR "/deploy/tuning/colima-100k.yaml");
  ASSERT_TRUE(shipped.ok()) << shipped.status();
  std::ofstream(folder_ + "/script.sh") << ProvisionScript(spec::Parse(*shipped).tuning_profile);
  // Below warnings: functions that a profile has no use for, and words read in a loop, which is what is meant.
  const auto result = runner->Run(
      {.program = *shellcheck, .arguments = {"--shell=dash", "--severity=warning", folder_ + "/script.sh"}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->exit.number, 0) << result->out;
}

TEST(ConfigPathTest, IsWhereColimaLooks) {
  const auto everywhere = [](const std::string& /*path*/) { return true; };
  const auto nowhere = [](const std::string& /*path*/) { return false; };
  const auto old_home = [](const std::string& path) { return path == "/h/.colima"; };
  const auto path = [](std::vector<std::string> environment, HostSystem system, bool (*is_folder)(const std::string&)) {
    return ConfigPath(environment, system, "x", is_folder);
  };
  const std::vector<std::string> all = {"HOME=/h", "XDG_CONFIG_HOME=/c", "COLIMA_HOME=/o", "HOMER=/no"};
  EXPECT_EQ(path(all, HostSystem::kLinux, everywhere), "/o/x/colima.yaml");
  EXPECT_EQ(path(all, HostSystem::kLinux, old_home), "/h/.colima/x/colima.yaml");
  EXPECT_EQ(path(all, HostSystem::kLinux, nowhere), "/c/colima/x/colima.yaml");
  EXPECT_EQ(path({"HOME=/h"}, HostSystem::kLinux, nowhere), "/h/.config/colima/x/colima.yaml");
  EXPECT_EQ(path({"HOME=/h"}, HostSystem::kMacOs, nowhere), "/h/.colima/x/colima.yaml");
  EXPECT_EQ(path({}, HostSystem::kLinux, nowhere), "");
}

TEST(RestoreConfigTest, WhatIsOursIsTakenBackAndTheRestStays) {
  constexpr char kBefore[] =
      "cpu: 4\ndocker:\n  log-opts:\n    max-file: \"3\"\nprovision:\n  - mode: user\n    script: a\n";
  const auto merged = MergeConfig(kBefore, Small(), kSizes);
  ASSERT_TRUE(merged.ok()) << merged.status();
  auto restored = RestoreConfig(*merged + "hostname: mine\n", *merged, kBefore);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_THAT(restored->kept, ::testing::IsEmpty());
  EXPECT_TRUE(SameConfig(restored->text, std::string(kBefore) + "runtime: docker\nhostname: mine\n")) << restored->text;

  std::string changed = *merged;
  changed.replace(changed.find("memory: 16"), 10, "memory: 32");
  restored = RestoreConfig(changed, *merged, kBefore);
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_THAT(restored->kept, ::testing::ElementsAre("memory"));
  EXPECT_THAT(restored->text, HasSubstr("memory: 32"));
}

TEST(RestoreConfigTest, WithoutAConfigurationBeforeNothingOfOursIsLeft) {
  const auto merged = MergeConfig("", Small(), kSizes);
  const auto restored = RestoreConfig(*merged, *merged, "");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->text, "runtime: docker\n");
}

}  // namespace
}  // namespace loadstar::agent
