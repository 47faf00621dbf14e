#pragma once

#include <algorithm>

#include "absl/time/time.h"
#include "lib/os/clock.h"

namespace loadstar::server {

// The coordinator's clock: the wall clock as it was at the start, carried on by the monotonic clock, so that it never
// goes back or jumps; and never earlier than what an earlier life has stored. Thread-safe.
class SteadyWallClock {
 public:
  SteadyWallClock(absl::Time wall_now, absl::Time not_before)
      : base_(std::max(wall_now, not_before)), base_monotonic_ns_(os::MonotonicNs()) {}
  absl::Time Now() const { return base_ + absl::Nanoseconds(os::MonotonicNs() - base_monotonic_ns_); }

 private:
  const absl::Time base_;
  const int64_t base_monotonic_ns_;
};

}  // namespace loadstar::server
