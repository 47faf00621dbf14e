#include "client/interrupts.h"

#include <fcntl.h>
#include <unistd.h>

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

int Interrupts::fd() const { return pipe_fds[0]; }

void Interrupts::Drain() {
  char bytes[64];
  while (read(pipe_fds[0], bytes, sizeof(bytes)) > 0) {
  }
}

int Interrupts::count() const { return interrupted.load(); }

void Interrupts::Wake() { WakeFd(); }

}  // namespace loadstar::client
