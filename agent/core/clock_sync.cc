#include "agent/core/clock_sync.h"

#include <algorithm>

namespace loadstar::agent {

void ClockSync::Add(int64_t sent_ns, int64_t coordinator_unix_ns, int64_t now_ns) {
  if (sent_ns > now_ns) return;  // an answer to nothing we asked
  const int64_t round_trip_ns = now_ns - sent_ns;
  probes_.push_back({sent_ns + round_trip_ns / 2 - coordinator_unix_ns, round_trip_ns});
  if (probes_.size() > kKept) probes_.pop_front();
}

const ClockSync::Probe& ClockSync::Best() const {
  return *std::min_element(probes_.begin(), probes_.end(),
                           [](const Probe& a, const Probe& b) { return a.round_trip_ns < b.round_trip_ns; });
}

}  // namespace loadstar::agent
