#pragma once

#include <cstdint>

#include "lib/os/limits.h"
#include "lib/os/proc.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::agent {

// What the capacity is computed from, beside the facts that are reported.
struct HostUse {
  uint64_t descriptors_in_use = 0;  // of the whole host
  uint64_t conntrack_in_use = 0;
};

// Descriptors of a worker that are not for connections: its loop, control channel, log, and some to spare.
inline constexpr uint64_t kWorkerReserve = 64;
// Memory that one connection takes with traffic when both of its ends are on this host: measured 9.5 to 10.3 KB of
// kernel memory (docs: "9.5 to 10.3 KB per connection with traffic") and about 1 KB of the worker's and the node's own.
inline constexpr uint64_t kMemoryPerConnection = 12 * 1024;
// Socket buffers of a connection that carries small requests: at most a page at each end.
inline constexpr uint64_t kTcpMemoryPerConnection = 2 * 4096;

// Reads the kernel's figures. What cannot be read stays 0, and a limit of 0 is not counted as one.
v1::HostFacts ReadHostFacts(const os::Proc& proc, const os::DescriptorLimit& limit);
HostUse ReadHostUse(const os::Proc& proc);

// Pure. What could be opened on top of what is in use. Assumes that both ends of a connection may be on this host (two
// descriptors each), which is never too much.
v1::Capacity ComputeCapacity(const v1::HostFacts& host, const HostUse& use);

}  // namespace loadstar::agent
