// Where the coordinator's clock stands against this host's monotonic one, from the round trips of heartbeats (as NTP).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace loadstar::agent {

// The best (shortest) of the last kKept round trips counts: the longer one took, the less it says.
class ClockSync {
 public:
  static constexpr size_t kKept = 16;

  // A heartbeat sent at `sent_ns` (monotonic) was answered at `coordinator_unix_ns` and the answer came at `now_ns`.
  void Add(int64_t sent_ns, int64_t coordinator_unix_ns, int64_t now_ns);

  bool known() const { return !probes_.empty(); }
  size_t count() const { return probes_.size(); }
  // Monotonic minus coordinator's clock, ns; known() only.
  int64_t offset_ns() const { return Best().offset_ns; }
  // How far off that may be: half of the round trip.
  int64_t uncertainty_ns() const { return Best().round_trip_ns / 2; }
  int64_t ToMonotonic(int64_t coordinator_unix_ns) const { return coordinator_unix_ns + offset_ns(); }
  int64_t ToCoordinator(int64_t monotonic_ns) const { return monotonic_ns - offset_ns(); }

 private:
  struct Probe {
    int64_t offset_ns;
    int64_t round_trip_ns;
  };
  const Probe& Best() const;

  std::deque<Probe> probes_;
};

}  // namespace loadstar::agent
