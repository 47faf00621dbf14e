// lib/plan: how many connections there are when, and which of them are whose. Pure arithmetic, shared by the
// coordinator (capacity, target column), the workers (what to do) and the tests (what must have happened).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "loadstar/v1/spec.pb.h"

namespace loadstar::plan {

// The piecewise-linear number of connections over time. Immutable but for Update. Thread-compatible.
class ConnectionProfile {
 public:
  // `load.connections` must be valid (see lib/spec). Stages without a positive duration are taken as absent.
  explicit ConnectionProfile(const v1::LoadSpec& load);

  // Connections wanted at `elapsed_ns` since the start: the line's value rounded down; 0 before the start and after the
  // end. Exact in integers: no drift, and the last instant of a ramp is its `to` (so TargetAt(EndNs()) is the last
  // stage's `to`, and the instant after it is 0).
  uint64_t TargetAt(int64_t elapsed_ns) const;
  // First instant in (after_ns, End] at which TargetAt differs from TargetAt(after_ns), or -1.
  int64_t NextChange(int64_t after_ns) const;
  // Length of the whole profile, ns.
  int64_t EndNs() const { return end_ns_; }
  // Largest value it ever takes, what lies in the past included.
  uint64_t Peak() const;
  // 0-based stage in which the instant lies; the first before the start, the last after the end. Stages are the
  // plan's: an update does not move them.
  uint32_t StageAt(int64_t elapsed_ns) const;

  // From `at_ns` on: from the target at that instant to `update.connections` within `update.ramp`, then hold to the end
  // as it was planned (the ramp is cut at the end). What was wanted before `at_ns` stays as it was. No-op when the
  // update carries no connections, or comes at or after the end.
  void Update(int64_t at_ns, const v1::LoadUpdate& update);

 private:
  // The line from (begin_ns, from) to (end_ns, to). It holds from begin_ns until the next line begins, which may be
  // before its own end (an update cuts it short, without changing its rounding), the last one until end_ns_.
  struct Line {
    int64_t begin_ns, end_ns;
    uint64_t from, to;

    uint64_t At(int64_t elapsed_ns) const;
    // First instant in [first_ns, last_ns] at which the value is not `value`, or -1.
    int64_t FirstOther(uint64_t value, int64_t first_ns, int64_t last_ns) const;
  };

  // Last instant at which lines_[index] holds.
  int64_t LastOf(size_t index) const;
  // Index of the line that holds at an instant of [0, end_ns_].
  size_t LineAt(int64_t elapsed_ns) const;

  std::vector<Line> lines_;
  std::vector<int64_t> stage_ends_ns_;
  int64_t end_ns_ = 0;
};

}  // namespace loadstar::plan
