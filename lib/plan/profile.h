// lib/plan: how many connections there are when, and which of them are whose. Pure arithmetic, shared by the
// coordinator (capacity, target column), the workers (what to do) and the tests (what must have happened).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::plan {

// The piecewise-linear number of connections over time. Immutable but for Update.
class ConnectionProfile {
 public:
  // `load.connections` must be valid (see lib/spec).
  explicit ConnectionProfile(const v1::LoadSpec& load);

  // Connections wanted at `elapsed_ns` since the start: the line's value rounded down; 0 before the start and after the
  // end. Exact in integers: no drift, and the last instant of a ramp is its `to`.
  uint64_t TargetAt(int64_t elapsed_ns) const;
  // First instant in (after_ns, End] at which TargetAt differs from TargetAt(after_ns), or -1.
  int64_t NextChange(int64_t after_ns) const;
  // Length of the whole profile, ns.
  int64_t EndNs() const;
  // Largest value it ever takes.
  uint64_t Peak() const;
  // 0-based stage in which the instant lies; the last one after the end.
  uint32_t StageAt(int64_t elapsed_ns) const;

  // From `at_ns` on: from the target at that instant to `update.connections` within `update.ramp`, then hold to the end
  // as it was planned (the ramp is cut at the end). No-op when the update carries no connections.
  void Update(int64_t at_ns, const v1::LoadUpdate& update);

 private:
  struct Segment {
    int64_t begin_ns, end_ns;
    uint64_t from, to;
    uint32_t stage;
  };
  std::vector<Segment> segments_;
};

}  // namespace loadstar::plan
