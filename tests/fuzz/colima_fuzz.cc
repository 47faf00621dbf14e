// Reads arbitrary bytes as everything that Colima prints or keeps. What is taken for a configuration can be merged, is
// itself when it is merged again, and keeps the user's keys.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/tuner/colima/colima_cli.h"
#include "agent/tuner/colima/colima_config.h"
#include "agent/tuner/colima/colima_plan.h"
#include "agent/tuner/colima/machine_record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loadstar;  // NOLINT(google-build-using-namespace)
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)agent::ParseMachines(text);
  (void)agent::ParseDetails(text);
  (void)agent::ParseVersion(text, "version");
  (void)agent::MachineName(text);
  (void)agent::ReadEngineLimits(text);
  if (const auto record = agent::ParseRecord(text); record.ok()) {
    if (!agent::ParseRecord(agent::ToText(*record)).ok()) std::abort();
  }

  v1::TuningProfile profile;
  profile.set_name("fuzz");
  profile.mutable_descriptors()->set_soft(1000);
  profile.mutable_descriptors()->set_hard(2000);
  v1::SysctlSetting* setting = profile.add_sysctls();
  setting->set_key("net.core.somaxconn");
  setting->add_values(4096);
  setting->set_policy(v1::SYSCTL_POLICY_AT_LEAST);
  const agent::StartOptions options = {.cpus = 4, .memory_gib = 8, .disk_gib = 60};
  const auto before = agent::ReadConfig(text);
  const auto merged = agent::MergeConfig(text, profile, options);
  if (merged.ok()) {
    const auto after = agent::ReadConfig(*merged);
    if (!before.ok() || !after.ok()) std::abort();
    if (!after->ours || after->cpus != 4 || after->disk_gib != 60 || after->runtime != "docker") std::abort();
    if (after->arch != before->arch || after->mount_type != before->mount_type) std::abort();
    const auto again = agent::MergeConfig(*merged, profile, options);
    if (!again.ok() || *again != *merged) std::abort();
    const auto restored = agent::RestoreConfig(*merged, *merged, text);
    if (!restored.ok() || !restored->kept.empty()) std::abort();
    const auto was = agent::ReadConfig(restored->text);
    if (!was.ok() || was->ours || was->disk_gib != before->disk_gib) std::abort();
  }
  return 0;
}
