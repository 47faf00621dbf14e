#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "lib/os/limits.h"

namespace loadstar::agent {

// The kernel's RLIM_INFINITY; in configuration files "infinity" (systemd) and -1 (Docker).
inline constexpr uint64_t kUnlimited = UINT64_MAX;

// "1024:4096", soft and hard, as systemd writes it.
inline std::string ToText(const os::DescriptorLimit& limit) {
  const auto number = [](uint64_t value) { return value == kUnlimited ? "infinity" : std::to_string(value); };
  return number(limit.soft) + ":" + number(limit.hard);
}

inline bool Covers(const os::DescriptorLimit& has, const os::DescriptorLimit& wanted) {
  return has.soft >= wanted.soft && has.hard >= wanted.hard;
}

// The smallest limit that covers both.
inline os::DescriptorLimit Most(const os::DescriptorLimit& one, const os::DescriptorLimit& other) {
  return {.soft = std::max(one.soft, other.soft), .hard = std::max(one.hard, other.hard)};
}

// As Most, where it may not be known what soft limit there is (0): it is no more than the hard one, so that is not
// less.
inline os::DescriptorLimit SurelyMost(const os::DescriptorLimit& has, const os::DescriptorLimit& wanted) {
  return Most({.soft = has.soft > 0 ? has.soft : has.hard, .hard = has.hard}, wanted);
}

}  // namespace loadstar::agent
