// When requests are due. Pure arithmetic on time that is given: no clock, no heap but a few rate changes.
//
// A schedule lives in *phase*: the number of requests that a rate has called for so far, as a real number. The phase of
// an instant is the integral of the rate, so a change of rate bends the curve and keeps it continuous: nothing that was
// due is moved, nothing becomes due twice. Requests sit at fixed phases (constant: one apart; Poisson: exponential gaps
// of mean one), and a request's intended time is the instant at which the curve reaches its phase.
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
  SplitMix random;
};

// How a cursor walks.
class Arrivals {
 public:
  explicit Arrivals(bool poisson) : poisson_(poisson) {}

  // The first request after `base_phase`. Constant: `offset` (in [0, 1)) further. Poisson: one gap further, gaps drawn
  // from `random`.
  ArrivalCursor First(double base_phase, double offset, SplitMix random) const;
  void Next(ArrivalCursor* cursor) const { cursor->phase += poisson_ ? cursor->random.Exponential() : 1.0; }

 private:
  bool poisson_;
};

// This worker's part of a rate for the whole run. Constant arrivals: request r of the run is due at r / rate and is
// this worker's when r mod n = i. Poisson: an independent stream of rate / n.
class TotalSchedule {
 public:
  // Requests that may wait; beyond it the oldest are dropped.
  static constexpr uint64_t kMaxBacklog = 10'000'000;

  TotalSchedule(double rate_per_s, bool poisson, uint32_t worker_index, uint32_t worker_count, uint64_t seed);

  // Makes every request due that is intended at or before `elapsed_ns`. Returns how many that were; *dropped is how
  // many of the oldest were given up because more than kMaxBacklog wait.
  uint64_t Advance(int64_t elapsed_ns, uint64_t* dropped);
  // Intended time of the next request to become due, kNever when none will.
  int64_t NextDue() const { return next_due_ns_; }
  // Requests due and not taken.
  uint64_t backlog() const { return backlog_; }
  // Intended time of the oldest of them. Only when backlog() > 0.
  int64_t OldestIntended() const { return curve_.TimeAt(sent_.phase); }
  // Takes it. Only when backlog() > 0.
  void TakeOldest();
  // Gives up all that wait; returns how many.
  uint64_t DropBacklog();
  // The run's rate from `at_ns` on, or from the last Advance on if that is later.
  bool Update(int64_t at_ns, double rate_per_s);

 private:
  RateCurve curve_;
  Arrivals arrivals_;
  double workers_;
  ArrivalCursor due_;
  ArrivalCursor sent_;
  uint64_t backlog_ = 0;
  int64_t next_due_ns_;
  int64_t advanced_to_ns_ = 0;
};

// The fraction of a period by which connection k's constant schedule is shifted: multiples of the golden ratio, which
// spread any number of consecutive connections evenly.
double PhaseOffset(uint64_t connection);

}  // namespace loadstar::worker
