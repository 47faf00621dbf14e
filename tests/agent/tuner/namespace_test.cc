// The shipped profiles on this kernel, in a network namespace of the test's own.
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>

#include "agent/tuner/tuner.h"
#include "lib/spec/spec.h"

namespace loadstar::agent {
namespace {

using Outcome = TuneStep::Outcome;

// What of a profile reaches no further than the namespace.
v1::TuningProfile OfNamespace(const std::string& name) {
  const auto document = spec::ReadDocument(std::string(LOADSTAR_SOURCE_DIR) + "/deploy/tuning/" + name + ".yaml");
  EXPECT_TRUE(document.ok()) << document.status();
  v1::TuningProfile profile = spec::Parse(*document).tuning_profile;
  v1::TuningProfile inside;
  inside.set_name(profile.name());
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (setting.scope() == v1::SYSCTL_SCOPE_NETWORK_NAMESPACE) *inside.add_sysctls() = setting;
  }
  return inside;
}

TEST(NamespaceTest, ShippedProfilesAreAppliedAndTakenBackExactly) {
  if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no network namespace can be made here";
  std::string folder = std::filesystem::temp_directory_path() / "tuner-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::unique_ptr<SysctlTree> tree = MakeProcSysctlTree();
  const std::unique_ptr<JournalStore> journal = MakeJournalFile(folder + "/tuning.journal");
  const v1::TuningProfile profiles[] = {OfNamespace("connections-100k"), OfNamespace("connections-1m")};
  std::map<std::string, std::string> before;
  for (const v1::TuningProfile& profile : profiles) {
    for (const v1::SysctlSetting& setting : profile.sysctls()) {
      if (const auto value = tree->Read(setting.key()); value.ok()) before[setting.key()] = *value;
    }
  }
  ASSERT_EQ(before["net.ipv4.ip_local_port_range"], "32768\t60999");

  const Era era{.of_host = "boot", .of_network_namespace = "boot/namespace"};
  Tuner tuner(tree.get(), journal.get(), era);
  ASSERT_TRUE(tuner.Load().ok());
  int changed = 0;
  for (const TuneStep& step : tuner.Apply(profiles[0])) {
    EXPECT_TRUE(step.outcome == Outcome::kChanged || step.outcome == Outcome::kFulfilled ||
                step.outcome == Outcome::kMissing)
        << step.key << " " << ToWord(step.outcome) << " " << step.why;
    changed += step.outcome == Outcome::kChanged ? 1 : 0;
  }
  EXPECT_GE(changed, 5);
  EXPECT_EQ(*tree->Read("net.ipv4.ip_local_port_range"), "1024\t65535");
  EXPECT_EQ(*tree->Read("net.ipv4.tcp_fin_timeout"), "30");
  EXPECT_EQ(*tree->Read("net.ipv4.tcp_rmem"), "4096\t131072\t268435456");
  for (const TuneStep& step : tuner.Status()) EXPECT_EQ(step.outcome, Outcome::kApplied) << step.key;
  for (const TuneStep& step : tuner.Apply(profiles[1])) EXPECT_NE(step.outcome, Outcome::kContradicts) << step.key;
  EXPECT_EQ(*tree->Read("net.core.somaxconn"), "65535");

  // The agent's next life undoes what the one before it did, in the order in which it was done.
  Tuner next(tree.get(), journal.get(), era);
  ASSERT_TRUE(next.Load().ok());
  for (const v1::TuningProfile& profile : profiles) {
    for (const TuneStep& step : next.Rollback(profile.name(), false)) {
      EXPECT_TRUE(step.outcome == Outcome::kRestored || step.outcome == Outcome::kKept) << step.key << " " << step.why;
    }
  }
  for (const auto& [key, value] : before) EXPECT_EQ(*tree->Read(key), value) << key;
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace loadstar::agent
