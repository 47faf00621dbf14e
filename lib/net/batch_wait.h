#pragma once

#include <algorithm>
#include <cstdint>

namespace loadstar::net {

// How long a busy loop waits for more than one completion. Each wake-up costs about as much as the work of one
// completion or more, so a loop that wakes for every single one spends most of its core on waking. Once it is busy it
// waits a bounded moment for several (io_uring: a minimum wait), which frees the core and delays what it reads by no
// more than kLongest_ns. A loop with time to spare never waits: there a delay would buy nothing.
//
// Pure: time is given. The CPU's clock is asked for once a window, because reading it is a system call.
class BatchWait {
 public:
  static constexpr int64_t kLongest_ns = 50'000;
  // Enough to make the cost of waking small; more would only add delay.
  static constexpr unsigned kMost = 64;
  // How many to wait for with that many sockets. A quarter of them: were it all, the two ends of a few connections
  // would take turns at waiting for each other.
  static constexpr unsigned Completions(uint32_t sockets) { return std::clamp(sockets / 4, 1U, kMost); }
  static constexpr int64_t kWindow_ns = 10'000'000;
  // Share of a core from which on it waits, and below which it stops. Far apart, because waiting lowers the share.
  static constexpr double kBusy = 0.25;
  static constexpr double kSpare = 0.1;

  bool waits() const { return waits_; }
  // A window is over, and the CPU time of the thread is wanted.
  bool WindowOver(int64_t now_ns) const { return now_ns >= window_began_ns_ + kWindow_ns; }
  // Closes the window; both clocks in ns. The first call only opens one.
  void CloseWindow(int64_t now_ns, int64_t cpu_ns) {
    if (window_began_ns_ != kNoWindow) {
      const double share =
          static_cast<double>(cpu_ns - window_began_cpu_ns_) / static_cast<double>(now_ns - window_began_ns_);
      waits_ = share >= (waits_ ? kSpare : kBusy);
    }
    window_began_ns_ = now_ns;
    window_began_cpu_ns_ = cpu_ns;
  }

 private:
  static constexpr int64_t kNoWindow = -kWindow_ns;

  int64_t window_began_ns_ = kNoWindow;
  int64_t window_began_cpu_ns_ = 0;
  bool waits_ = false;
};

}  // namespace loadstar::net
