#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/spec/flaw.h"

namespace loadstar::spec {

inline constexpr size_t kMaxSourceAddresses = 4096;

// "HOST:PORT" or "[V6]:PORT", taken apart. Whether a name resolves is not asked.
struct HostPort {
  enum class Kind { kIpv4, kIpv6, kName } kind = Kind::kName;
  std::string host;  // without brackets
  uint16_t port = 0;

  std::string ToString() const;
  // 0.0.0.0 or [::]: every address of the host.
  bool IsWildcard() const;
};
MaybeFlaw ReadHostPort(std::string_view text, HostPort* out);

// Appends an address ("127.0.0.2", "::1"), every address of an IPv4 range ("127.0.1.1-127.0.1.8"), or those of an IPv4
// block that a socket can be bound to ("127.1.0.0/24": 127.1.0.1 to 127.1.0.254). Appends nothing on a flaw.
MaybeFlaw ReadSourceAddresses(std::string_view text, std::vector<std::string>* out);

}  // namespace loadstar::spec
