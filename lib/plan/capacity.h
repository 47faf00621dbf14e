// What connections take of a host and what a host can hold: what agents (capacity) and coordinator (plans) both go by.
#pragma once

#include <cstdint>

#include "loadstar/v1/run.pb.h"

namespace loadstar::plan {

// User memory (RssAnon) of a worker without connections, and of each idle connection beyond that: as measured for
// mcp-tcp by tests/bench/idle-memory.py; tcp and http take 50 bytes less. A process of loadstar-target takes as much,
// to within a tenth.
inline constexpr uint64_t kProcessMemory = 750'000;
inline constexpr uint64_t kUserMemoryPerEnd = 275;

// What ends of idle connections take of their host.
struct EndsMemory {
  uint64_t kernel_bytes = 0;
  uint64_t user_bytes = 0;
};
inline EndsMemory MemoryOfEnds(uint64_t ends, uint64_t kernel_bytes_per_end) {
  return {.kernel_bytes = ends * kernel_bytes_per_end, .user_bytes = ends * kUserMemoryPerEnd};
}

// The name of the limit that counts connections with bytes under way: idle ones take nothing of it.
inline constexpr char kTcpMemoryLimit[] = "tcp memory";

// Puts the limit that binds first and makes it the capacity's own; a capacity without limits stays as it is.
void BindLeast(v1::Capacity* capacity);

}  // namespace loadstar::plan
