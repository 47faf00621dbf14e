#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace loadstar::spec {

inline constexpr size_t kMaxName = 63;

// Whether a name may begin with it; what follows may be a dash as well.
constexpr bool IsNameCharacter(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// [a-z0-9][a-z0-9-]{0,62}: the form of every name of a test, stack, node, deployment and agent. It is safe as a file's
// name.
constexpr bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && text[0] != '-' &&
         std::all_of(text.begin(), text.end(), [](char c) { return IsNameCharacter(c) || c == '-'; });
}

}  // namespace loadstar::spec
