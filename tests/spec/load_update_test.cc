#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/spec/spec.h"

namespace loadstar::spec {
namespace {

TEST(ParseLoadUpdate, ReadsConnectionsRampAndRate) {
  const auto update = ParseLoadUpdate({{"connections", "50k"}, {"ramp", "1m"}, {"rate", "20k/s"}});
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ(update->connections(), 50'000u);
  EXPECT_EQ(update->ramp().seconds(), 60);
  EXPECT_EQ(update->rate_per_s(), 20'000);
}

TEST(ParseLoadUpdate, LeavesAloneWhatIsNotNamed) {
  const auto update = ParseLoadUpdate({{"rate", "5/s"}});
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_FALSE(update->has_connections());
  EXPECT_TRUE(update->has_rate_per_s());
}

TEST(ParseLoadUpdate, ZeroConnectionsAreAChange) {
  const auto update = ParseLoadUpdate({{"connections", "0"}});
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_TRUE(update->has_connections());
}

TEST(ParseLoadUpdate, SaysWhatIsWrong) {
  const std::pair<std::vector<Override>, const char*> cases[] = {
      {{}, "there is nothing to change"},
      {{{"conections", "5"}}, "--set conections: a running test has no such setting. Did you mean \"connections\"?"},
      {{{"load.requests.rate", "5/s"}}, "--set load.requests.rate: a running test has no such setting"},
      {{{"connections", "1e12"}}, "--set connections: 1000G connections are absurd"},
      {{{"connections", "many"}}, "--set connections: \"many\" does not start with a digit"},
      {{{"ramp", "1m"}}, "--set ramp: there is no new number of connections"},
      {{{"connections", "5"}, {"ramp", "5 minutes"}}, "--set ramp: \"5 minutes\" contains a blank. Write 5m"},
      {{{"connections", "5"}, {"ramp", "1000d"}}, "--set ramp: 24000h is too long"},
      {{{"rate", "20k/s total"}}, "--set rate: \"20k/s total\" says more than a rate"},
      {{{"rate", "20k"}}, "--set rate: \"20k\" does not say per what time"},
      {{{"rate", "0/s"}}, "--set rate: a rate of 0/s is out of bounds"},
      {{{"rate", "5/s"}, {"rate", "6/s"}}, "--set rate: it is there twice"},
  };
  for (const auto& [changes, expected] : cases) {
    const auto update = ParseLoadUpdate(changes);
    ASSERT_FALSE(update.ok()) << expected;
    EXPECT_EQ(update.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(update.status().message()), ::testing::StartsWith(expected));
  }
}

}  // namespace
}  // namespace loadstar::spec
