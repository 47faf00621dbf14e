#include "agent/policy.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace loadstar::agent {
namespace {

TEST(AddressRange, ContainsExactlyItsAddresses) {
  const struct {
    const char* range;
    const char* host;
    bool within;
  } cases[] = {
      {"127.0.0.0/8", "127.255.255.255", true},
      {"127.0.0.0/8", "128.0.0.0", false},
      {"10.1.2.0/23", "10.1.3.255", true},
      {"10.1.2.0/23", "10.1.4.0", false},
      {"10.1.2.3", "10.1.2.3", true},
      {"10.1.2.3", "10.1.2.2", false},
      {"0.0.0.0/0", "203.0.113.9", true},
      {"0.0.0.0/0", "::1", false},
      {"::1/128", "::1", true},
      {"::1/128", "::2", false},
      {"fd00::/9", "fd7f::1", true},
      {"fd00::/9", "fd80::1", false},
      {"127.0.0.0/8", "::ffff:127.0.0.1", true},
      {"127.0.0.0/8", "localhost", false},
      {"127.0.0.0/8", "", false},
  };
  for (const auto& c : cases) {
    const auto range = AddressRange::Parse(c.range);
    ASSERT_TRUE(range.ok()) << range.status();
    EXPECT_EQ(range->Contains(c.host), c.within) << c.range << " " << c.host;
  }
}

TEST(AddressRange, RefusesWhatIsNone) {
  for (const char* text :
       {"", "localhost", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x", "10/8"}) {
    EXPECT_FALSE(AddressRange::Parse(text).ok()) << text;
  }
}

Policy LoopbackPolicy() {
  Policy policy;
  policy.targets = {*AddressRange::Parse("127.0.0.0/8"), *AddressRange::Parse("::1/128")};
  policy.bin_folder = "/opt/loadstar/bin";
  policy.programs = {"/opt/loadstar/bin/loadstar-target", "/bin/sh"};
  return policy;
}

TEST(AdmitRun, NamesTheEndpointThatIsNotAllowed) {
  v1::PrepareRun prepare;
  prepare.add_endpoints("127.0.0.1:9100");
  prepare.add_endpoints("[::1]:9100");
  EXPECT_TRUE(AdmitRun(LoopbackPolicy(), prepare).ok());
  prepare.add_endpoints("192.0.2.1:9100");
  const absl::Status status = AdmitRun(LoopbackPolicy(), prepare);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_NE(status.message().find("192.0.2.1:9100"), absl::string_view::npos);
  EXPECT_NE(status.message().find("--allow-target"), absl::string_view::npos);
}

v1::DeployNodes OneNode(const std::string& deployment, const std::string& name) {
  v1::DeployNodes deploy;
  deploy.set_deployment(deployment);
  deploy.add_nodes()->set_name(name);
  return deploy;
}

TEST(AdmitNodes, AllowsTheTargetAndListedPrograms) {
  v1::DeployNodes deploy = OneNode("stack", "node1");
  EXPECT_TRUE(AdmitNodes(LoopbackPolicy(), deploy).ok());
  deploy.mutable_nodes(0)->add_command("/bin/sh");
  EXPECT_TRUE(AdmitNodes(LoopbackPolicy(), deploy).ok());
  deploy.mutable_nodes(0)->set_command(0, "loadstar-target");
  EXPECT_TRUE(AdmitNodes(LoopbackPolicy(), deploy).ok());
}

TEST(AdmitNodes, RefusesOtherProgramsHoweverTheyAreWritten) {
  for (const char* program : {"/usr/bin/env", "/bin/../usr/bin/env", "loadstar-agent", "./sh", "bin/sh", ""}) {
    v1::DeployNodes deploy = OneNode("stack", "node1");
    deploy.mutable_nodes(0)->add_command(program);
    EXPECT_FALSE(AdmitNodes(LoopbackPolicy(), deploy).ok()) << program;
  }
  v1::DeployNodes deploy = OneNode("stack", "node1");
  deploy.mutable_nodes(0)->add_command("/usr/bin/env");
  const absl::Status status = AdmitNodes(LoopbackPolicy(), deploy);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_NE(status.message().find("--allow-program /usr/bin/env"), absl::string_view::npos);
}

TEST(AdmitNodes, RefusesNamesThatLeaveTheirFolder) {
  for (const char* name : {"..", "a/b", "", "A", "-a", "a b"}) {
    EXPECT_EQ(AdmitNodes(LoopbackPolicy(), OneNode(name, "node1")).code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(AdmitNodes(LoopbackPolicy(), OneNode("stack", name)).code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

// Read without lib/spec, which the agent does not link.
TEST(DefaultTunable, IsWhatTheShippedProfilesSet) {
  std::set<std::string> shipped = {"descriptors", "modules", "virtual-machine", "net.ipv4.ip_local_reserved_ports"};
  for (const auto& file : std::filesystem::directory_iterator(LOADSTAR_SOURCE_DIR "/deploy/tuning")) {
    std::ifstream text(file.path());
    for (std::string line; std::getline(text, line);) {
      constexpr std::string_view kKey = "  - key: ";
      if (line.starts_with(kKey)) shipped.insert(line.substr(kKey.size()));
    }
  }
  EXPECT_GT(shipped.size(), 10u);
  const std::vector<std::string> allowed = DefaultTunable();
  EXPECT_EQ(std::set<std::string>(allowed.begin(), allowed.end()), shipped);
}

TEST(AdmitNodes, RefusesVariablesThatChangeWhatRuns) {
  for (const char* variable : {"LD_PRELOAD=/tmp/x.so", "LD_LIBRARY_PATH=/tmp", "LOADSTAR_NODE=other"}) {
    v1::DeployNodes deploy = OneNode("stack", "node1");
    deploy.mutable_nodes(0)->add_environment(variable);
    EXPECT_EQ(AdmitNodes(LoopbackPolicy(), deploy).code(), absl::StatusCode::kPermissionDenied) << variable;
  }
}

}  // namespace
}  // namespace loadstar::agent
