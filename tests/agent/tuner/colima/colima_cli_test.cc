#include "agent/tuner/colima/colima_cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/agent/tuner/colima/fake_colima.h"

namespace loadstar::agent {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ColimaCliTest, VersionsAreReadAsReleasesPrintThem) {
  const auto version = [](std::string_view text) { return ParseVersion(text, "colima version"); };
  EXPECT_EQ(*version("colima version 0.6.9\ngit commit: 1\n"), (ProgramVersion{0, 6, 9}));
  EXPECT_EQ(*version("colima version v0.10.1-3-gabc"), (ProgramVersion{0, 10, 1}));
  EXPECT_EQ(*version("colima version 1.0"), (ProgramVersion{1, 0, 0}));
  EXPECT_LT(*version("colima version 0.9.9"), (ProgramVersion{0, 10, 0}));
  for (const char* text : {"", "colima version", "colima version HEAD-abc", "colima version 1", "podman version 4.3.1",
                           "colima version 99999999999.1.1"}) {
    EXPECT_FALSE(version(text).ok()) << text;
  }
}

TEST(ColimaCliTest, MachinesAreALineEach) {
  const auto machines = ParseMachines(
      R"({"name":"default","status":"Running","arch":"aarch64","cpus":4,"memory":8589934592,"disk":1,"runtime":"docker"}

{"name":"x","status":"Stopped","memory":2.147483648e+09,"cpus":-3}
)");
  ASSERT_TRUE(machines.ok()) << machines.status();
  ASSERT_EQ(machines->size(), 2U);
  EXPECT_TRUE((*machines)[0].running());
  EXPECT_EQ((*machines)[0].memory_bytes, 8'589'934'592U);
  EXPECT_EQ((*machines)[0].runtime, "docker");
  EXPECT_FALSE((*machines)[1].running());
  EXPECT_EQ((*machines)[1].memory_bytes, 2'147'483'648U);
  EXPECT_EQ((*machines)[1].cpus, 0U);
  EXPECT_TRUE(ParseMachines("")->empty());
  for (const char* text :
       {"[]", "{}", "{\"name\":\"x\"}", "PROFILE STATUS", "{\"name\":\"x\",\"status\":\"Running\"", "null"}) {
    EXPECT_FALSE(ParseMachines(text).ok()) << text;
  }
}

TEST(ColimaCliTest, MachinesAreNamedAsColimaDoes) {
  EXPECT_EQ(*MachineName("loadstar"), "loadstar");
  EXPECT_EQ(*MachineName("colima-loadstar"), "loadstar");
  EXPECT_EQ(*MachineName("colima"), "default");
  EXPECT_EQ(*MachineName(""), "default");
  for (const char* text : {"colima-", "-x", "a b", "../x", "a/b", "A", "x;y", "--profile"}) {
    EXPECT_FALSE(MachineName(text).ok()) << text;
  }
}

TEST(ColimaCliTest, WhatIsMissingIsNamedWithHowToInstallIt) {
  FakeRunner runner;
  runner.missing = {"colima", "limactl"};
  ColimaCli on_linux(&runner, HostSystem::kLinux);
  const absl::Status status = on_linux.Detect();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("colima is not installed: copy colima-Linux-"),
                    HasSubstr("limactl is not installed: unpack"), Not(HasSubstr("docker is not"))));
  ColimaCli on_macos(&runner, HostSystem::kMacOs);
  EXPECT_EQ(std::string(on_macos.Detect().message()),
            "colima is not installed: brew install colima\nlimactl is not installed: brew install lima");
}

TEST(ColimaCliTest, OldAndUnknownVersionsAreRefused) {
  FakeRunner runner;
  runner.versions["colima version"] = "colima version 0.5.9\n";
  runner.versions["limactl --version"] = "limactl version 0.17.9\n";
  runner.versions["docker --version"] = "podman version 4.3.1\n";
  ColimaCli cli(&runner, HostSystem::kMacOs);
  EXPECT_THAT(
      std::string(cli.Detect().message()),
      AllOf(HasSubstr("colima 0.5.9 is too old, 0.6.0 is the oldest that works here: brew install colima"),
            HasSubstr("limactl 0.17.9 is too old, 0.18.0 is"), HasSubstr("docker is of no version that is known")));
}

