#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// What one setting wants of a key: the pure part of v1::SysctlSetting.
struct Wish {
  std::vector<uint64_t> values;
  v1::SysctlPolicy policy = v1::SYSCTL_POLICY_AT_LEAST;

  bool operator==(const Wish&) const = default;
};
Wish WishOf(const v1::SysctlSetting& setting);

// The text that a key is to hold when it held `base` and these wishes are to come true, or nullopt when `base` is not
// made of as many numbers as a wish has (for a list of ports: is none). Returns `base` itself, byte for byte, when that
// fulfils all of them. The order of the wishes makes no difference unless two of them contradict each other (see
// Contradict); then the last one counts.
std::optional<std::string> Fulfil(std::string_view base, const std::vector<Wish>& wishes);

// Whether no text can fulfil both.
bool Contradict(const Wish& one, const Wish& other);

// Whether the same numbers, or fewer ports, are in `after` than in `before`: a number went down, a range lost ports.
bool Lowers(std::string_view before, std::string_view after, v1::SysctlPolicy policy);

}  // namespace loadstar::agent
