// The laws of the histogram on random observations. A failure prints the seed; RC_PARAMS="seed=..." repeats it.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "lib/metrics/histogram.h"

namespace loadstar::metrics {
namespace {

// Values of every magnitude up to beyond the range: uniform values would nearly all fall on the last two pages.
rc::Gen<uint64_t> AnyValue() {
  return rc::gen::map(rc::gen::pair(rc::gen::inRange<int>(0, 36), rc::gen::arbitrary<uint64_t>()),
                      [](const std::pair<int, uint64_t>& p) { return p.second & ((uint64_t{1} << p.first) - 1); });
}

rc::Gen<std::vector<uint64_t>> Values() { return rc::gen::container<std::vector<uint64_t>>(AnyValue()); }

Histogram Of(const std::vector<uint64_t>& values) {
  Histogram histogram;
  for (const uint64_t value : values) histogram.Record(value);
  return histogram;
}

std::string Wire(const Histogram& histogram) {
  v1::Histogram wire;
  histogram.ToProto(&wire);
  return wire.SerializeAsString();
}

RC_GTEST_PROP(HistogramProperty, MergeIsCommutative, ()) {
  const Histogram a = Of(*Values());
  const Histogram b = Of(*Values());
  Histogram ab = a;
  ab.Merge(b);
  Histogram ba = b;
  ba.Merge(a);
  RC_ASSERT(Wire(ab) == Wire(ba));
}

RC_GTEST_PROP(HistogramProperty, MergeIsAssociative, ()) {
  const Histogram a = Of(*Values());
  const Histogram b = Of(*Values());
  const Histogram c = Of(*Values());
  Histogram left = a;
  left.Merge(b);
  left.Merge(c);
  Histogram right = b;
  right.Merge(c);
  Histogram whole = a;
  whole.Merge(right);
  RC_ASSERT(Wire(left) == Wire(whole));
}

RC_GTEST_PROP(HistogramProperty, MergeOfPartsIsTheHistogramOfAllBitForBit, ()) {
  const std::vector<uint64_t> values = *Values();
  const auto parts = *rc::gen::inRange<size_t>(1, 8);
  std::vector<Histogram> split(parts);
  for (const uint64_t value : values) split[*rc::gen::inRange<size_t>(0, parts)].Record(value);
  Histogram in_memory;
  Histogram over_the_wire;
  for (const Histogram& part : split) {
    in_memory.Merge(part);
    v1::Histogram wire;
    part.ToProto(&wire);
    RC_ASSERT(over_the_wire.Merge(wire));
  }
  RC_ASSERT(Wire(in_memory) == Wire(Of(values)));
  RC_ASSERT(Wire(over_the_wire) == Wire(Of(values)));
}

RC_GTEST_PROP(HistogramProperty, WireRoundTripKeepsEverything, ()) {
  const Histogram histogram = Of(*Values());
  v1::Histogram wire;
  histogram.ToProto(&wire);
  v1::Histogram parsed;
  RC_ASSERT(parsed.ParseFromString(wire.SerializeAsString()));
  Histogram back;
  RC_ASSERT(back.Merge(parsed));
  RC_ASSERT(Wire(back) == Wire(histogram));
  RC_ASSERT(back.count() == histogram.count());
}

RC_GTEST_PROP(HistogramProperty, QuantileIsTheSortedListsToThreeDigits, ()) {
  std::vector<uint64_t> values = *rc::gen::nonEmpty(Values());
  const double quantile = static_cast<double>(*rc::gen::inRange<int>(0, 10001)) / 10000.0;
  const Histogram histogram = Of(values);
  std::sort(values.begin(), values.end());
  const double wanted = std::ceil(quantile * static_cast<double>(values.size()));
  const size_t rank = std::max<size_t>(1, static_cast<size_t>(wanted));
  const uint64_t exact = values[rank - 1];
  const uint64_t read = histogram.ValueAtQuantile(quantile);
  RC_ASSERT(read >= exact);
  if (exact < (uint64_t{1} << 32)) RC_ASSERT(static_cast<double>(read - exact) <= static_cast<double>(exact) / 1000.0);
}

RC_GTEST_PROP(HistogramProperty, ValueLiesWithinItsBucket, ()) {
  const uint64_t value = *AnyValue();
  const uint32_t bucket = Histogram::BucketOf(value);
  RC_ASSERT(bucket < Histogram::kBuckets);
  RC_ASSERT(Histogram::LowestOf(bucket) <= value);
  RC_ASSERT(value <= Histogram::HighestOf(bucket));
}

}  // namespace
}  // namespace loadstar::metrics
