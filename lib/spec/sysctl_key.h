#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

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

}  // namespace loadstar::spec
