#include "agent/tuner/probe.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <optional>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "lib/os/fd.h"
#include "lib/os/limits.h"
#include "lib/os/proc.h"

namespace loadstar::agent {
namespace {

using Outcome = Probe::Outcome;
using Numbers = std::vector<uint64_t>;

constexpr size_t kSockets = 256;

Probe NotTried(std::string why) { return {Outcome::kNotTried, std::move(why)}; }

Probe NoSocket(std::string_view what) {
  return NotTried(absl::StrCat(std::string(what), ": ", std::generic_category().message(errno)));
}

os::Fd TcpSocket() { return os::Fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

// The port that the kernel chooses for a socket without one.
std::optional<uint16_t> BindAnywhere(const os::Fd& fd) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return std::nullopt;
  }
  return ntohs(address.sin_port);
}

// A listener that asks for as long a queue as the setting allows, and what it is given: the kernel shows the length of
// a listener's queue where it shows what is acknowledged of a connection (net/ipv4/tcp.c, tcp_get_info).
Probe TryBacklog(const Numbers& wanted) {
  const os::Fd fd = TcpSocket();
  const auto asked = static_cast<int>(std::min<uint64_t>(wanted[0], std::numeric_limits<int>::max()));
  if (!fd || !BindAnywhere(fd).has_value() || listen(fd.get(), asked) != 0) return NoSocket("no listener can be made");
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (getsockopt(fd.get(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
    return NoSocket("the queue's length is not told");
  const bool works = info.tcpi_sacked >= static_cast<uint32_t>(asked);
  return {works ? Outcome::kWorks : Outcome::kFails,
          absl::StrCat("a listener that asks for a queue of ", asked, " is given one of ", info.tcpi_sacked)};
}

// Where ports fall that the kernel chooses: all in the range, and from more than half of it (with 256 of them, by
// chance alone, once in 10^70 not).
Probe TryPortRange(const Numbers& wanted) {
  if (wanted[0] > wanted[1]) return NotTried("the range ends before it begins");
  std::vector<os::Fd> sockets;
  uint64_t lowest = std::numeric_limits<uint64_t>::max();
  uint64_t highest = 0;
  // No more than half of the range: others may have ports of it, too.
  const uint64_t sockets_wanted = std::min<uint64_t>(kSockets, (wanted[1] - wanted[0]) / 2 + 1);
  while (sockets.size() < sockets_wanted) {
    os::Fd fd = TcpSocket();
    if (!fd) return NoSocket("no socket can be made");
    const std::optional<uint16_t> port = BindAnywhere(fd);
    if (!port.has_value() && errno == EADDRINUSE) {
      return {Outcome::kFails, absl::StrCat("after ", sockets.size(), " sockets no port is left for another")};
    }
    if (!port.has_value()) return NoSocket("the kernel chooses no port");
    lowest = std::min<uint64_t>(lowest, *port);
    highest = std::max<uint64_t>(highest, *port);
    sockets.push_back(std::move(fd));
  }
  const bool inside = lowest >= wanted[0] && highest <= wanted[1];
  const bool spread = highest - lowest >= (wanted[1] - wanted[0]) / 2;
  return {inside && spread ? Outcome::kWorks : Outcome::kFails,
          absl::StrCat("the kernel chose ", sockets.size(), " ports from ", lowest, " to ", highest)};
}

// The largest buffer that a program may ask for. The kernel counts its own overhead in and doubles it (socket(7)).
Probe TryLargestBuffer(int option, const Numbers& wanted) {
  const os::Fd fd = TcpSocket();
  if (!fd) return NoSocket("no socket can be made");
  const auto asked = static_cast<int>(std::min<uint64_t>(wanted[0], std::numeric_limits<int>::max() / 2));
  int given = 0;
  socklen_t length = sizeof(given);
  if (setsockopt(fd.get(), SOL_SOCKET, option, &asked, sizeof(asked)) != 0 ||
      getsockopt(fd.get(), SOL_SOCKET, option, &given, &length) != 0) {
    return NoSocket("no buffer can be asked for");
  }
  return {given / 2 >= asked ? Outcome::kWorks : Outcome::kFails,
          absl::StrCat("a socket that asks for a buffer of ", asked, " bytes is given one of ", given / 2)};
}

// The buffer that a connection begins with.
Probe TryFirstBuffer(int option, const Numbers& wanted) {
  const os::Fd fd = TcpSocket();
  int given = 0;
  socklen_t length = sizeof(given);
  if (!fd || getsockopt(fd.get(), SOL_SOCKET, option, &given, &length) != 0) return NoSocket("no socket can be made");
  return {given >= 0 && static_cast<uint64_t>(given) == wanted[1] ? Outcome::kWorks : Outcome::kFails,
          absl::StrCat("a new socket has a buffer of ", given, " bytes")};
}

// So many files of this process, which needs some itself.
Probe TryDescriptors(const Numbers& /*wanted*/) {
  constexpr uint64_t kMost = 4096;
  const absl::StatusOr<os::DescriptorLimit> limit = os::ReadDescriptorLimit();
  if (!limit.ok()) return NotTried(std::string(limit.status().message()));
  std::vector<os::Fd> files;
  while (files.size() < std::min(kMost, limit->soft / 4)) {
    os::Fd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!file && errno == ENFILE) {
      return {Outcome::kFails, absl::StrCat("after ", files.size(), " files the host has no room for another")};
    }
    if (!file) break;  // the limit of this process, which is another one
    files.push_back(std::move(file));
  }
  return {Outcome::kWorks, absl::StrCat("opened ", files.size(), " files more")};
}

// Entries cannot be made without traffic; how much room there is can be read.
Probe CountTracked(const Numbers& wanted) {
  const absl::StatusOr<Numbers> count = os::Proc().Sysctl("net.netfilter.nf_conntrack_count");
  if (!count.ok() || count->size() != 1) return NotTried("how many connections are followed is not told");
  const uint64_t used = count->front();
  const uint64_t room = wanted[0] > used ? wanted[0] - used : 0;
  return {room > 0 ? Outcome::kWorks : Outcome::kFails,
          absl::StrCat(used, " connections are followed, and there is room for ", room, " more")};
}

struct Trial {
  std::string_view key;
  size_t numbers;
  Probe (*run)(const Numbers& wanted);
};
constexpr std::array<Trial, 8> kTrials = {{
    {"fs.file-max", 1, TryDescriptors},
    {"net.netfilter.nf_conntrack_max", 1, CountTracked},
    {"net.core.somaxconn", 1, TryBacklog},
    {"net.ipv4.ip_local_port_range", 2, TryPortRange},
    {"net.core.rmem_max", 1, [](const Numbers& wanted) { return TryLargestBuffer(SO_RCVBUF, wanted); }},
    {"net.core.wmem_max", 1, [](const Numbers& wanted) { return TryLargestBuffer(SO_SNDBUF, wanted); }},
    {"net.ipv4.tcp_rmem", 3, [](const Numbers& wanted) { return TryFirstBuffer(SO_RCVBUF, wanted); }},
    {"net.ipv4.tcp_wmem", 3, [](const Numbers& wanted) { return TryFirstBuffer(SO_SNDBUF, wanted); }},
}};

}  // namespace

Probe TryOut(std::string_view key, std::string_view value) {
  for (const Trial& trial : kTrials) {
    if (trial.key != key) continue;
    const std::optional<Numbers> wanted = os::ParseNumbers(value);
    if (!wanted.has_value() || wanted->size() != trial.numbers) {
      return NotTried(absl::StrCat("\"", std::string(value), "\" is not what this setting holds"));
    }
    return trial.run(*wanted);
  }
  return NotTried("what it does shows only under load");
}

}  // namespace loadstar::agent