class StartTest : public ::testing::Test {
 protected:
  // What start is called with.
  std::string Started(const std::string& version, HostSystem system, const StartOptions& options) {
    runner_.versions["colima version"] = "colima version " + version;
    ColimaCli cli(&runner_, system);
    EXPECT_TRUE(cli.Detect().ok());
    EXPECT_TRUE(cli.Start("x", options).ok());
    return runner_.calls.back();
  }
  FakeRunner runner_;
};

TEST_F(StartTest, FlagsAreThoseOfVersionAndSystem) {
  const StartOptions options = {.cpus = 12, .memory_gib = 16, .disk_gib = 100};
  const StartOptions typed = {.cpus = 12, .memory_gib = 16, .disk_gib = 100, .vm_type = "vz"};
  const std::string old = "colima start --profile x --runtime docker --cpu 12 --memory 16 --disk 100";
  const std::string recent = "colima start --profile x --runtime docker --cpus 12 --memory 16 --disk 100";
  EXPECT_EQ(Started("0.6.0", HostSystem::kLinux, options), old);
  EXPECT_EQ(Started("0.9.9", HostSystem::kLinux, options), old);
  EXPECT_EQ(Started("0.10.0", HostSystem::kLinux, options), recent);
  EXPECT_EQ(Started("1.0.0", HostSystem::kMacOs, options), recent);
  EXPECT_EQ(Started("0.10.0", HostSystem::kLinux, typed), recent) << "Linux does not know the flag";
  EXPECT_EQ(Started("0.10.0", HostSystem::kMacOs, typed), recent + " --vm-type vz");
  EXPECT_EQ(Started("0.10.0", HostSystem::kLinux, {}), "colima start --profile x --runtime docker");
}

TEST(ColimaCliTest, DataGoesWithTheMachineWhereItHasADiskOfItsOwn) {
  FakeRunner runner;
  ColimaCli cli(&runner, HostSystem::kLinux);
  ASSERT_TRUE(cli.Detect().ok());
  runner.calls.clear();
  runner.answer = [](const std::string& call) { return Says(call == "colima delete --help" ? "  -d, --data\n" : ""); };
  EXPECT_TRUE(cli.Delete("x").ok());
  runner.answer = [](const std::string& /*call*/) { return Says("  -f, --force\n"); };
  EXPECT_TRUE(cli.Delete("x").ok());
  EXPECT_THAT(runner.calls, ElementsAre("colima delete --help", "colima delete --profile x --force --data",
                                        "colima delete --help", "colima delete --profile x --force"));
}

TEST(ColimaCliTest, FailuresSayWhatColimaSaid) {
  FakeRunner runner;
  ColimaCli cli(&runner, HostSystem::kLinux);
  EXPECT_EQ(cli.Stop("x").code(), absl::StatusCode::kFailedPrecondition) << "not detected yet";
  ASSERT_TRUE(cli.Detect().ok());
  runner.answer = [](const std::string& /*call*/) {
    return Says("", 1, "INFO starting\none\ntwo\nFATA error starting vm: exit status 1\n");
  };
  EXPECT_EQ(
      std::string(cli.Start("x", {}).message()),
      "colima start --profile x --runtime docker: it exited with code 1: one / two / FATA error starting vm: exit "
      "status 1");
  runner.answer = [](const std::string& /*call*/) { return Says("", 1, "FATA colima [profile=x] not running\n"); };
  EXPECT_EQ(cli.Inside("x", {"true"}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(runner.calls.back(), "colima ssh --profile x -- true");
  runner.answer = [](const std::string& /*call*/) { return Says("", 7, "no\n"); };
  EXPECT_EQ(cli.Inside("x", {"false"})->exit.number, 7) << "a command's own failure is its result";
  runner.answer = [](const std::string& /*call*/) { return Says("PROFILE STATUS\n"); };
  EXPECT_THAT(std::string(cli.Find("x").status().message()), HasSubstr("colima list --json: a line is no machine"));
}

}  // namespace
}  // namespace loadstar::agent
