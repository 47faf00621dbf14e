#include "agent/worker/pacer.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace loadstar::worker {
namespace {

double PeriodOf(double rate_per_s) {
  return rate_per_s > 0 ? 1e9 / rate_per_s : std::numeric_limits<double>::infinity();
}

}  // namespace

RateCurve::RateCurve(double rate_per_s) { segments_.push_back({0, 0.0, PeriodOf(rate_per_s)}); }

double RateCurve::PhaseAt(int64_t elapsed_ns) const {
  for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
    if (segment->begin_ns <= elapsed_ns) {
      return segment->begin_phase + static_cast<double>(elapsed_ns - segment->begin_ns) / segment->period_ns;
    }
  }
  return 0;
}

int64_t RateCurve::TimeAt(double phase) const {
  // Segments are half-open: a phase at which two of them meet belongs to the later one, and one of rate 0 has no phase.
  auto segment = segments_.rbegin();
  while (std::next(segment) != segments_.rend() && segment->begin_phase > phase) ++segment;
  if (std::isinf(segment->period_ns)) return kNever;
  const double distance = std::max(phase - segment->begin_phase, 0.0) * segment->period_ns;
  if (!(distance < 4e18)) return kNever;
  return segment->begin_ns + std::llround(distance);
}

bool RateCurve::Update(int64_t at_ns, double rate_per_s) {
  at_ns = std::max<int64_t>(at_ns, 0);
  while (segments_.size() > 1 && segments_.back().begin_ns >= at_ns) segments_.pop_back();
  if (segments_.size() >= kMaxSegments) return false;
  const double phase = PhaseAt(at_ns);
  if (segments_.back().begin_ns == at_ns) segments_.pop_back();
  segments_.push_back({at_ns, phase, PeriodOf(rate_per_s)});
  return true;
}

ArrivalCursor Arrivals::First(double base_phase, double offset, uint64_t state) const {
  ArrivalCursor cursor{base_phase, state};
  if (spacing_.poisson) {
    Next(&cursor);
  } else {
    cursor.phase += offset * spacing_.burst + static_cast<double>(BurstBegin(state));
  }
  return cursor;
}

void Arrivals::Next(ArrivalCursor* cursor) const {
  if (spacing_.poisson) {
    SplitMix random(cursor->state);
    cursor->phase += random.Exponential() * stride_;
    cursor->state = random.state();
    return;
  }
  const uint64_t request = cursor->state;
  cursor->state += stride_;
  // Whole numbers, so that nothing drifts.
  cursor->phase += spacing_.burst == 1 ? stride_ : static_cast<double>(BurstBegin(cursor->state) - BurstBegin(request));
}

TotalSchedule::TotalSchedule(double rate_per_s, Spacing spacing, uint32_t worker_index, uint32_t worker_count,
                             uint64_t seed)
    : curve_(rate_per_s),
      arrivals_(spacing, worker_count),
      due_(arrivals_.First(0, 0, spacing.poisson ? SplitMix(seed, worker_index).state() : worker_index)),
      sent_(due_),
      next_due_ns_(curve_.TimeAt(due_.phase)) {}

uint64_t TotalSchedule::Advance(int64_t elapsed_ns) {
  uint64_t count = 0;
  advanced_to_ns_ = std::max(advanced_to_ns_, elapsed_ns);
  while (next_due_ns_ <= elapsed_ns) {
    arrivals_.Next(&due_);
    next_due_ns_ = curve_.TimeAt(due_.phase);
    ++count;
  }
  backlog_ += count;
  return count;
}

void TotalSchedule::TakeOldest() {
  arrivals_.Next(&sent_);
  --backlog_;
}

bool TotalSchedule::Update(int64_t at_ns, double rate_per_s) {
  // What has become due stays due: the curve is only bent where it has not been read yet.
  if (!curve_.Update(std::max(at_ns, advanced_to_ns_ + 1), rate_per_s)) return false;
  next_due_ns_ = curve_.TimeAt(due_.phase);
  return true;
}

double PhaseOffset(uint64_t connection) {
  // The fraction as a 64-bit fixed-point product: a double would lose digits for large numbers.
  constexpr uint64_t kGoldenRatioFraction = 0x9E3779B97F4A7C15ULL;
  return static_cast<double>((connection * kGoldenRatioFraction) >> 11) * 0x1.0p-53;
}

}  // namespace loadstar::worker
