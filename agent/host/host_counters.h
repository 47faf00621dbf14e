#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "lib/os/proc.h"
#include "loadstar/v1/metrics.pb.h"

namespace loadstar::agent {

// One reading of what the host's kernel counts. The network's counters are those of the network namespace that the
// agent lives in. What cannot be read is absent.
struct HostCounters {
  std::optional<std::map<uint32_t, os::CoreTimes>> cores;
  std::optional<uint64_t> listen_overflows;
  std::optional<uint64_t> listen_drops;
  std::optional<uint64_t> syn_queue_full;
  std::optional<uint64_t> tcp_timeouts;
  std::optional<uint64_t> segments_sent;
  std::optional<uint64_t> segments_retransmitted;
  std::optional<uint64_t> tcp_memory_aborts;
  std::optional<uint64_t> conntrack_drops;
  std::optional<uint64_t> sockets_time_wait;
  std::optional<uint64_t> conntrack_count;
  std::optional<uint64_t> conntrack_max;
  std::optional<uint64_t> memory_unused_bytes;
  std::optional<uint64_t> slab_bytes;
  std::optional<uint64_t> tcp_memory_bytes;
};

HostCounters ReadHostCounters(const os::Proc& proc);

// What happened between two readings, and how things stand at the second; `seconds` is how many seconds of a run lie
// between them. A counter that one of the readings lacks, or that went back, is absent. Pure.
v1::HostFigures FiguresBetween(const HostCounters& before, const HostCounters& after, uint32_t seconds);

}  // namespace loadstar::agent
