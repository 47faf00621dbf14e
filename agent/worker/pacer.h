// When requests are due. Pure arithmetic on time that is given: no clock, no heap but a few rate changes.
//
// A schedule lives in *phase*: the number of requests that a rate has called for so far, as a real number. The phase of
// an instant is the integral of the rate, so a change of rate bends the curve and keeps it continuous: nothing that was
// due is moved, nothing becomes due twice. Requests sit at fixed phases (constant: one apart; bursts: b at once, b
// apart; Poisson: exponential gaps of mean one), and a request's intended time is the instant at which the curve
// reaches its phase.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "agent/worker/random.h"

namespace loadstar::worker {

inline constexpr int64_t kNever = INT64_MAX;

// The phase over time of a rate that changes at instants.
class RateCurve {
 public:
  // Rate changes that are kept; further ones are refused.
  static constexpr size_t kMaxSegments = 4096;

  // `rate_per_s` >= 0 from elapsed 0 on.
  explicit RateCurve(double rate_per_s);

  double PhaseAt(int64_t elapsed_ns) const;
  // When a request at this phase is due: the instant at which the phase is reached and the rate is above 0; kNever when
  // there is none.
  int64_t TimeAt(double phase) const;
  // From `at_ns` on the rate is another one. Changes planned for later than `at_ns` are forgotten. False when there
  // have been too many.
  bool Update(int64_t at_ns, double rate_per_s);

 private:
  struct Segment {
    int64_t begin_ns;
    double begin_phase;
    double period_ns;  // infinite at rate 0
  };
  std::vector<Segment> segments_;  // by begin; never empty
};

// A place in a schedule: the next request. Two cursors over one schedule that start alike walk the same requests, so
// "due" and "sent" are two cursors and the requests between them need no memory.
struct ArrivalCursor {
  double phase = 0;
  uint64_t state = 0;  // Poisson: of its random stream; otherwise the request's number in its schedule
};

// How requests are spaced.
struct Spacing {
  bool poisson = false;
  uint32_t burst = 1;  // not Poisson: requests that are due at one instant
};

// How a cursor walks.
class Arrivals {
 public:
  // `stride`: the cursor's requests are one in so many of the curve's.
  Arrivals(Spacing spacing, uint32_t stride) : spacing_(spacing), stride_(stride) {}

  // The first request of a schedule that begins at `base_phase`. Poisson: a gap later, drawn from the stream that is in
  // `state`. Otherwise: request number `state` of a schedule whose first burst is `offset` (in [0, 1)) of the gap
  // between bursts later.
  ArrivalCursor First(double base_phase, double offset, uint64_t state) const;
  void Next(ArrivalCursor* cursor) const;

 private:
  uint64_t BurstBegin(uint64_t request) const { return request / spacing_.burst * spacing_.burst; }

  Spacing spacing_;
  uint32_t stride_;
};

// This worker's part of a rate for the whole run. The phase is that of the run. Constant arrivals and bursts of b:
// request r of the run is due at r / rate, rounded down to a multiple of b / rate, and is this worker's when r mod n =
// i. Poisson: an independent stream of rate / n.
class TotalSchedule {
 public:
  // Requests that may wait: beyond it the owner takes the oldest and counts them as dropped.
  static constexpr uint64_t kMaxBacklog = 10'000'000;

  TotalSchedule(double rate_per_s, Spacing spacing, uint32_t worker_index, uint32_t worker_count, uint64_t seed);

  // Makes every request due that is intended at or before `elapsed_ns`. Returns how many that were.
  uint64_t Advance(int64_t elapsed_ns);
  // Intended time of the next request to become due, kNever when none will.
  int64_t NextDue() const { return next_due_ns_; }
  // Requests due and not taken.
  uint64_t backlog() const { return backlog_; }
  // Intended time of the oldest of them. Only when backlog() > 0.
  int64_t OldestIntended() const { return curve_.TimeAt(sent_.phase); }
  // How many requests the run's rate has called for since it was due. Only when backlog() > 0.
  double OldestLateness(int64_t elapsed_ns) const { return curve_.PhaseAt(elapsed_ns) - sent_.phase; }
  // Takes it. Only when backlog() > 0.
  void TakeOldest();
  // The run's rate from `at_ns` on, or from the last Advance on if that is later.
  bool Update(int64_t at_ns, double rate_per_s);

 private:
  RateCurve curve_;
  Arrivals arrivals_;
  ArrivalCursor due_;
  ArrivalCursor sent_;
  uint64_t backlog_ = 0;
  int64_t next_due_ns_;
  int64_t advanced_to_ns_ = 0;
};

// The fraction of a period by which connection k's schedule is shifted, when it is not random: multiples of the golden
// ratio, which spread any number of consecutive connections evenly.
double PhaseOffset(uint64_t connection);

}  // namespace loadstar::worker
