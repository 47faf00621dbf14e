#include "agent/tuner/wish.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace loadstar::agent {
namespace {

using ::testing::Optional;

Wish AtLeast(std::vector<uint64_t> values) { return {std::move(values), v1::SYSCTL_POLICY_AT_LEAST}; }
Wish Exactly(std::vector<uint64_t> values) { return {std::move(values), v1::SYSCTL_POLICY_EXACTLY}; }
Wish Covers(uint64_t first, uint64_t last) { return {{first, last}, v1::SYSCTL_POLICY_COVERS}; }
Wish Includes(std::vector<uint64_t> pairs) { return {std::move(pairs), v1::SYSCTL_POLICY_INCLUDES}; }

TEST(WishTest, AtLeastRaisesNumberByNumberAndLowersNone) {
  EXPECT_THAT(Fulfil("128", {AtLeast({4096})}), Optional(std::string("4096")));
  EXPECT_THAT(Fulfil("8192", {AtLeast({4096})}), Optional(std::string("8192")));
  EXPECT_THAT(Fulfil("4096\t131072\t6291456", {AtLeast({8192, 1000, 268435456})}),
              Optional(std::string("8192\t131072\t268435456")));
}

TEST(WishTest, AValueThatWillDoStaysByteForByte) {
  EXPECT_THAT(Fulfil("4096 131072  6291456", {AtLeast({1, 2, 3})}), Optional(std::string("4096 131072  6291456")));
  EXPECT_THAT(Fulfil("8080,9000-9002,9003", {Includes({9001, 9003})}), Optional(std::string("8080,9000-9002,9003")));
}

TEST(WishTest, ExactlyTakesWhatIsAskedFor) {
  EXPECT_THAT(Fulfil("60", {Exactly({30})}), Optional(std::string("30")));
  EXPECT_THAT(Fulfil("0", {Exactly({30})}), Optional(std::string("30")));
}

TEST(WishTest, CoversIsTheSmallestRangeWithBoth) {
  EXPECT_THAT(Fulfil("32768\t60999", {Covers(1024, 65535)}), Optional(std::string("1024\t65535")));
  EXPECT_THAT(Fulfil("1000\t40000", {Covers(1024, 65535)}), Optional(std::string("1000\t65535")));
  EXPECT_THAT(Fulfil("1000\t65535", {Covers(1024, 2000)}), Optional(std::string("1000\t65535")));
}

TEST(WishTest, IncludesIsTheUnionOfPorts) {
  EXPECT_THAT(Fulfil("", {Includes({9100, 9103, 8080, 8080})}), Optional(std::string("8080,9100-9103")));
  EXPECT_THAT(Fulfil("9104-9105", {Includes({9100, 9103})}), Optional(std::string("9100-9105")));
}

TEST(WishTest, WhatIsNotOfTheKindIsRefused) {
  EXPECT_EQ(Fulfil("cubic", {AtLeast({1})}), std::nullopt);
  EXPECT_EQ(Fulfil("1\t2", {AtLeast({1})}), std::nullopt);
  EXPECT_EQ(Fulfil("1 2", {Includes({1, 2})}), std::nullopt);
  EXPECT_EQ(Fulfil("-1", {AtLeast({1})}), std::nullopt);
}

TEST(WishTest, OrderOfWishesMakesNoDifference) {
  const std::vector<Wish> wishes = {AtLeast({10}), Exactly({20}), AtLeast({15})};
  EXPECT_EQ(Fulfil("50", {wishes[0], wishes[1], wishes[2]}), Fulfil("50", {wishes[2], wishes[1], wishes[0]}));
  EXPECT_THAT(Fulfil("50", wishes), Optional(std::string("20")));
}

TEST(WishTest, OnlyWhatNoTextFulfilsContradicts) {
  EXPECT_FALSE(Contradict(AtLeast({1}), AtLeast({2})));
  EXPECT_FALSE(Contradict(Exactly({5}), AtLeast({5})));
  EXPECT_TRUE(Contradict(AtLeast({6}), Exactly({5})));
  EXPECT_TRUE(Contradict(Exactly({6}), Exactly({5})));
  EXPECT_FALSE(Contradict(Exactly({5}), Exactly({5})));
  EXPECT_TRUE(Contradict(AtLeast({5}), AtLeast({5, 6, 7})));
  EXPECT_TRUE(Contradict(AtLeast({5}), Includes({5, 6})));
  EXPECT_TRUE(Contradict(AtLeast({10'000, 65'535}), Covers(1024, 65'535)));
  EXPECT_FALSE(Contradict(Covers(1024, 2048), Covers(4096, 8192)));
  EXPECT_FALSE(Contradict(Includes({5, 6}), Includes({1, 2, 8, 9})));
}

TEST(WishTest, LowersSeesNumbersThatGoDownAndRangesThatShrink) {
  using spec::SysctlKind;
  EXPECT_TRUE(Lowers("60", "30", SysctlKind::kSize));
  EXPECT_FALSE(Lowers("30", "60", SysctlKind::kSize));
  EXPECT_TRUE(Lowers("1\t2\t3", "1\t3\t2", SysctlKind::kSize));
  EXPECT_FALSE(Lowers("2", "1", SysctlKind::kChoice));
  EXPECT_FALSE(Lowers("32768\t60999", "1024\t65535", SysctlKind::kRange));
  EXPECT_TRUE(Lowers("1024\t65535", "32768\t65535", SysctlKind::kRange));
  EXPECT_TRUE(Lowers("1024\t65535", "1024\t60999", SysctlKind::kRange));
  EXPECT_TRUE(Lowers("1-5", "1-4", SysctlKind::kPorts));
  EXPECT_FALSE(Lowers("1-4", "1-5", SysctlKind::kPorts));
}

}  // namespace
}  // namespace loadstar::agent
