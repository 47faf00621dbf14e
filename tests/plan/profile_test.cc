#include "lib/plan/profile.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/plan/profiles.h"

namespace loadstar::plan {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kDay = 86'400 * kSecond;

TEST(ConnectionProfile, RampReachesItsTargetAtItsLastInstantAndNotBefore) {
  const ConnectionProfile profile(LoadOf({{60 * kSecond, 100'000}, {60 * kSecond, 100'000}}));
  EXPECT_EQ(profile.TargetAt(-1), 0u);
  EXPECT_EQ(profile.TargetAt(0), 0u);
  EXPECT_EQ(profile.TargetAt(30 * kSecond), 50'000u);
  EXPECT_EQ(profile.TargetAt(60 * kSecond - 1), 99'999u);
  EXPECT_EQ(profile.TargetAt(60 * kSecond), 100'000u);
  EXPECT_EQ(profile.TargetAt(120 * kSecond), 100'000u);
  EXPECT_EQ(profile.TargetAt(120 * kSecond + 1), 0u);
  EXPECT_EQ(profile.EndNs(), 120 * kSecond);
  EXPECT_EQ(profile.Peak(), 100'000u);
}

TEST(ConnectionProfile, StepsDownRoundDown) {
  const ConnectionProfile profile(LoadOf({{10, 10}, {10, 7}}));
  EXPECT_EQ(profile.TargetAt(10), 10u);
  EXPECT_EQ(profile.TargetAt(11), 9u);  // 9.7
  EXPECT_EQ(profile.TargetAt(13), 9u);  // 9.1
  EXPECT_EQ(profile.TargetAt(14), 8u);  // 8.8
  EXPECT_EQ(profile.TargetAt(20), 7u);
  EXPECT_EQ(profile.Peak(), 10u);
}

TEST(ConnectionProfile, IsExactAtTheBoundsOfTheDocument) {
  const ConnectionProfile profile(LoadOf({{31 * kDay, 100'000'000}}));
  EXPECT_EQ(profile.TargetAt(31 * kDay), 100'000'000u);
  EXPECT_EQ(profile.TargetAt(31 * kDay / 2), 50'000'000u);
  const int64_t first = profile.NextChange(0);
  EXPECT_EQ(profile.TargetAt(first), 1u);
  EXPECT_EQ(profile.TargetAt(first - 1), 0u);
}

TEST(ConnectionProfile, HoldHasNoChangeUntilTheNextRamp) {
  const ConnectionProfile profile(LoadOf({{10, 10}, {100, 10}, {10, 0}}));
  EXPECT_EQ(profile.NextChange(10), 111);
  EXPECT_EQ(profile.NextChange(120), -1);
}

TEST(ConnectionProfile, FirstChangeMayLieAtTheStart) {
  ConnectionProfile profile(LoadOf({{10, 0}}));
  profile.Update(0, UpdateOf(5, 0));
  EXPECT_EQ(profile.NextChange(-100), 0);
  EXPECT_EQ(profile.NextChange(0), -1);
}

TEST(ConnectionProfile, StagesAreThoseOfThePlan) {
  ConnectionProfile profile(LoadOf({{10, 10}, {10, 10}, {10, 0}}));
  profile.Update(5, UpdateOf(3, 1));
  EXPECT_EQ(profile.StageAt(-1), 0u);
  EXPECT_EQ(profile.StageAt(0), 0u);
  EXPECT_EQ(profile.StageAt(9), 0u);
  EXPECT_EQ(profile.StageAt(10), 1u);
  EXPECT_EQ(profile.StageAt(20), 2u);
  EXPECT_EQ(profile.StageAt(1000), 2u);
}

TEST(ConnectionProfile, UpdateRampsFromTheTargetOfThatInstantAndHoldsToThePlannedEnd) {
  ConnectionProfile profile(LoadOf({{100, 100}, {100, 100}, {100, 0}}));
  profile.Update(150, UpdateOf(200, 50));
  EXPECT_EQ(profile.TargetAt(149), 100u);
  EXPECT_EQ(profile.TargetAt(150), 100u);
  EXPECT_EQ(profile.TargetAt(175), 150u);
  EXPECT_EQ(profile.TargetAt(200), 200u);
  EXPECT_EQ(profile.TargetAt(300), 200u);
  EXPECT_EQ(profile.TargetAt(301), 0u);
  EXPECT_EQ(profile.EndNs(), 300);
  EXPECT_EQ(profile.Peak(), 200u);
}

TEST(ConnectionProfile, UpdateWithoutRampActsAtOnce) {
  ConnectionProfile profile(LoadOf({{100, 100}, {100, 100}}));
  profile.Update(100, UpdateOf(10, 0));
  EXPECT_EQ(profile.TargetAt(99), 99u);
  EXPECT_EQ(profile.TargetAt(100), 10u);
  EXPECT_EQ(profile.NextChange(99), 100);
  EXPECT_EQ(profile.Peak(), 99u);
}

TEST(ConnectionProfile, UpdateLeavesThePastAsItWas) {
  const ConnectionProfile before(LoadOf({{7, 100}}));
  ConnectionProfile after = before;
  after.Update(5, UpdateOf(0, 0));
  for (int64_t at = 0; at < 5; ++at) EXPECT_EQ(after.TargetAt(at), before.TargetAt(at)) << at;
}

TEST(ConnectionProfile, RampOfAnUpdateIsCutAtTheEnd) {
  ConnectionProfile profile(LoadOf({{100, 100}}));
  profile.Update(50, UpdateOf(150, 100));
  EXPECT_EQ(profile.TargetAt(100), 100u);
  EXPECT_EQ(profile.TargetAt(101), 0u);
  EXPECT_EQ(profile.Peak(), 100u);
}

TEST(ConnectionProfile, UpdatesFollowOneAnother) {
  ConnectionProfile profile(LoadOf({{100, 100}, {100, 100}}));
  profile.Update(100, UpdateOf(200, 20));
  profile.Update(110, UpdateOf(50, 10));
  EXPECT_EQ(profile.TargetAt(109), 145u);
  EXPECT_EQ(profile.TargetAt(110), 150u);
  EXPECT_EQ(profile.TargetAt(115), 100u);
  EXPECT_EQ(profile.TargetAt(120), 50u);
  EXPECT_EQ(profile.TargetAt(200), 50u);
}

TEST(ConnectionProfile, UpdateThatAsksForNothingOrComesTooLateChangesNothing) {
  ConnectionProfile profile(LoadOf({{100, 100}}));
  profile.Update(50, v1::LoadUpdate());
  profile.Update(100, UpdateOf(7, 0));
  EXPECT_EQ(profile.TargetAt(75), 75u);
  EXPECT_EQ(profile.TargetAt(100), 100u);
}

TEST(ConnectionProfile, UpdateBeforeTheStartCountsFromTheStart) {
  ConnectionProfile profile(LoadOf({{100, 100}}));
  profile.Update(-5, UpdateOf(8, 4));
  EXPECT_EQ(profile.TargetAt(0), 0u);
  EXPECT_EQ(profile.TargetAt(4), 8u);
  EXPECT_EQ(profile.TargetAt(100), 8u);
}

TEST(ConnectionProfile, AbsurdRampDoesNotOverflow) {
  ConnectionProfile profile(LoadOf({{100, 100}}));
  v1::LoadUpdate update = UpdateOf(1'000'000, 0);
  update.mutable_ramp()->set_seconds(std::numeric_limits<int64_t>::max());
  profile.Update(10, update);
  EXPECT_EQ(profile.TargetAt(100), 10u);
}

TEST(ConnectionProfile, WithoutStagesWantsNothing) {
  const ConnectionProfile profile{v1::LoadSpec()};
  EXPECT_EQ(profile.EndNs(), 0);
  EXPECT_EQ(profile.TargetAt(0), 0u);
  EXPECT_EQ(profile.NextChange(-1), -1);
  EXPECT_EQ(profile.Peak(), 0u);
  EXPECT_EQ(profile.StageAt(0), 0u);
}

}  // namespace
}  // namespace loadstar::plan
