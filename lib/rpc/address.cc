#include <arpa/inet.h>
#include <netinet/in.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "lib/rpc/rpc.h"

namespace loadstar::rpc {
namespace {

bool IsLoopback(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

absl::Status Malformed(const std::string& address) {
  return absl::InvalidArgumentError(absl::StrCat("address \"", address.substr(0, 256),
                                                 "\" is not HOST:PORT; write for example 127.0.0.1:7400, [::1]:7400 or "
                                                 "unix:PATH"));
}

}  // namespace

absl::Status CheckAddress(const std::string& address, bool insecure) {
  if (absl::StartsWith(address, "unix:")) return address.size() > 5 ? absl::OkStatus() : Malformed(address);
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return Malformed(address);
  std::string host = address.substr(0, colon);
  uint32_t port = 0;
  if (!absl::SimpleAtoi(address.substr(colon + 1), &port) || port > 65535) return Malformed(address);
  if (host.front() == '[') {
    if (host.size() < 3 || host.back() != ']') return Malformed(address);
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":/ ") != std::string::npos) {
    return Malformed(address);
  }
  if (IsLoopback(host) || insecure) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("address ", address,
                   " is not loopback, and there is no mutual TLS yet: anyone who reaches it would control every agent; "
                   "use a loopback address (127.0.0.1:7400), or accept that on a network you trust with --insecure"));
}

}  // namespace loadstar::rpc
