#include "agent/tuner/era.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "lib/os/fd.h"

namespace loadstar::agent {
namespace {

// linux/socket.h of Linux 5.14. Unlike a namespace's inode number it is not used again.
constexpr int kNetworkNamespaceCookie = 71;

std::optional<std::pair<dev_t, ino_t>> NamespaceOf(const char* path) {
  struct stat status {};
  if (stat(path, &status) != 0) return std::nullopt;
  return std::pair(status.st_dev, status.st_ino);
}

}  // namespace

absl::StatusOr<Era> ReadEra(const os::Proc& proc) {
  const absl::StatusOr<std::string> boot = proc.Read("sys/kernel/random/boot_id");
  if (!boot.ok()) return boot.status();
  Era era;
  era.of_host = std::string(absl::StripAsciiWhitespace(*boot));
  const os::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  if (fd && getsockopt(fd.get(), SOL_SOCKET, kNetworkNamespaceCookie, &cookie, &length) == 0) {
    era.of_network_namespace = absl::StrCat(era.of_host, "/", cookie);
    return era;
  }
  const auto own = NamespaceOf("/proc/self/ns/net");
  if (!own.has_value()) return absl::ErrnoToStatus(errno, "cannot tell the network namespace: /proc/self/ns/net");
  era.of_network_namespace = absl::StrCat(era.of_host, "/inode-", own->second);
  return era;
}

bool InFirstNetworkNamespace() {
  const auto first = NamespaceOf("/proc/1/ns/net");
  return !first.has_value() || first == NamespaceOf("/proc/self/ns/net");
}

}  // namespace loadstar::agent
