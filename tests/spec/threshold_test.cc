#include "lib/spec/threshold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/spec/spec.h"
#include "tests/spec/documents.h"

namespace loadstar::spec {
namespace {

v1::ThresholdSpec Read(std::string_view text) {
  v1::ThresholdSpec threshold;
  const MaybeFlaw flaw = ReadThreshold(text, &threshold);
  EXPECT_FALSE(flaw) << text << ": " << flaw->message;
  return threshold;
}

TEST(ReadThreshold, ConvertsToTheMetricsBaseUnit) {
  EXPECT_EQ(Read("latency.p99 < 50ms").value(), 50'000);
  EXPECT_EQ(Read("connect_time.max <= 1.5s").value(), 1'500'000);
  EXPECT_EQ(Read("errors.ratio < 0.1%").value(), 0.001);
  EXPECT_EQ(Read("errors.ratio < 0.001").value(), 0.001);
  EXPECT_EQ(Read("connections.peak >= 100k").value(), 100'000);
  EXPECT_EQ(Read("requests.rate > 20k/s").value(), 20'000);
  EXPECT_EQ(Read("requests.failed <= 0").value(), 0);
}

TEST(ReadThreshold, KnowsFourComparisonsWithAndWithoutBlanks) {
  EXPECT_EQ(Read("latency.p99<50ms").comparison(), v1::COMPARISON_LT);
  EXPECT_EQ(Read("latency.p99 <=50ms").comparison(), v1::COMPARISON_LE);
  EXPECT_EQ(Read("latency.p99> 50ms").comparison(), v1::COMPARISON_GT);
  EXPECT_EQ(Read("latency.p99  >=  50ms").comparison(), v1::COMPARISON_GE);
}

TEST(ReadThreshold, RefusesTheRest) {
  for (const char* text :
       {"", "latency.p99", "< 50ms", "latency.p99 <", "latency.p99 = 50ms", "latency.p99 != 50ms", "latency < 50ms",
        "latency.p99 < 50", "latency.p99 < -1ms", "errors.ratio < 5ms", "connections.peak > 10ms",
        "requests.rate > 20k", "latency.p99 < 5ms < 6ms", "latency.p99 =< 50ms"}) {
    v1::ThresholdSpec threshold;
    EXPECT_TRUE(ReadThreshold(text, &threshold)) << text;
  }
}

TEST(ReadThreshold, EveryMetricCanBeNamedAndFormatted) {
  ASSERT_EQ(ThresholdMetrics().size(), 42u);
  for (const std::string& metric : ThresholdMetrics()) {
    v1::ThresholdSpec threshold;
    threshold.set_metric(metric);
    threshold.set_comparison(v1::COMPARISON_LE);
    threshold.set_value(0.25);
    EXPECT_EQ(FormatThreshold(threshold).rfind(metric + " <= ", 0), 0u) << FormatThreshold(threshold);
  }
}

TEST(FormatThreshold, ReadsBackTheSame) {
  for (const char* text : {"latency.p99 < 50ms", "errors.ratio < 0.1%", "connections.peak >= 100k",
                           "requests.rate > 20k/s", "connect_time.mean <= 1.5s", "schedule_lag.p999 < 250us"}) {
    EXPECT_EQ(FormatThreshold(Read(text)), text);
  }
}

std::string ProblemsOf(std::string_view threshold) {
  return ToString(ParseText(With(kTest, "latency.p99 < 50ms", threshold)).problems);
}

TEST(Thresholds, ThatCanNeverHoldAreRefused) {
  EXPECT_THAT(ProblemsOf("latency.p99 < 0s"), ::testing::HasSubstr("never below 0"));
  EXPECT_THAT(ProblemsOf("errors.ratio > 100%"), ::testing::HasSubstr("never above 100%"));
  EXPECT_THAT(ProblemsOf("connections.peak > 100k"), ::testing::HasSubstr("never asks for more than 100k"));
  EXPECT_EQ(ProblemsOf("connections.peak >= 100k"), "");
  EXPECT_EQ(ProblemsOf("errors.ratio <= 0"), "");
  EXPECT_EQ(ProblemsOf("schedule_lag.p99 < 1ms"), "");
}

TEST(Thresholds, OfConnectionsNeedNoRequests) {
  const std::string yaml =
      With(With(kTest, "  requests:\n    model: open\n    rate: 1/s per connection\n", ""), "latency.p99 < 50ms",
           "connect_time.p99 < 1s\n  - connections.failed <= 0\n  - connections.lost <= 0");
  EXPECT_EQ(ToString(ParseText(yaml).problems), "");
}

}  // namespace
}  // namespace loadstar::spec
