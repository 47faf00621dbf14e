#pragma once

#include <time.h>

#include <cstdint>

namespace loadstar::os {

// One of the clocks that every Linux has, ns; see below.
inline int64_t ReadClockNs(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// CLOCK_MONOTONIC, ns: the clock of every duration in which the process could have worked.
inline int64_t MonotonicNs() { return ReadClockNs(CLOCK_MONOTONIC); }

// CLOCK_BOOTTIME, ns: as CLOCK_MONOTONIC, but it goes on while the host is suspended. For time that passes for others
// as well: how long a peer on another host was silent, how old a record is.
inline int64_t BootTimeNs() { return ReadClockNs(CLOCK_BOOTTIME); }

// CPU time of the calling thread, and of the process, ns. Reading them is a system call.
inline int64_t ThreadCpuNs() { return ReadClockNs(CLOCK_THREAD_CPUTIME_ID); }
inline int64_t ProcessCpuNs() { return ReadClockNs(CLOCK_PROCESS_CPUTIME_ID); }

}  // namespace loadstar::os
