#include "lib/os/ports.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include <cerrno>
#include <memory>
#include <set>

#include "absl/strings/str_cat.h"
#include "lib/os/fd.h"

namespace loadstar::os {
namespace {

uint16_t PortOf(const SocketAddress& address) {
  if (address.storage.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port);
  }
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
}

// Calls visit(port, inode) for each TCP listener of one family. sock_diag filters in the kernel: /proc/net/tcp would
// print every one of the hundred thousand connections that a load test leaves behind.
template <typename Visit>
void ForEachListener(uint8_t family, Visit visit) {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return;
  struct {
    nlmsghdr header;
    inet_diag_req_v2 body;
  } request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = 1u << TCP_LISTEN;
  if (send(fd.get(), &request, sizeof request, 0) < 0) return;
  alignas(nlmsghdr) char buffer[32'768];
  for (;;) {
    const ssize_t got = recv(fd.get(), buffer, sizeof buffer, 0);
    if (got <= 0) return;
    size_t left = static_cast<size_t>(got);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(buffer); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) return;
      const auto* message = reinterpret_cast<const inet_diag_msg*>(NLMSG_DATA(header));
      visit(ntohs(message->id.idiag_sport), uint64_t{message->idiag_inode});
    }
  }
}

std::string Holder(uint16_t port, const Proc& proc) {
  std::vector<uint64_t> inodes;
  for (const uint8_t family : {uint8_t{AF_INET}, uint8_t{AF_INET6}}) {
    ForEachListener(family, [&](uint16_t at, uint64_t inode) {
      if (at == port) inodes.push_back(inode);
    });
  }
  if (inodes.empty()) return "";
  for (pid_t pid : proc.Pids()) {
    for (uint64_t inode : inodes) {
      if (!proc.HoldsSocket(pid, inode)) continue;
      const absl::StatusOr<ProcessStat> stat = proc.Stat(pid);
      return absl::StrCat("process ", pid, " (", stat.ok() ? stat->name : "?", ")");
    }
  }
  return "a process that this user may not see";
}

}  // namespace

std::vector<uint16_t> ListeningPorts() {
  std::set<uint16_t> ports;
  for (const uint8_t family : {uint8_t{AF_INET}, uint8_t{AF_INET6}}) {
    ForEachListener(family, [&](uint16_t port, uint64_t) { ports.insert(port); });
  }
  return {ports.begin(), ports.end()};
}

absl::StatusOr<SocketAddress> Resolve(const std::string& host_and_port) {
  const size_t colon = host_and_port.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return absl::InvalidArgumentError(absl::StrCat("\"", host_and_port, "\" is not HOST:PORT"));
  }
  std::string host = host_and_port.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), host_and_port.c_str() + colon + 1, &hints, &found);
  if (error != 0) {
    return absl::InvalidArgumentError(absl::StrCat("\"", host_and_port, "\" has no address: ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  SocketAddress address;
  memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  address.length = found->ai_addrlen;
  return address;
}

absl::Status CheckPortFree(const std::string& host_and_port, const Proc& proc) {
  absl::StatusOr<SocketAddress> address = Resolve(host_and_port);
  if (!address.ok()) return address.status();
  Fd fd(socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return absl::ErrnoToStatus(errno, "cannot make a socket");
  const int on = 1;
  // As a server does: connections of an earlier listener that are still in TIME_WAIT do not count.
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), address->get(), address->length) == 0) return absl::OkStatus();
  if (errno != EADDRINUSE) {
    // Not its code: absl takes EADDRNOTAVAIL for "already exists".
    const absl::Status cause = absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", host_and_port));
    return absl::FailedPreconditionError(cause.message());
  }
  const std::string holder = Holder(PortOf(*address), proc);
  return absl::AlreadyExistsError(
      absl::StrCat(host_and_port, " is already taken",
                   holder.empty() ? std::string(" (by a socket that does not listen, such as an outgoing connection)")
                                  : absl::StrCat(": held by ", holder),
                   "; end what holds it or choose another port"));
}

}  // namespace loadstar::os
