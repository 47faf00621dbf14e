#include "agent/tuner/coupling.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "lib/os/proc.h"

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

std::string CouplingRemark(std::string_view key, const std::string& value,
                           const std::function<std::string(const std::string& key)>& value_of) {
  const auto last_of = [](const std::string& text) -> uint64_t {
    const std::optional<std::vector<uint64_t>> numbers = os::ParseNumbers(text);
    return numbers.has_value() && !numbers->empty() ? numbers->back() : 0;
  };
  const uint64_t wanted = last_of(value);
  if (key == "net.ipv4.tcp_max_syn_backlog") {
    // inet_csk_reqsk_queue_is_full() compares with the listener's own backlog, which somaxconn caps.
    const uint64_t queue = last_of(value_of("net.core.somaxconn"));
    if (queue == 0 || wanted <= queue) return "";
    return absl::StrCat("a listener has no more connections half open than net.core.somaxconn lets it queue, ", queue);
  }
  if (key == "net.netfilter.nf_conntrack_max") {
    constexpr uint64_t kLongList = 8;
    const uint64_t buckets = last_of(value_of("net.netfilter.nf_conntrack_buckets"));
    if (buckets == 0 || wanted * 2 / buckets < kLongList) return "";
    // Each connection is in the table once for each direction.
    return absl::StrCat("with its ", buckets, " buckets a full table has lists of ", wanted * 2 / buckets,
                        "; a larger net.netfilter.nf_conntrack_buckets makes them shorter");
  }
  if (key == "net.ipv4.tcp_rmem" || key == "net.ipv4.tcp_wmem") {
    const uint64_t pages = last_of(value_of("net.ipv4.tcp_mem"));
    const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    if (pages == 0 || wanted <= pages * page) return "";
    return absl::StrCat("one connection could have more than all together may (net.ipv4.tcp_mem, ", pages, " pages)");
  }
  return "";
}

}  // namespace loadstar::agent
