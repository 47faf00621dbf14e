#include "server/service/probe.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "lib/os/clock.h"
#include "lib/os/fd.h"
#include "lib/os/ports.h"

namespace loadstar::server {
namespace {

// The client's preface and an empty SETTINGS frame: what a server may wait for before it speaks.
constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
constexpr size_t kPrefaceBytes = 24 + 9;
static_assert(sizeof(kPreface) == kPrefaceBytes + 1);

// Waits for one of the events; false when the time is over.
bool Await(int fd, short events, int64_t deadline_ns) {
  while (true) {
    const int64_t left_ms = (deadline_ns - os::MonotonicNs()) / 1'000'000;
    if (left_ms <= 0) return false;
    pollfd watched{fd, events, 0};
    const int ready = poll(&watched, 1, static_cast<int>(left_ms));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

}  // namespace

ProbeResult ProbeListener(const std::string& host_and_port, absl::Duration timeout) {
  const int64_t deadline_ns = os::MonotonicNs() + absl::ToInt64Nanoseconds(timeout);
  const absl::StatusOr<os::SocketAddress> address = os::Resolve(host_and_port);
  if (!address.ok()) return ProbeResult::kSilent;
  const os::Fd fd(socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return errno == EMFILE || errno == ENFILE ? ProbeResult::kNoDescriptors : ProbeResult::kSilent;
  if (connect(fd.get(), address->get(), address->length) != 0) {
    if (errno != EINPROGRESS || !Await(fd.get(), POLLOUT, deadline_ns)) return ProbeResult::kSilent;
  }
  if (send(fd.get(), kPreface, kPrefaceBytes, MSG_NOSIGNAL) != static_cast<ssize_t>(kPrefaceBytes)) {
    return ProbeResult::kSilent;
  }
  char frame[9];
  if (!Await(fd.get(), POLLIN, deadline_ns)) return ProbeResult::kSilent;
  return recv(fd.get(), frame, sizeof(frame), 0) > 0 ? ProbeResult::kAlive : ProbeResult::kSilent;
}

}  // namespace loadstar::server
