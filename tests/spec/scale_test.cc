#include <gtest/gtest.h>

#include "lib/spec/spec.h"
#include "tests/spec/documents.h"

namespace loadstar::spec {
namespace {

v1::TestSpec ScaledBy(double scale) {
  const std::string yaml = With(With(kTest, "1/s per connection", "20k/s total"), "latency.p99 < 50ms",
                                "latency.p99 < 50ms\n  - connections.peak >= 100k\n  - connections.lost <= 5\n"
                                "  - requests.rate > 15k/s\n  - errors.ratio < 0.1%");
  Parsed parsed = ParseText(yaml);
  EXPECT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  Scale(scale, &parsed.test);
  return parsed.test;
}

TEST(Scale, ScalesConnectionsTotalRateAndTheirThresholds) {
  const v1::TestSpec test = ScaledBy(0.3);
  EXPECT_EQ(test.load().connections(0).to_connections(), 30'000u);
  EXPECT_EQ(test.load().connections(1).to_connections(), 30'000u);
  EXPECT_EQ(test.load().requests().rate_per_s(), 6'000);
  EXPECT_EQ(test.thresholds(0).text(), "latency.p99 < 50ms");
  EXPECT_EQ(test.thresholds(1).text(), "connections.peak >= 30k");
  EXPECT_EQ(test.thresholds(1).value(), 30'000);
  EXPECT_EQ(test.thresholds(2).text(), "connections.lost <= 2");
  EXPECT_EQ(test.thresholds(3).text(), "requests.rate > 4,500/s");
  EXPECT_EQ(test.thresholds(4).text(), "errors.ratio < 0.1%");
}

TEST(Scale, LeavesAScaledTestValid) {
  for (const double scale : {1e-9, 0.001, 0.123456789, 1.0 / 3, 0.5, 0.999, 1.0}) {
    v1::TestSpec test = ScaledBy(scale);
    EXPECT_GE(test.load().connections(0).to_connections(), 1u);
    EXPECT_EQ(ToString(Complete(&test)), "") << scale;
  }
}

TEST(Scale, RateOfEachConnectionStays) {
  Parsed parsed = ParseText(kTest);
  Scale(0.1, &parsed.test);
  EXPECT_EQ(parsed.test.load().requests().rate_per_s(), 1);
}

TEST(Scale, OutOfBoundsChangesNothing) {
  for (const double scale : {0.0, -1.0, 2.0})
    EXPECT_EQ(ScaledBy(scale).load().connections(0).to_connections(), 100'000u);
}

}  // namespace
}  // namespace loadstar::spec
