#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/spec/sysctl_key.h"
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

// Whether they are the same value: the kernel may show the same numbers with other blanks than they were written with.
bool SameValue(std::string_view one, std::string_view other);

// Whether no text can fulfil both.
bool Contradict(const Wish& one, const Wish& other);

// Whether there is less in `after` than in `before`: a number went down, a range or a list lost some of its own.
// Choices never do.
bool Lowers(std::string_view before, std::string_view after, spec::SysctlKind kind);

}  // namespace loadstar::agent
