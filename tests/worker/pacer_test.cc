#include "agent/worker/pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <random>
#include <utility>
#include <vector>

#include "agent/worker/random.h"

namespace loadstar::worker {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

std::vector<int64_t> TakeAll(TotalSchedule* schedule, int64_t until_ns) {
  schedule->Advance(until_ns);
  std::vector<int64_t> intended;
  while (schedule->backlog() > 0) {
    intended.push_back(schedule->OldestIntended());
    schedule->TakeOldest();
  }
  return intended;
}

TEST(RateCurveTest, PhaseAndTimeAreInverse) {
  RateCurve curve(1000);
  ASSERT_TRUE(curve.Update(2 * kSecond, 10));
  ASSERT_TRUE(curve.Update(5 * kSecond, 0));
  ASSERT_TRUE(curve.Update(7 * kSecond, 500));
  EXPECT_DOUBLE_EQ(curve.PhaseAt(kSecond), 1000);
  EXPECT_DOUBLE_EQ(curve.PhaseAt(3 * kSecond), 2010);
  EXPECT_DOUBLE_EQ(curve.PhaseAt(6 * kSecond), 2030);
  EXPECT_DOUBLE_EQ(curve.PhaseAt(8 * kSecond), 2530);
  for (const int64_t at : {int64_t{0}, kSecond / 3, kSecond, 3 * kSecond, 8 * kSecond}) {
    EXPECT_NEAR(static_cast<double>(curve.TimeAt(curve.PhaseAt(at))), static_cast<double>(at), 2);
  }
  EXPECT_EQ(curve.TimeAt(2030), 7 * kSecond) << "nothing is due while the rate is 0";
}

TEST(RateCurveTest, RateZeroIsNever) {
  RateCurve curve(0);
  EXPECT_EQ(curve.TimeAt(1), kNever);
  EXPECT_EQ(curve.TimeAt(0), kNever);
  EXPECT_EQ(curve.PhaseAt(100 * kSecond), 0);
}

TEST(RateCurveTest, LaterPlannedChangesAreForgottenAndTooManyRefused) {
  RateCurve curve(10);
  ASSERT_TRUE(curve.Update(5 * kSecond, 100));
  ASSERT_TRUE(curve.Update(3 * kSecond, 20));
  EXPECT_DOUBLE_EQ(curve.PhaseAt(6 * kSecond), 30 + 60);
  int64_t at = 10 * kSecond;
  size_t accepted = 0;
  while (curve.Update(at++, 5) && accepted < 2 * RateCurve::kMaxSegments) ++accepted;
  EXPECT_LT(accepted, RateCurve::kMaxSegments);
}

TEST(TotalScheduleTest, ConstantRequestsOfAllWorkersAreTheWholeRate) {
  std::vector<int64_t> all;
  for (uint32_t worker = 0; worker < 7; ++worker) {
    TotalSchedule schedule(1000, Spacing(), worker, 7, 1);
    const std::vector<int64_t> own = TakeAll(&schedule, 3 * kSecond - 1);
    all.insert(all.end(), own.begin(), own.end());
  }
  std::sort(all.begin(), all.end());
  ASSERT_EQ(all.size(), 3000u);
  for (size_t r = 0; r < all.size(); ++r) {
    EXPECT_NEAR(static_cast<double>(all[r]), static_cast<double>(r) * 1e6, 1) << r;
  }
}

TEST(TotalScheduleTest, BurstsOfAllWorkersAreTheWholeRate) {
  for (const uint32_t burst : {2U, 7U, 100U}) {
    std::vector<int64_t> all;
    for (uint32_t worker = 0; worker < 7; ++worker) {
      TotalSchedule schedule(1000, Spacing{.burst = burst}, worker, 7, 1);
      const std::vector<int64_t> own = TakeAll(&schedule, 3 * kSecond - 1);
      EXPECT_TRUE(std::is_sorted(own.begin(), own.end()));
      all.insert(all.end(), own.begin(), own.end());
    }
    std::sort(all.begin(), all.end());
    ASSERT_EQ(all.size(), (3000 + burst - 1) / burst * burst);
    for (size_t r = 0; r < all.size(); ++r) EXPECT_EQ(all[r], static_cast<int64_t>(r / burst * burst) * 1'000'000) << r;
  }
}

TEST(ArrivalsTest, BurstsOfAConnectionAreShiftedByAFractionOfTheirGap) {
  const Arrivals arrivals(Spacing{.burst = 3}, 1);
  ArrivalCursor cursor = arrivals.First(10, 0.5, 0);
  std::vector<double> phases;
  for (int i = 0; i < 7; ++i, arrivals.Next(&cursor)) phases.push_back(cursor.phase);
  EXPECT_EQ(phases, (std::vector<double>{11.5, 11.5, 11.5, 14.5, 14.5, 14.5, 17.5}));
}

TEST(TotalScheduleTest, BacklogRemembersIntendedTimesAcrossChangesOfRate) {
  TotalSchedule schedule(100, Spacing(), 0, 1, 1);
  schedule.Advance(kSecond - 1);
  EXPECT_EQ(schedule.backlog(), 100u);
  ASSERT_TRUE(schedule.Update(kSecond, 1000));
  const std::vector<int64_t> intended = TakeAll(&schedule, 2 * kSecond - 1);
  ASSERT_EQ(intended.size(), 1100u);
  EXPECT_EQ(intended[50], 500'000'000);
  EXPECT_EQ(intended[100], kSecond);
  EXPECT_NEAR(static_cast<double>(intended[600]), 1.5e9, 2);
}

TEST(TotalScheduleTest, ChangeInThePastLeavesWhatWasDue) {
  TotalSchedule schedule(1000, Spacing(), 0, 1, 1);
  EXPECT_EQ(schedule.Advance(2 * kSecond), 2001u);
  ASSERT_TRUE(schedule.Update(kSecond, 0));
  EXPECT_EQ(schedule.backlog(), 2001u);
  EXPECT_EQ(schedule.NextDue(), kNever);
}

TEST(TotalScheduleTest, PoissonStreamsOfWorkersDifferAndRepeat) {
  TotalSchedule first(1000, Spacing{.poisson = true}, 0, 2, 42);
  TotalSchedule again(1000, Spacing{.poisson = true}, 0, 2, 42);
  TotalSchedule second(1000, Spacing{.poisson = true}, 1, 2, 42);
  const std::vector<int64_t> a = TakeAll(&first, 100 * kSecond);
  EXPECT_EQ(a, TakeAll(&again, 100 * kSecond));
  const std::vector<int64_t> b = TakeAll(&second, 100 * kSecond);
  EXPECT_NE(a, b);
  EXPECT_NEAR(static_cast<double>(a.size()), 50'000, 900);  // four standard deviations
  EXPECT_NEAR(static_cast<double>(b.size()), 50'000, 900);
  // Exponential gaps: 1/e of them are longer than the mean.
  size_t longer = 0;
  for (size_t i = 1; i < a.size(); ++i) longer += a[i] - a[i - 1] > 2'000'000 ? 1 : 0;
  EXPECT_NEAR(static_cast<double>(longer) / static_cast<double>(a.size()), std::exp(-1), 0.01);
}

// --- goodness of fit ---

// Both tests err on one stream of Poisson arrivals in a thousand; the seeds are fixed, so a verdict is for ever.
constexpr double kSignificance = 0.001;
constexpr double kSignificanceNormal = 3.0902;  // what a normal variable exceeds so often

// Kolmogorov and Smirnov: the greatest distance between the distribution of these gaps, in units of their expected
// mean, and the exponential one, against what it exceeds by chance with kSignificance.
bool GapsAreExponential(std::vector<double> gaps) {
  std::sort(gaps.begin(), gaps.end());
  const auto n = static_cast<double>(gaps.size());
  double distance = 0;
  for (size_t i = 0; i < gaps.size(); ++i) {
    const double expected = 1 - std::exp(-gaps[i]);
    distance = std::max({distance, expected - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - expected});
  }
  return distance * std::sqrt(n) < std::sqrt(-std::log(kSignificance / 2) / 2);
}

// Pearson: how often an interval has so many of the arrivals, against how often it has by Poisson's distribution.
// Counts that are expected fewer than five times are taken together.
bool CountsArePoisson(const std::vector<int64_t>& arrivals, double rate_per_s, int64_t interval_ns, int64_t until_ns) {
  std::vector<size_t> counts(static_cast<size_t>(until_ns / interval_ns));
  for (const int64_t at : arrivals) {
    const auto interval = static_cast<size_t>(at / interval_ns);
    if (interval < counts.size()) ++counts[interval];
  }
  std::vector<double> seen(1 + *std::max_element(counts.begin(), counts.end()));
  for (const size_t count : counts) ++seen[count];

  const double mean = rate_per_s * static_cast<double>(interval_ns) / 1e9;
  const auto intervals = static_cast<double>(counts.size());
  double statistic = 0;
  double cells = 0;
  const auto compare = [&](double expected, double observed) {
    statistic += (observed - expected) * (observed - expected) / expected;
    ++cells;
  };
  double expected = 0;
  double observed = 0;
  double expected_left = intervals;
  double observed_left = intervals;
  double share = std::exp(-mean);  // of the intervals, with `count` arrivals
  for (size_t count = 0; expected_left - expected >= 5; ++count) {
    if (count > 0) share *= mean / static_cast<double>(count);
    expected += intervals * share;
    observed += count < seen.size() ? seen[count] : 0;
    if (expected < 5 || expected_left - expected < 5) continue;
    compare(expected, observed);
    expected_left -= std::exchange(expected, 0);
    observed_left -= std::exchange(observed, 0);
  }
  compare(expected_left, observed_left);
  // Wilson and Hilferty: the cube root of chi square is nearly normal.
  const double freedom = cells - 1;
  const double spread = 2 / (9 * freedom);
  return statistic < freedom * std::pow(1 - spread + kSignificanceNormal * std::sqrt(spread), 3);
}

// Gaps between arrivals, the first from 0 on, in units of what they are on average.
std::vector<double> GapsOf(const std::vector<int64_t>& arrivals, double rate_per_s) {
  std::vector<double> gaps;
  gaps.reserve(arrivals.size());
  int64_t before = 0;
  for (const int64_t at : arrivals)
    gaps.push_back(static_cast<double>(at - std::exchange(before, at)) / 1e9 * rate_per_s);
  return gaps;
}

// The first `count` requests of each connection's own schedule, as Load walks it.
std::vector<std::vector<int64_t>> OwnSchedules(Spacing spacing, double rate_per_s, uint64_t connections, size_t count) {
  const RateCurve curve(rate_per_s);
  const Arrivals arrivals(spacing, 1);
  std::vector<std::vector<int64_t>> all(connections);
  for (uint64_t k = 0; k < connections; ++k) {
    ArrivalCursor cursor = arrivals.First(0, PhaseOffset(k), spacing.poisson ? SplitMix(11, k).state() : 0);
    for (; all[k].size() < count; arrivals.Next(&cursor)) all[k].push_back(curve.TimeAt(cursor.phase));
  }
  return all;
}

std::vector<int64_t> TogetherUntil(const std::vector<std::vector<int64_t>>& schedules, int64_t until_ns) {
  std::vector<int64_t> all;
  for (const std::vector<int64_t>& own : schedules) {
    EXPECT_GE(own.back(), until_ns) << "the schedule is too short";
    std::copy_if(own.begin(), own.end(), std::back_inserter(all), [&](int64_t at) { return at < until_ns; });
  }
  std::sort(all.begin(), all.end());
  return all;
}

constexpr double kFitRate_per_s = 1000;
constexpr int64_t kFitUntil_ns = 200 * kSecond;
constexpr int64_t kFitInterval_ns = 10'000'000;  // ten arrivals on average

std::vector<int64_t> TotalOfWorkers(Spacing spacing, uint32_t workers, uint64_t seed) {
  std::vector<int64_t> all;
  for (uint32_t worker = 0; worker < workers; ++worker) {
    TotalSchedule schedule(kFitRate_per_s, spacing, worker, workers, seed);
    const std::vector<int64_t> own = TakeAll(&schedule, kFitUntil_ns - 1);
    all.insert(all.end(), own.begin(), own.end());
  }
  std::sort(all.begin(), all.end());
  return all;
}

TEST(GoodnessOfFitTest, PoissonArrivalsOfATotalRateAreAPoissonProcessForAnyNumberOfWorkers) {
  for (const uint32_t workers : {1U, 3U, 8U}) {
    for (const uint64_t seed : {1U, 2U, 3U}) {
      const std::vector<int64_t> all = TotalOfWorkers({.poisson = true}, workers, seed);
      EXPECT_TRUE(GapsAreExponential(GapsOf(all, kFitRate_per_s))) << workers << " workers, seed " << seed;
      EXPECT_TRUE(CountsArePoisson(all, kFitRate_per_s, kFitInterval_ns, kFitUntil_ns))
          << workers << " workers, seed " << seed;
    }
  }
}

TEST(GoodnessOfFitTest, PoissonArrivalsOfEachConnectionAndOfAllTogetherAreAPoissonProcess) {
  constexpr uint64_t kConnections = 200;
  constexpr double kOwnRate_per_s = kFitRate_per_s / kConnections;
  constexpr int64_t kUntil_ns = 150 * kSecond;  // 750 requests each on average: 1,000 reach beyond it
  const auto schedules = OwnSchedules({.poisson = true}, kOwnRate_per_s, kConnections, 1000);
  std::vector<double> gaps;
  for (const std::vector<int64_t>& own : schedules) {
    const std::vector<double> of_one = GapsOf(own, kOwnRate_per_s);
    gaps.insert(gaps.end(), of_one.begin(), of_one.end());
  }
  EXPECT_TRUE(GapsAreExponential(gaps));
  EXPECT_TRUE(CountsArePoisson(schedules[0], kOwnRate_per_s, kSecond / 5, kUntil_ns));
  const std::vector<int64_t> all = TogetherUntil(schedules, kUntil_ns);
  EXPECT_TRUE(GapsAreExponential(GapsOf(all, kFitRate_per_s)));
  EXPECT_TRUE(CountsArePoisson(all, kFitRate_per_s, kFitInterval_ns, kUntil_ns));
}

TEST(GoodnessOfFitTest, OtherArrivalsDoNotPassForPoisson) {
  const auto rejected = [](const std::vector<int64_t>& arrivals, double rate_per_s, const char* what) {
    EXPECT_FALSE(GapsAreExponential(GapsOf(arrivals, rate_per_s))) << what;
    EXPECT_FALSE(CountsArePoisson(arrivals, rate_per_s, kFitInterval_ns, kFitUntil_ns)) << what;
  };
  const std::vector<int64_t> constant = TotalOfWorkers({}, 3, 1);
  rejected(constant, kFitRate_per_s, "constant");
  rejected(TotalOfWorkers({.burst = 4}, 3, 1), kFitRate_per_s, "bursts");
  rejected(TogetherUntil(OwnSchedules({}, kFitRate_per_s / 200, 200, 1001), kFitUntil_ns), kFitRate_per_s,
           "constant on each connection");

  // Each request anywhere in the interval that is its own: right mean, right rate, wrong process.
  std::mt19937_64 random(1);
  std::uniform_int_distribution<int64_t> within(0, 999'999);
  std::vector<int64_t> jittered = constant;
  for (int64_t& at : jittered) at += within(random);
  rejected(jittered, kFitRate_per_s, "jittered");

  // A Poisson process of a rate that is 2 % off the one that was asked for.
  rejected(TotalOfWorkers({.poisson = true}, 3, 1), kFitRate_per_s * 1.02, "another rate");
}

TEST(PhaseOffsetTest, SpreadsConsecutiveConnectionsEvenly) {
  std::vector<double> offsets;
  for (uint64_t k = 0; k < 1000; ++k) offsets.push_back(PhaseOffset(k));
  std::sort(offsets.begin(), offsets.end());
  EXPECT_GE(offsets.front(), 0);
  EXPECT_LT(offsets.back(), 1);
  for (size_t i = 1; i < offsets.size(); ++i) EXPECT_LT(offsets[i] - offsets[i - 1], 0.003);
}

}  // namespace
}  // namespace loadstar::worker
