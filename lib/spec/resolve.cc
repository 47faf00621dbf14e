#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <memory>

#include "absl/status/status.h"
#include "lib/spec/address.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

// The host's first IPv4 address, or else its first IPv6 address, as text.
MaybeFlaw Resolve(const std::string& host, HostPort* out) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &raw);
  if (error != 0) {
    return Flaw{Cat("the host name ", Quoted(host), " does not resolve (", gai_strerror(error), ")"),
                "Check its spelling and this host's resolver, or write the address itself"};
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> list(raw, &freeaddrinfo);
  const addrinfo* chosen = nullptr;
  for (const addrinfo* item = list.get(); item != nullptr; item = item->ai_next) {
    if (item->ai_family == AF_INET && (chosen == nullptr || chosen->ai_family != AF_INET)) chosen = item;
    if (item->ai_family == AF_INET6 && chosen == nullptr) chosen = item;
  }
  char text[INET6_ADDRSTRLEN] = {};
  if (chosen == nullptr ||
      getnameinfo(chosen->ai_addr, chosen->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) {
    return Flaw{Cat("the host name ", Quoted(host), " has no IP address"), "Write the address itself"};
  }
  out->host = text;
  out->kind = chosen->ai_family == AF_INET ? HostPort::Kind::kIpv4 : HostPort::Kind::kIpv6;
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ResolveEndpoints(const std::vector<std::string>& endpoints) {
  std::vector<std::string> resolved;
  std::string problems;
  for (const std::string& endpoint : endpoints) {
    HostPort address;
    MaybeFlaw flaw = ReadHostPort(endpoint, &address);
    if (!flaw && address.kind == HostPort::Kind::kName) flaw = Resolve(std::string(address.host), &address);
    if (flaw) {
      problems +=
          Cat(problems.empty() ? "" : "; ", "endpoint ", Quoted(endpoint), ": ", flaw->message, ". ", flaw->remedy);
    }
    resolved.push_back(address.ToString());
  }
  if (!problems.empty()) return absl::InvalidArgumentError(problems);
  return resolved;
}

}  // namespace loadstar::spec
