#include "lib/spec/address.h"

#include <arpa/inet.h>

#include <optional>

#include "absl/strings/ascii.h"
#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

constexpr std::string_view kHostPortExample = "Write HOST:PORT or [V6]:PORT, such as 127.0.0.1:9100";

// inet_pton stops at a NUL byte; what follows one must not pass.
bool HasNul(const std::string& text) { return text.find('\0') != std::string::npos; }

std::optional<uint32_t> Ipv4(const std::string& text) {
  in_addr address{};
  if (HasNul(text) || inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
  return ntohl(address.s_addr);
}

std::string Ipv4Text(uint32_t address) {
  return Cat(address >> 24, ".", address >> 16 & 255, ".", address >> 8 & 255, ".", address & 255);
}

bool IsIpv6(const std::string& text) {
  in6_addr address{};
  return !HasNul(text) && inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

bool IsHostName(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  std::string_view last;
  for (size_t begin = 0; begin <= text.size(); begin += last.size() + 1) {
    const std::string_view label = text.substr(begin, text.find('.', begin) - begin);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
    for (const char c : label) {
      if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_') return false;
    }
    last = label;
  }
  // No top-level name is a number: "300.1.2.3" and "127.0.0" are failed addresses.
  return last.find_first_not_of("0123456789") != std::string_view::npos;
}

}  // namespace

std::string HostPort::ToString() const {
  return kind == Kind::kIpv6 ? Cat("[", host, "]:", port) : Cat(host, ":", port);
}

bool HostPort::IsWildcard() const {
  if (kind == Kind::kIpv4) return host == "0.0.0.0";
  in6_addr address{};
  return kind == Kind::kIpv6 && inet_pton(AF_INET6, host.c_str(), &address) == 1 && IN6_IS_ADDR_UNSPECIFIED(&address);
}

MaybeFlaw ReadHostPort(std::string_view text, HostPort* out) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon + 1 == text.size() || text.back() == ']') {
    return Flaw{Cat(Quoted(text), " has no port"), std::string(kHostPortExample)};
  }
  std::string_view host = text.substr(0, colon);
  const std::string_view port_text = text.substr(colon + 1);
  size_t port = 0;
  if (port_text.find_first_not_of("0123456789") != std::string_view::npos || port_text.size() > 5 ||
      !ReadDigits(port_text, &port) || port == 0 || port > 65'535) {
    return Flaw{Cat(Quoted(port_text), " is no port"), "Ports are 1 to 65535"};
  }
  out->port = static_cast<uint16_t>(port);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    out->host = std::string(host.substr(1, host.size() - 2));
    out->kind = HostPort::Kind::kIpv6;
    if (!IsIpv6(out->host)) return Flaw{Cat(Quoted(out->host), " is no IPv6 address"), std::string(kHostPortExample)};
    return std::nullopt;
  }
  out->host = std::string(host);
  if (IsIpv6(out->host)) {
    return Flaw{Cat(Quoted(text), " has an IPv6 address without brackets"), Cat("Write [", host, "]:", port)};
  }
  if (Ipv4(out->host)) {
    out->kind = HostPort::Kind::kIpv4;
  } else if (IsHostName(host)) {
    out->kind = HostPort::Kind::kName;
  } else {
    return Flaw{Cat(Quoted(host), " is neither an address nor a host name"), std::string(kHostPortExample)};
  }
  return std::nullopt;
}

MaybeFlaw ReadSourceAddresses(std::string_view text, std::vector<std::string>* out) {
  constexpr std::string_view kExample =
      "Write an address such as 127.0.0.2, an IPv4 range such as 127.0.1.1-127.0.1.8, or an IPv4 block such as "
      "127.1.0.0/24";
  uint32_t first = 0;
  uint32_t last = 0;
  if (const size_t slash = text.find('/'); slash != std::string_view::npos) {
    const auto base = Ipv4(std::string(text.substr(0, slash)));
    const std::string_view bits_text = text.substr(slash + 1);
    size_t bits = 0;
    if (!base || bits_text.empty() || bits_text.size() > 2 ||
        bits_text.find_first_not_of("0123456789") != std::string_view::npos || !ReadDigits(bits_text, &bits) ||
        bits > 32) {
      return Flaw{Cat(Quoted(text), " is no block of IPv4 addresses"), std::string(kExample)};
    }
    const uint32_t rest = bits == 0 ? UINT32_MAX : (uint32_t{1} << (32 - bits)) - 1;
    if ((*base & rest) != 0) {
      return Flaw{Cat(Quoted(text), " does not begin where a block of that size does"),
                  Cat("Write ", Ipv4Text(*base & ~rest), "/", bits_text)};
    }
    // The first and the last address of a block are its network's and its broadcast's: no socket can use them.
    const uint32_t edge = bits <= 30 ? 1 : 0;
    first = *base + edge;
    last = *base + rest - edge;
  } else if (const size_t dash = text.find('-'); dash != std::string_view::npos) {
    const auto from = Ipv4(std::string(text.substr(0, dash)));
    const auto to = Ipv4(std::string(text.substr(dash + 1)));
    if (!from || !to) return Flaw{Cat(Quoted(text), " is no range of IPv4 addresses"), std::string(kExample)};
    if (*from > *to) {
      return Flaw{Cat(Quoted(text), " ends before it begins"),
                  Cat("Write ", text.substr(dash + 1), "-", text.substr(0, dash))};
    }
    first = *from;
    last = *to;
  } else {
    std::string address(text);
    if (!Ipv4(address) && !IsIpv6(address)) return Flaw{Cat(Quoted(text), " is no address"), std::string(kExample)};
    out->push_back(std::move(address));
    return std::nullopt;
  }
  if (last - first >= kMaxSourceAddresses) {
    return Flaw{Cat(Quoted(text), " has ", uint64_t{last} - first + 1, " addresses; at most ", kMaxSourceAddresses,
                    " are allowed"),
                std::string(kExample)};
  }
  for (uint32_t offset = 0; offset <= last - first; ++offset) out->push_back(Ipv4Text(first + offset));
  return std::nullopt;
}

}  // namespace loadstar::spec
