#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

namespace loadstar::spec {

inline constexpr size_t kMaxSysctlKey = 128;

// Whether it is the name of a sysctl and nothing else: two or more parts of letters, digits, "_" and "-" with single
// dots between them, at most 128 bytes. The slash form and the swapped form of sysctl(8) are no names here: one key
// would have several then, and a path that leaves /proc/sys might look like one.
constexpr bool IsSysctlKey(std::string_view text) {
  const auto is_part = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return text.size() <= kMaxSysctlKey && text.find('.') != std::string_view::npos && !text.starts_with('.') &&
         !text.ends_with('.') && text.find("..") == std::string_view::npos &&
         std::all_of(text.begin(), text.end(), [&](char c) { return c == '.' || is_part(c); });
}

// What the numbers of a key are.
enum class SysctlKind {
  kSize,    // more is more: one to three numbers
  kChoice,  // a name each: none is more than another
  kRange,   // the first and the last port of a range
  kPorts,   // a list of ports and ranges of them
};

// Kinds by key (Documentation/networking/ip-sysctl.rst, Documentation/admin-guide/sysctl/vm.rst); every other is a
// size.
constexpr SysctlKind SysctlKindOf(std::string_view key) {
  constexpr std::array<std::pair<std::string_view, SysctlKind>, 12> kKinds = {{
      {"net.ipv4.ip_local_port_range", SysctlKind::kRange},
      {"net.ipv4.ip_local_reserved_ports", SysctlKind::kPorts},
      {"net.ipv4.tcp_tw_reuse", SysctlKind::kChoice},
      {"net.ipv4.tcp_syncookies", SysctlKind::kChoice},
      {"net.ipv4.tcp_ecn", SysctlKind::kChoice},
      {"net.ipv4.tcp_mtu_probing", SysctlKind::kChoice},
      {"net.ipv4.tcp_timestamps", SysctlKind::kChoice},
      {"net.ipv4.tcp_fastopen", SysctlKind::kChoice},
      {"net.ipv4.conf.all.rp_filter", SysctlKind::kChoice},
      {"net.ipv4.conf.default.rp_filter", SysctlKind::kChoice},
      {"net.ipv4.ip_forward", SysctlKind::kChoice},
      {"vm.overcommit_memory", SysctlKind::kChoice},
  }};
  for (const auto& [name, kind] : kKinds) {
    if (name == key) return kind;
  }
  return SysctlKind::kSize;
}

// The module that is known to bring the key; empty: none is.
constexpr std::string_view ModuleOf(std::string_view key) {
  if (key.starts_with("net.netfilter.nf_conntrack_")) return "nf_conntrack";
  if (key.starts_with("net.bridge.bridge-nf-")) return "br_netfilter";
  return "";
}

}  // namespace loadstar::spec
