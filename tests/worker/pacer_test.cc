#include "agent/worker/pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

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
