#include "agent/core/clock_sync.h"

#include <algorithm>
#include <cstdlib>

namespace loadstar::agent {
namespace {

// How far two clocks drift apart while the probes are kept (32 s), with a wide margin.
constexpr int64_t kDriftNs = 10'000'000;

}  // namespace

void ClockSync::Add(int64_t sent_ns, int64_t coordinator_unix_ns, int64_t now_ns) {
  if (sent_ns > now_ns) return;  // an answer to nothing we asked
  const int64_t round_trip_ns = now_ns - sent_ns;
  const Probe probe{sent_ns + round_trip_ns / 2 - coordinator_unix_ns, round_trip_ns};
  // Two probes of one clock differ by no more than half of their round trips. When they do, the coordinator's clock was
  // set anew (it was started again, or its host slept), and what was known of the old one is void.
  if (known() &&
      std::abs(probe.offset_ns - Best().offset_ns) > (probe.round_trip_ns + Best().round_trip_ns) / 2 + kDriftNs) {
    probes_.clear();
  }
  probes_.push_back(probe);
  if (probes_.size() > kKept) probes_.pop_front();
}

const ClockSync::Probe& ClockSync::Best() const {
  return *std::min_element(probes_.begin(), probes_.end(),
                           [](const Probe& a, const Probe& b) { return a.round_trip_ns < b.round_trip_ns; });
}

}  // namespace loadstar::agent
