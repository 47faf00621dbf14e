// Every document in deploy/ is valid, and what the README says of it is true.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "lib/plan/profile.h"
#include "lib/plan/split.h"
#include "lib/spec/spec.h"

namespace loadstar::spec {
namespace {

Parsed ParseShipped(const std::filesystem::path& path) {
  const auto document = ReadDocument(path);
  EXPECT_TRUE(document.ok()) << document.status();
  if (!document.ok()) return {};
  Parsed parsed = Parse(*document);
  EXPECT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  return parsed;
}

const std::filesystem::path kDeploy = std::filesystem::path(LOADSTAR_SOURCE_DIR) / "deploy";

TEST(ShippedDocuments, AreValidAndNamedAsTheirFiles) {
  size_t documents = 0;
  const std::pair<const char*, Parsed::Kind> folders[] = {
      {"stacks", Parsed::Kind::kStack}, {"scenarios", Parsed::Kind::kTest}, {"tuning", Parsed::Kind::kTuningProfile}};
  for (const auto& [folder, kind] : folders) {
    for (const auto& entry : std::filesystem::directory_iterator(kDeploy / folder)) {
      SCOPED_TRACE(entry.path());
      const Parsed parsed = ParseShipped(entry.path());
      ASSERT_EQ(parsed.kind, kind);
      const std::string& name = kind == Parsed::Kind::kTest    ? parsed.test.name()
                                : kind == Parsed::Kind::kStack ? parsed.stack.name()
                                                               : parsed.tuning_profile.name();
      EXPECT_EQ(name + ".yaml", entry.path().filename());
      ++documents;
    }
  }
  EXPECT_GE(documents, 9u);
}

// Number by number what the profile is known for.
TEST(ShippedDocuments, Connections100kIsExactlyThisAndColima100kAVirtualMachineBesides) {
  const std::pair<const char*, std::vector<uint64_t>> wanted[] = {
      {"fs.file-max", {2097152}},
      {"net.core.somaxconn", {4096}},
      {"net.ipv4.tcp_max_syn_backlog", {8192}},
      {"net.ipv4.ip_local_port_range", {1024, 65535}},
      {"net.ipv4.tcp_tw_reuse", {1}},
      {"net.ipv4.tcp_fin_timeout", {30}},
      {"net.ipv4.tcp_max_tw_buckets", {2097152}},
      {"net.netfilter.nf_conntrack_max", {2097152}},
      {"net.netfilter.nf_conntrack_tcp_timeout_established", {600}},
      {"net.core.rmem_max", {268435456}},
      {"net.core.wmem_max", {268435456}},
      {"net.ipv4.tcp_rmem", {4096, 131072, 268435456}},
      {"net.ipv4.tcp_wmem", {4096, 16384, 268435456}},
  };
  const v1::TuningProfile profile = ParseShipped(kDeploy / "tuning" / "connections-100k.yaml").tuning_profile;
  ASSERT_EQ(static_cast<size_t>(profile.sysctls_size()), std::size(wanted));
  for (size_t i = 0; i < std::size(wanted); ++i) {
    const v1::SysctlSetting& setting = profile.sysctls(static_cast<int>(i));
    EXPECT_EQ(setting.key(), wanted[i].first);
    EXPECT_EQ((std::vector<uint64_t>{setting.values().begin(), setting.values().end()}), wanted[i].second)
        << setting.key();
  }
  EXPECT_EQ(profile.descriptors().soft(), 262'144u);
  EXPECT_EQ(profile.descriptors().hard(), 262'144u);
  EXPECT_FALSE(profile.has_virtual_machine());

  v1::TuningProfile colima = ParseShipped(kDeploy / "tuning" / "colima-100k.yaml").tuning_profile;
  EXPECT_EQ(colima.virtual_machine().cpus(), 12u);
  EXPECT_EQ(colima.virtual_machine().memory_bytes(), 16ull << 30);
  EXPECT_EQ(colima.virtual_machine().disk_bytes(), 100ull << 30);
  colima.clear_virtual_machine();
  colima.set_name(profile.name());
  EXPECT_EQ(colima.SerializeAsString(), profile.SerializeAsString());
}

struct Scenario {
  const char* name;
  uint64_t connections;
  absl::Duration ramp, length;
};

TEST(ShippedDocuments, ScenariosAreWhatTheirNamesPromise) {
  const Scenario scenarios[] = {
      {"quickstart", 100'000, absl::Seconds(60), absl::Seconds(120)},
      {"smoke", 10'000, absl::Minutes(2), absl::Minutes(5)},
      {"light", 50'000, absl::Minutes(5), absl::Minutes(10)},
      {"full", 100'000, absl::Minutes(5), absl::Minutes(10)},
      {"soak", 100'000, absl::Minutes(5), absl::Minutes(30)},
      {"slow-ramp", 100'000, absl::Minutes(15), absl::Minutes(20)},
  };
  for (const Scenario& scenario : scenarios) {
    SCOPED_TRACE(scenario.name);
    const v1::TestSpec test = ParseShipped(kDeploy / "scenarios" / (std::string(scenario.name) + ".yaml")).test;
    const plan::ConnectionProfile profile(test.load());
    EXPECT_EQ(profile.Peak(), scenario.connections);
    EXPECT_EQ(profile.EndNs(), absl::ToInt64Nanoseconds(scenario.length));
    EXPECT_EQ(profile.TargetAt(absl::ToInt64Nanoseconds(scenario.ramp)), scenario.connections);
    EXPECT_EQ(profile.TargetAt(absl::ToInt64Nanoseconds(scenario.ramp) - 1), scenario.connections - 1);
    EXPECT_EQ(test.target().stack(), "four-nodes");
    EXPECT_EQ(test.load().requests().model(), v1::REQUEST_MODEL_OPEN);
    EXPECT_EQ(test.load().requests().arrival(), v1::ARRIVAL_POISSON);
    if (std::string(scenario.name) == "quickstart") {
      EXPECT_EQ(test.load().requests().rate_scope(), v1::RATE_SCOPE_TOTAL);
      EXPECT_EQ(test.load().requests().rate_per_s(), 20'000);
    } else {
      EXPECT_EQ(test.load().requests().rate_scope(), v1::RATE_SCOPE_PER_CONNECTION);
      EXPECT_EQ(test.load().requests().rate_per_s(), 1);
    }
    std::set<std::string> thresholds;
    for (const auto& threshold : test.thresholds()) thresholds.insert(threshold.text());
    EXPECT_TRUE(thresholds.contains("latency.p99 < 50ms"));
    EXPECT_TRUE(thresholds.contains("errors.ratio < 0.1%"));
    EXPECT_TRUE(thresholds.contains("connections.peak >= " + FormatCount(scenario.connections)));
  }
}

TEST(ShippedDocuments, NoScenarioNeedsTheSlowHalfOfThePorts) {
  constexpr uint64_t kFastPorts =
      14'116;  // half of the default range; see the head of deploy/scenarios/quickstart.yaml
  for (const auto& entry : std::filesystem::directory_iterator(kDeploy / "scenarios")) {
    SCOPED_TRACE(entry.path());
    const v1::TestSpec test = ParseShipped(entry.path()).test;
    const uint64_t pairs = 4 * static_cast<uint64_t>(test.load().source_addresses_size());
    ASSERT_GT(pairs, 0u);
    EXPECT_LE(plan::ConnectionProfile(test.load()).Peak() / pairs + 1, kFastPorts);
  }
}

TEST(ShippedDocuments, FourNodesAreOneCoordinatorAndThreeWorkers) {
  const v1::StackSpec stack = ParseShipped(kDeploy / "stacks" / "four-nodes.yaml").stack;
  ASSERT_EQ(stack.nodes_size(), 4);
  for (int i = 0; i < 4; ++i) {
    const v1::NodeSpec& node = stack.nodes(i);
    EXPECT_EQ(node.name(), "node" + std::to_string(i + 1));
    EXPECT_EQ(node.role(), i == 0 ? "coordinator" : "worker");
    EXPECT_EQ(node.listen_address(), "127.0.0.1:" + std::to_string(9100 + i));
    EXPECT_EQ(node.api_address(), "127.0.0.1:" + std::to_string(8080 + i));
    EXPECT_EQ(node.processes(), 2u);
    EXPECT_EQ(node.restart(), v1::RESTART_POLICY_ON_FAILURE);
  }
}

TEST(ShippedDocuments, EveryScenarioCanBeShortened) {
  for (const auto& entry : std::filesystem::directory_iterator(kDeploy / "scenarios")) {
    SCOPED_TRACE(entry.path());
    const auto document = ReadDocument(entry.path());
    ASSERT_TRUE(document.ok()) << document.status();
    Parsed parsed = Parse(*document, {{"load.connections[0].ramp", "10s"}, {"load.connections[1].hold", "10s"}});
    ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
    Scale(0.01, &parsed.test);
    EXPECT_EQ(ToString(Complete(&parsed.test)), "");
  }
}

}  // namespace
}  // namespace loadstar::spec
