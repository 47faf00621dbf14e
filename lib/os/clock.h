#pragma once

#include <time.h>

#include <cstdint>

namespace loadstar::os {

// CLOCK_MONOTONIC, ns: the clock of every duration in which the process could have worked.
inline int64_t MonotonicNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// CLOCK_BOOTTIME, ns: as CLOCK_MONOTONIC, but it goes on while the host is suspended. For time that passes for others
// as well: how long a peer on another host was silent, how old a record is.
inline int64_t BootTimeNs() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace loadstar::os
