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
  uint64_t tcp_memory_in_use = 0;  // bytes
};

// Descriptors of a worker that are not for connections: its loop, control channel, log, and some to spare.
inline constexpr uint64_t kWorkerReserve = 64;
// What a connection with both ends on this host may take beside what it takes when idle (lib/plan/capacity.h): the
// packets of a request and its answer while they are under way.
inline constexpr uint64_t kTrafficMemoryPerConnection = 2 * 1024;
// Socket buffers of a connection that carries small requests: at most a page at each end.
inline constexpr uint64_t kTcpMemoryPerConnection = 2 * 4096;

// Reads the kernel's figures. What cannot be read stays 0 or absent, and is not counted as a limit.
v1::HostFacts ReadHostFacts(const os::Proc& proc, const os::DescriptorLimit& limit);
HostUse ReadHostUse(const os::Proc& proc);

// Ports from which connect() picks when the source port is left to it.
struct EphemeralPorts {
  uint64_t preferred = 0;  // tried first: the parity of the range's first port
  uint64_t all = 0;
};
// Pure, exactly as the kernel's __inet_hash_connect: reserved ports are passed over, and of a range with an odd number
// of ports the last one is never tried.
EphemeralPorts CountEphemeralPorts(const v1::HostFacts& host);

// Pure. What could be opened on top of what is in use. Assumes that both ends of a connection may be on this host (two
// descriptors each), which is never too much.
v1::Capacity ComputeCapacity(const v1::HostFacts& host, const HostUse& use);

}  // namespace loadstar::agent
