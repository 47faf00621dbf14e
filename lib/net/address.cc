#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstring>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "lib/net/loop.h"

namespace loadstar::net {
namespace {

std::optional<Address> FromHost(const std::string& host, uint16_t port) {
  Address address;
  sockaddr_in v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&address.storage, &v4, sizeof(v4));
    address.length = sizeof(v4);
    return address;
  }
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&address.storage, &v6, sizeof(v6));
    address.length = sizeof(v6);
    return address;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<Address> ParseAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" has no port; write HOST:PORT, such as 127.0.0.1:9100"));
  }
  std::string host = text.substr(0, colon);
  const std::string port_text = text.substr(colon + 1);
  uint32_t port = 0;
  const bool digits = !port_text.empty() && port_text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || !absl::SimpleAtoi(port_text, &port) || port > UINT16_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\": port \"", port_text, "\" is not a number from 0 to 65535"));
  }
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) {
    host = host.substr(1, host.size() - 2);
  }
  // Without brackets "::1:80" could be a port or a part of the address; with them a v4 address is a slip.
  const bool v6 = host.find(':') != std::string::npos;
  if (v6 != bracketed) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\": ", v6 ? "write IPv6 addresses as [HOST]:PORT" : "brackets are for IPv6 addresses"));
  }
  std::optional<Address> address = FromHost(host, static_cast<uint16_t>(port));
  if (!address) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\": \"", host, "\" is not a numeric IP address"));
  }
  return *address;
}

absl::StatusOr<Address> ParseHost(const std::string& text) {
  std::optional<Address> address = FromHost(text, 0);
  if (!address) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a numeric IP address"));
  }
  return *address;
}

std::string ToString(const Address& address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.storage.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &address.storage, sizeof(v4));
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    return absl::StrCat(text, ":", ntohs(v4.sin_port));
  }
  if (address.storage.ss_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, &address.storage, sizeof(v6));
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
    return absl::StrCat("[", text, "]:", ntohs(v6.sin6_port));
  }
  return absl::StrCat("(address family ", address.storage.ss_family, ")");
}

bool IsLoopback(const Address& address) {
  if (address.storage.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &address.storage, sizeof(v4));
    return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
  }
  if (address.storage.ss_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, &address.storage, sizeof(v6));
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
      return v6.sin6_addr.s6_addr[12] == 127;
    }
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
  }
  return false;
}

}  // namespace loadstar::net
