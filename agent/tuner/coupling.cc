#include "agent/tuner/coupling.h"

#include <algorithm>
#include <string>

namespace loadstar::agent {

v1::TuningProfile WithCouplings(const v1::TuningProfile& profile, const std::vector<uint16_t>& listening) {
  const auto range = std::find_if(profile.sysctls().begin(), profile.sysctls().end(),
                                  [](const v1::SysctlSetting& setting) { return setting.key() == kPortRange; });
  if (range == profile.sysctls().end() || range->values_size() != 2) return profile;
  v1::SysctlSetting reserved;
  reserved.set_key(std::string(kReservedPorts));
  reserved.set_policy(v1::SYSCTL_POLICY_INCLUDES);
  reserved.set_scope(v1::SYSCTL_SCOPE_NETWORK_NAMESPACE);
  reserved.set_effect("Ports that connections are not given, because somebody listens on them.");
  reserved.set_source("Documentation/networking/ip-sysctl.rst");
  for (const uint16_t port : listening) {
    if (port < range->values(0) || port > range->values(1)) continue;
    reserved.add_values(port);
    reserved.add_values(port);
  }
  if (reserved.values().empty()) return profile;
  v1::TuningProfile coupled;
  coupled.set_name(profile.name());
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (setting.key() == kReservedPorts) reserved.mutable_values()->MergeFrom(setting.values());
  }
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (setting.key() == kPortRange) *coupled.add_sysctls() = reserved;
    if (setting.key() != kReservedPorts) *coupled.add_sysctls() = setting;
  }
  return coupled;
}

}  // namespace loadstar::agent
