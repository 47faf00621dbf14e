#include "client/interrupts.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <iterator>

namespace loadstar::client {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGWINCH};

// Handlers reach nothing but globals.
int pipe_fds[2] = {-1, -1};
std::atomic<int> interrupted{0};
struct sigaction before[3];

void WakeFd() {
  const char byte = 0;
  // A full pipe is readable already.
  [[maybe_unused]] const ssize_t written = write(pipe_fds[1], &byte, 1);
}

void OnSignal(int signal) {
  const int saved_errno = errno;
  if (signal != SIGWINCH) {
    interrupted.fetch_add(1);
  }
  WakeFd();
  errno = saved_errno;
}

}  // namespace

Interrupts::Interrupts() {
  interrupted = 0;
  if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0) {
    std::abort();  // no descriptors left before anything was begun
  }
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    sigaction(kSignals[i], &action, &before[i]);
  }
}

Interrupts::~Interrupts() {
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    sigaction(kSignals[i], &before[i], nullptr);
  }
  close(pipe_fds[0]);
  close(pipe_fds[1]);
  pipe_fds[0] = pipe_fds[1] = -1;
}

bool Interrupts::Take() {
  if (interrupted.load() == taken_) {
    return false;
  }
  ++taken_;
  return true;
}

bool Interrupts::Wait(int fd, absl::Duration limit) {
  constexpr absl::Duration kLongest = absl::Hours(1);
  pollfd fds[] = {{pipe_fds[0], POLLIN, 0}, {fd, POLLIN, 0}};
  const absl::Duration wait = absl::Ceil(std::clamp(limit, absl::ZeroDuration(), kLongest), absl::Milliseconds(1));
  poll(fds, 2, static_cast<int>(absl::ToInt64Milliseconds(wait)));
  // What poll says does not count: a signal during it ends it with EINTR and the byte in the pipe.
  bool woken = false;
  char bytes[64];
  while (read(pipe_fds[0], bytes, sizeof(bytes)) > 0) {
    woken = true;
  }
  return woken;
}

void Interrupts::Wake() { WakeFd(); }

}  // namespace loadstar::client
