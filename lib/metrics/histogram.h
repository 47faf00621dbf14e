// lib/metrics: what is measured, how it merges, and how percentiles are read. No I/O, no clock, no gRPC; nothing here
// is shared between threads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "loadstar/v1/metrics.pb.h"

namespace loadstar::metrics {

// A log-linear histogram of microseconds with three significant digits from 1 us to 1 h, laid out as HdrHistogram's
// (Gil Tene; subBucketCount 2,048, unit magnitude 0): values below 2,048 have a bucket each, above that each power of
// two is divided into 1,024 equal buckets. Page p >= 2 covers [2^(p+9), 2^(p+10)), so 23 pages reach to 2^32 - 1 us
// (71 min). A value above that counts in the last bucket; min, max and sum are exact (counts and sum saturate at
// 2^64 - 1). Pages of 1,024 buckets are allocated when first touched, so a histogram of short latencies costs a few
// KiB. Merging is associative and commutative, and a merge of parts equals the histogram of all observations, bit for
// bit.
class Histogram {
 public:
  static constexpr uint64_t kMaxValueUs = 3'600'000'000;
  static constexpr uint32_t kPageBuckets = 1024;
  static constexpr uint32_t kPages = 23;  // 2 pages of unit buckets, then one for each doubling up to 2^32
  static constexpr uint32_t kBuckets = kPages * kPageBuckets;
  static_assert((uint64_t{1} << (kPages + 9)) > kMaxValueUs, "the pages must reach the largest value");

  Histogram() = default;
  Histogram(Histogram&&) = default;
  Histogram& operator=(Histogram&&) = default;
  Histogram(const Histogram&);
  Histogram& operator=(const Histogram&);

  // Counts `count` observations of `value_us`. Zero counts as the bucket of 0.
  void Record(uint64_t value_us, uint64_t count = 1);
  void Merge(const Histogram& other);
  // True when a histogram from the wire can be merged. Malformed are: lists of different length, an index out of range
  // or repeated, a count of zero, counts whose total does not fit 64 bits, a min or max that is not in the first or
  // last non-empty bucket.
  static bool IsValid(const v1::Histogram& wire);
  // Adds a histogram from the wire. False (and no change) when it is malformed.
  [[nodiscard]] bool Merge(const v1::Histogram& wire);
  // Forgets every observation; keeps the pages.
  void Reset();

  uint64_t count() const { return count_; }
  bool empty() const { return count_ == 0; }
  uint64_t min_us() const { return min_us_; }  // meaningless when empty
  uint64_t max_us() const { return max_us_; }
  uint64_t sum_us() const { return sum_us_; }

  // The largest value that is equivalent (same bucket) to the one at rank max(1, ceil(quantile * count)), but never
  // above max_us; max_us for the last bucket. A quantile outside [0, 1] is clamped. 0 when empty.
  uint64_t ValueAtQuantile(double quantile) const;

  void ToProto(v1::Histogram* wire) const;  // overwrites
  // Absent percentiles are told by count 0.
  v1::Percentiles ToPercentiles() const;

  // The bucket in which a value counts; LowestOf and HighestOf are its bounds, inclusive (the last bucket has no upper
  // bound: UINT64_MAX). `bucket` must be below kBuckets.
  static uint32_t BucketOf(uint64_t value_us);
  static uint64_t LowestOf(uint32_t bucket);
  static uint64_t HighestOf(uint32_t bucket);

 private:
  using Page = std::array<uint64_t, kPageBuckets>;

  uint64_t& CellOf(uint32_t bucket);
  void AddTotals(uint64_t count, uint64_t min_us, uint64_t max_us, uint64_t sum_us);

  std::array<std::unique_ptr<Page>, kPages> pages_;
  uint64_t count_ = 0;
  uint64_t min_us_ = UINT64_MAX;
  uint64_t max_us_ = 0;
  uint64_t sum_us_ = 0;
};

}  // namespace loadstar::metrics
