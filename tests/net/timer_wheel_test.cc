#include "lib/net/timer_wheel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace loadstar::net {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<uint32_t> Advance(TimerWheel* wheel, int64_t now_ns) {
  std::vector<uint32_t> fired;
  wheel->Advance(now_ns, &fired);
  return fired;
}

TEST(TimerWheelTest, FiresAtTheDueTimeNotBefore) {
  TimerWheel wheel(4, 1000, 10);
  wheel.Set(0, 1050);
  EXPECT_THAT(Advance(&wheel, 1049), IsEmpty());
  EXPECT_THAT(Advance(&wheel, 1050), ElementsAre(0));
  EXPECT_THAT(Advance(&wheel, 5000), IsEmpty());
}

TEST(TimerWheelTest, WhatIsDueInThePastFiresAtTheNextAdvanceEvenWithinTheSameTick) {
  TimerWheel wheel(2, 0, 100);
  EXPECT_THAT(Advance(&wheel, 1050), IsEmpty());
  wheel.Set(1, 20);
  wheel.Set(0, -5);
  EXPECT_THAT(Advance(&wheel, 1050), ElementsAre(1, 0));
}

TEST(TimerWheelTest, KeysOfOneTickFireInTheOrderInWhichTheyWereSet) {
  TimerWheel wheel(4, 0, 1);
  wheel.Set(3, 100'000);  // set from far away: is dealt down through the levels
  Advance(&wheel, 99'990);
  wheel.Set(0, 100'000);
  wheel.Set(2, 99'995);
  EXPECT_THAT(Advance(&wheel, 100'000), ElementsAre(2, 3, 0));
}

TEST(TimerWheelTest, SettingAgainReplacesAndCancelForgets) {
  TimerWheel wheel(2, 0, 1);
  wheel.Set(0, 10);
  wheel.Set(0, 20);
  wheel.Set(1, 10);
  wheel.Cancel(1);
  wheel.Cancel(1);
  EXPECT_TRUE(wheel.IsSet(0));
  EXPECT_FALSE(wheel.IsSet(1));
  EXPECT_THAT(Advance(&wheel, 19), IsEmpty());
  EXPECT_THAT(Advance(&wheel, 20), ElementsAre(0));
  EXPECT_FALSE(wheel.IsSet(0));
}

TEST(TimerWheelTest, TheFarthestDueTimesDoNotOverflow) {
  TimerWheel wheel(2, 1'000'000'000, 1);
  wheel.Set(0, INT64_MAX);
  wheel.Set(1, INT64_MAX - 1);
  EXPECT_GT(wheel.NextDue(), INT64_MAX / 2);
  EXPECT_THAT(Advance(&wheel, INT64_MAX - 2), IsEmpty());
  EXPECT_THAT(Advance(&wheel, INT64_MAX - 1), ElementsAre(1));
  EXPECT_THAT(Advance(&wheel, INT64_MAX), ElementsAre(0));
}

TEST(TimerWheelTest, NextDueOfAnEmptyWheelIsNever) {
  TimerWheel wheel(1, 0);
  EXPECT_EQ(wheel.NextDue(), INT64_MAX);
  wheel.Set(0, 1'000'000);
  EXPECT_LE(wheel.NextDue(), 1'000'000 + (1 << 17));
  wheel.Cancel(0);
  EXPECT_EQ(wheel.NextDue(), INT64_MAX);
}

// The naive model: a list of (due tick, order of setting).
class Model {
 public:
  Model(uint32_t keys, int64_t start_ns, int64_t tick_ns) : due_(keys), start_ns_(start_ns), tick_ns_(tick_ns) {}

  void Set(uint32_t key, int64_t due_ns) {
    const int64_t delta = std::max<int64_t>(due_ns - start_ns_, 0);
    due_[key] = Due{std::max((delta + tick_ns_ - 1) / tick_ns_, now_tick_), ++order_, due_ns};
  }
  void Cancel(uint32_t key) { due_[key].reset(); }
  std::vector<uint32_t> Advance(int64_t now_ns) {
    now_tick_ = std::max(now_tick_, (now_ns - start_ns_) / tick_ns_);
    std::vector<uint32_t> fired;
    for (uint32_t key = 0; key < due_.size(); ++key) {
      if (due_[key] && due_[key]->tick <= now_tick_) {
        fired.push_back(key);
      }
    }
    std::sort(fired.begin(), fired.end(), [this](uint32_t a, uint32_t b) {
      return std::pair(due_[a]->tick, due_[a]->order) < std::pair(due_[b]->tick, due_[b]->order);
    });
    for (const uint32_t key : fired) {
      // Never early; and what is still set is not more than one tick late.
      RC_ASSERT(due_[key]->due_ns <= now_ns);
      due_[key].reset();
    }
    for (const std::optional<Due>& due : due_) {
      RC_ASSERT(!due || due->due_ns > now_ns - tick_ns_);
    }
    return fired;
  }
  int64_t EarliestTick_ns() const {
    int64_t earliest = INT64_MAX;
    for (const std::optional<Due>& due : due_) {
      if (due) {
        earliest = std::min(earliest, start_ns_ + due->tick * tick_ns_);
      }
    }
    return earliest;
  }

 private:
  struct Due {
    int64_t tick;
    uint64_t order;
    int64_t due_ns;
  };
  std::vector<std::optional<Due>> due_;
  int64_t start_ns_, tick_ns_;
  int64_t now_tick_ = 0;
  uint64_t order_ = 0;
};

TEST(TimerWheelTest, AgreesWithTheNaiveModel) {
  const bool held = rc::check("timer wheel against a sorted list", [] {
    const auto keys = *rc::gen::inRange<uint32_t>(1, 20);
    const auto start_ns = *rc::gen::inRange<int64_t>(0, 1'000'000);
    const auto tick_ns = *rc::gen::element<int64_t>(1, 7, 64, 1000, 1 << 17);
    TimerWheel wheel(keys, start_ns, tick_ns);
    Model model(keys, start_ns, tick_ns);
    int64_t now_ns = start_ns;
    const auto steps = *rc::gen::inRange(1, 200);
    for (int i = 0; i < steps; ++i) {
      // Spans from below a tick to several levels of the wheel.
      const auto span = tick_ns * *rc::gen::element<int64_t>(1, 3, 64, 100, 4096, 300'000, 20'000'000);
      switch (*rc::gen::inRange(0, 5)) {
        case 0:
        case 1:
        case 2: {
          const auto key = *rc::gen::inRange<uint32_t>(0, keys);
          const int64_t due_ns = now_ns + *rc::gen::inRange<int64_t>(-span / 4, span);
          wheel.Set(key, due_ns);
          model.Set(key, due_ns);
          RC_ASSERT(wheel.IsSet(key));
          break;
        }
        case 3: {
          const auto key = *rc::gen::inRange<uint32_t>(0, keys);
          wheel.Cancel(key);
          model.Cancel(key);
          RC_ASSERT(!wheel.IsSet(key));
          break;
        }
        default: {
          now_ns += *rc::gen::inRange<int64_t>(0, span);
          std::vector<uint32_t> fired;
          wheel.Advance(now_ns, &fired);
          RC_ASSERT(fired == model.Advance(now_ns));
        }
      }
      // A lower bound, so that a loop that sleeps until then is never late; and "nothing" exactly when nothing is set.
      RC_ASSERT(wheel.NextDue() <= model.EarliestTick_ns());
      RC_ASSERT((wheel.NextDue() == INT64_MAX) == (model.EarliestTick_ns() == INT64_MAX));
    }
  });
  EXPECT_TRUE(held);
}

TEST(TimerWheelTest, FollowingNextDueReachesEveryKeyInFewTurns) {
  TimerWheel wheel(1, 0, 1 << 17);
  const int64_t due_ns = int64_t{3600} * 1'000'000'000;
  wheel.Set(0, due_ns);
  int64_t now_ns = 0;
  int turns = 0;
  std::vector<uint32_t> fired;
  while (fired.empty() && turns < 100) {
    now_ns = wheel.NextDue();
    wheel.Advance(now_ns, &fired);
    ++turns;
  }
  EXPECT_THAT(fired, ElementsAre(0));
  EXPECT_GE(now_ns, due_ns);
  EXPECT_LT(now_ns, due_ns + (1 << 17));
  EXPECT_LE(turns, 12);
}

}  // namespace
}  // namespace loadstar::net
