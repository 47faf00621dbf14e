#include "lib/net/loop.h"

#include <sys/prctl.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/net/epoll_loop.h"
#include "lib/net/uring_loop.h"
#include "lib/os/clock.h"

namespace loadstar::net {

absl::StatusOr<std::unique_ptr<Loop>> Loop::Create(const LoopOptions& options, std::string_view backend) {
  if (options.max_sockets == 0 || options.max_sockets == kNoSocket || options.receive_buffer == 0) {
    return absl::InvalidArgumentError(absl::StrCat("loop: max_sockets=", options.max_sockets, " receive_buffer=",
                                                   options.receive_buffer, ": both must be positive"));
  }
  // Fails nowhere that the loop runs; without it waits are 50 us less exact.
  (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  if (backend == "io_uring") {
    return UringLoop::Create(options);
  }
  if (backend == "epoll") {
    return EpollLoop::Create(options, "it was asked for");
  }
  if (backend != "auto") {
    return absl::InvalidArgumentError(
        absl::StrCat("loop: no backend named \"", std::string(backend), "\"; there are auto, io_uring and epoll"));
  }
  absl::StatusOr<std::unique_ptr<Loop>> best = UringLoop::Create(options);
  if (best.ok()) {
    return best;
  }
  return EpollLoop::Create(options, std::string(best.status().message()));
}

absl::StatusOr<Address> Loop::LocalAddress(SocketId id) const {
  return absl::UnimplementedError(
      absl::StrCat("loop: the local address of socket ", id, " is not known to ", backend()));
}

void Loop::Run() {
  stopped_ = false;
  while (!stopped_) {
    RunOnce(INT64_MAX);
  }
}

int64_t Loop::ReadClock() { return os::MonotonicNs(); }

}  // namespace loadstar::net
