#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

namespace loadstar::spec {

// Version, patch level and sublevel. Comparable as it is.
using KernelVersion = std::array<uint32_t, 3>;

// Reads "6.1" or "5.10.234", numbers that were left out as 0. The form that a profile is written in: nothing may
// follow.
inline std::optional<KernelVersion> ReadKernelVersion(std::string_view text, std::string_view* rest = nullptr) {
  KernelVersion version{};
  size_t parts = 0;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  while (parts < version.size()) {
    const auto [next, error] = std::from_chars(at, end, version.at(parts));
    if (error != std::errc()) return std::nullopt;
    at = next;
    ++parts;
    // A dot that no digit follows belongs to what distributions append.
    if (at == end || *at != '.' || parts == version.size() || end - at < 2 || at[1] < '0' || at[1] > '9') break;
    ++at;
  }
  const std::string_view behind = text.substr(static_cast<size_t>(at - text.data()));
  if (rest != nullptr) *rest = behind;
  if (parts < 2 || (rest == nullptr && !behind.empty())) return std::nullopt;
  return version;
}

}  // namespace loadstar::spec
