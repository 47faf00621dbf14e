#include "lib/metrics/histogram.h"

#include <gtest/gtest.h>

#include <string>

namespace loadstar::metrics {
namespace {

std::string Wire(const Histogram& histogram) {
  v1::Histogram wire;
  histogram.ToProto(&wire);
  return wire.SerializeAsString();
}

TEST(HistogramTest, EveryBucketBeginsWhereTheOneBeforeEnds) {
  for (uint32_t bucket = 0; bucket + 1 < Histogram::kBuckets; ++bucket) {
    ASSERT_EQ(Histogram::HighestOf(bucket) + 1, Histogram::LowestOf(bucket + 1)) << bucket;
    ASSERT_EQ(Histogram::BucketOf(Histogram::LowestOf(bucket)), bucket);
    ASSERT_EQ(Histogram::BucketOf(Histogram::HighestOf(bucket)), bucket);
  }
}

TEST(HistogramTest, LayoutIsTheOneOfHdrHistogram) {
  EXPECT_EQ(Histogram::BucketOf(0), 0u);
  EXPECT_EQ(Histogram::BucketOf(2047), 2047u);
  EXPECT_EQ(Histogram::BucketOf(2048), 2048u);
  EXPECT_EQ(Histogram::BucketOf(2049), 2048u);
  EXPECT_EQ(Histogram::BucketOf(2050), 2049u);
  EXPECT_EQ(Histogram::BucketOf(4095), 3071u);
  EXPECT_EQ(Histogram::BucketOf(4096), 3072u);
}

TEST(HistogramTest, OneHourHasABucketOfItsOwnRange) {
  const uint32_t bucket = Histogram::BucketOf(Histogram::kMaxValueUs);
  ASSERT_LT(bucket, Histogram::kBuckets - 1);
  EXPECT_LE(Histogram::LowestOf(bucket), Histogram::kMaxValueUs);
  EXPECT_GE(Histogram::HighestOf(bucket), Histogram::kMaxValueUs);
}

TEST(HistogramTest, ValuesAboveTheRangeCountInTheLastBucketWithExactMaximum) {
  EXPECT_EQ(Histogram::BucketOf(UINT64_MAX), Histogram::kBuckets - 1);
  Histogram histogram;
  histogram.Record(uint64_t{1} << 40);
  histogram.Record(5);
  EXPECT_EQ(histogram.max_us(), uint64_t{1} << 40);
  EXPECT_EQ(histogram.ValueAtQuantile(1.0), uint64_t{1} << 40);
  EXPECT_EQ(histogram.ValueAtQuantile(0.5), 5u);
}

TEST(HistogramTest, EmptyHasNoPercentiles) {
  const Histogram histogram;
  EXPECT_TRUE(histogram.empty());
  EXPECT_EQ(histogram.ValueAtQuantile(0.99), 0u);
  EXPECT_EQ(histogram.ToPercentiles().count(), 0u);
  EXPECT_TRUE(Wire(histogram).empty());
}

TEST(HistogramTest, PercentilesOfAHundredValues) {
  Histogram histogram;
  for (uint64_t value = 1; value <= 100; ++value) histogram.Record(value);
  const v1::Percentiles percentiles = histogram.ToPercentiles();
  EXPECT_EQ(percentiles.count(), 100u);
  EXPECT_EQ(percentiles.min_us(), 1u);
  EXPECT_DOUBLE_EQ(percentiles.mean_us(), 50.5);
  EXPECT_EQ(percentiles.p50_us(), 50u);
  EXPECT_EQ(percentiles.p90_us(), 90u);
  EXPECT_EQ(percentiles.p95_us(), 95u);
  EXPECT_EQ(percentiles.p99_us(), 99u);
  EXPECT_EQ(percentiles.p999_us(), 100u);
  EXPECT_EQ(percentiles.max_us(), 100u);
}

TEST(HistogramTest, QuantileIsNeverAboveTheMaximum) {
  Histogram histogram;
  histogram.Record(1'000'000);  // its bucket reaches above it
  EXPECT_EQ(histogram.ValueAtQuantile(0.5), 1'000'000u);
  EXPECT_EQ(histogram.ValueAtQuantile(-1), 1'000'000u);
  EXPECT_EQ(histogram.ValueAtQuantile(2), 1'000'000u);
}

TEST(HistogramTest, RecordingWithACountIsRecordingThatOften) {
  Histogram once;
  once.Record(77, 3);
  once.Record(88, 0);
  Histogram thrice;
  for (int i = 0; i < 3; ++i) thrice.Record(77);
  EXPECT_EQ(Wire(once), Wire(thrice));
}

TEST(HistogramTest, TotalsSaturateInsteadOfWrapping) {
  Histogram histogram;
  histogram.Record(UINT64_MAX, UINT64_MAX);
  histogram.Record(UINT64_MAX, 2);
  EXPECT_EQ(histogram.count(), UINT64_MAX);
  EXPECT_EQ(histogram.sum_us(), UINT64_MAX);
  EXPECT_EQ(histogram.ValueAtQuantile(1.0), UINT64_MAX);
}

TEST(HistogramTest, ResetForgetsAndCopiesAreIndependent) {
  Histogram histogram;
  histogram.Record(10);
  histogram.Record(5'000'000);
  Histogram copy = histogram;
  histogram.Reset();
  EXPECT_TRUE(Wire(histogram).empty());
  EXPECT_EQ(copy.count(), 2u);
  histogram.Record(10);
  histogram.Record(5'000'000);
  EXPECT_EQ(Wire(histogram), Wire(copy));
  copy = histogram;
  EXPECT_EQ(Wire(histogram), Wire(copy));
}

// Each row breaks one rule of a wire histogram of the values 3 and 7.
TEST(HistogramTest, MalformedWireIsRefusedAndChangesNothing) {
  struct Row {
    const char* what;
    void (*spoil)(v1::Histogram*);
  };
  const Row rows[] = {
      {"lists of different length", [](v1::Histogram* wire) { wire->add_counts(1); }},
      {"index out of range",
       [](v1::Histogram* wire) {
         wire->add_index_deltas(UINT32_MAX);
         wire->add_counts(1);
       }},
      {"index repeated",
       [](v1::Histogram* wire) {
         wire->add_index_deltas(0);
         wire->add_counts(1);
       }},
      {"count of zero", [](v1::Histogram* wire) { wire->set_counts(0, 0); }},
      {"total too large", [](v1::Histogram* wire) { wire->set_counts(0, UINT64_MAX); }},
      {"minimum elsewhere", [](v1::Histogram* wire) { wire->set_min_us(4); }},
      {"maximum elsewhere", [](v1::Histogram* wire) { wire->set_max_us(1'000'000); }},
  };
  for (const Row& row : rows) {
    Histogram source;
    source.Record(3);
    source.Record(7);
    v1::Histogram wire;
    source.ToProto(&wire);
    row.spoil(&wire);
    Histogram histogram;
    histogram.Record(50);
    const std::string before = Wire(histogram);
    EXPECT_FALSE(histogram.Merge(wire)) << row.what;
    EXPECT_EQ(Wire(histogram), before) << row.what;
  }
}

}  // namespace
}  // namespace loadstar::metrics
