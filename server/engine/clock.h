#pragma once

#include <algorithm>

#include "absl/time/time.h"
#include "lib/os/clock.h"

namespace loadstar::server {

// The coordinator's clock: the wall clock as it was at the start, carried on by the kernel's clock of elapsed time, so
// that it never goes back or jumps with the wall clock; and never earlier than what an earlier life has stored. Carried
// on by CLOCK_BOOTTIME and not CLOCK_MONOTONIC, because it is what agents on other hosts are told to start by and what
// is written into records: after a suspend of this host it would else be behind for good by as long as that lasted.
// Thread-safe.
class SteadyWallClock {
 public:
  SteadyWallClock(absl::Time wall_now, absl::Time not_before)
      : base_(std::max(wall_now, not_before)), base_boot_time_ns_(os::BootTimeNs()) {}
  absl::Time Now() const { return base_ + absl::Nanoseconds(os::BootTimeNs() - base_boot_time_ns_); }

 private:
  const absl::Time base_;
  const int64_t base_boot_time_ns_;
};

}  // namespace loadstar::server
