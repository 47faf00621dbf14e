#include "lib/metrics/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace loadstar::metrics {
namespace {

// Saturation keeps addition associative and commutative, which wrapping to small numbers would keep too, but a total
// that became small again would be read as true.
uint64_t SaturatingAdd(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

uint64_t SaturatingMultiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

}  // namespace

Histogram::Histogram(const Histogram& other)
    : count_(other.count_), min_us_(other.min_us_), max_us_(other.max_us_), sum_us_(other.sum_us_) {
  for (uint32_t i = 0; i < kPages; ++i) {
    if (other.pages_[i] != nullptr) pages_[i] = std::make_unique<Page>(*other.pages_[i]);
  }
}

Histogram& Histogram::operator=(const Histogram& other) {
  if (this != &other) *this = Histogram(other);
  return *this;
}

uint32_t Histogram::BucketOf(uint64_t value_us) {
  constexpr uint32_t kUnitBuckets = 2 * kPageBuckets;
  if (value_us < kUnitBuckets) return static_cast<uint32_t>(value_us);
  const auto width = static_cast<uint32_t>(std::bit_width(value_us));  // >= 12
  if (width > kPages + 9) return kBuckets - 1;
  const uint32_t shift = width - 11;
  // The top eleven bits of the value are 1,024..2,047: their low ten choose the bucket within the page.
  return (shift + 1) * kPageBuckets + (static_cast<uint32_t>(value_us >> shift) - kPageBuckets);
}

uint64_t Histogram::LowestOf(uint32_t bucket) {
  const uint32_t page = bucket / kPageBuckets;
  if (page < 2) return bucket;
  return static_cast<uint64_t>(kPageBuckets + bucket % kPageBuckets) << (page - 1);
}

uint64_t Histogram::HighestOf(uint32_t bucket) {
  if (bucket == kBuckets - 1) return UINT64_MAX;
  return LowestOf(bucket + 1) - 1;
}

uint64_t& Histogram::CellOf(uint32_t bucket) {
  std::unique_ptr<Page>& page = pages_[bucket / kPageBuckets];
  if (page == nullptr) page = std::make_unique<Page>();
  return (*page)[bucket % kPageBuckets];
}

void Histogram::AddTotals(uint64_t count, uint64_t min_us, uint64_t max_us, uint64_t sum_us) {
  count_ = SaturatingAdd(count_, count);
  min_us_ = std::min(min_us_, min_us);
  max_us_ = std::max(max_us_, max_us);
  sum_us_ = SaturatingAdd(sum_us_, sum_us);
}

void Histogram::Record(uint64_t value_us, uint64_t count) {
  if (count == 0) return;
  uint64_t& cell = CellOf(BucketOf(value_us));
  cell = SaturatingAdd(cell, count);
  AddTotals(count, value_us, value_us, SaturatingMultiply(value_us, count));
}

void Histogram::Merge(const Histogram& other) {
  if (other.empty()) return;
  for (uint32_t i = 0; i < kPages; ++i) {
    if (other.pages_[i] == nullptr) continue;
    if (pages_[i] == nullptr) {
      pages_[i] = std::make_unique<Page>(*other.pages_[i]);
      continue;
    }
    std::transform(pages_[i]->begin(), pages_[i]->end(), other.pages_[i]->begin(), pages_[i]->begin(), SaturatingAdd);
  }
  AddTotals(other.count_, other.min_us_, other.max_us_, other.sum_us_);
}

bool Histogram::IsValid(const v1::Histogram& wire) {
  if (wire.index_deltas_size() != wire.counts_size()) return false;
  if (wire.counts_size() == 0) return true;
  uint64_t index = 0;
  uint64_t total = 0;
  for (int i = 0; i < wire.counts_size(); ++i) {
    if (i > 0 && wire.index_deltas(i) == 0) return false;
    index += wire.index_deltas(i);  // at most 23,552 + 2^32: no overflow before the check
    if (index >= kBuckets || wire.counts(i) == 0) return false;
    if (__builtin_add_overflow(total, wire.counts(i), &total)) return false;
  }
  return BucketOf(wire.min_us()) == wire.index_deltas(0) && BucketOf(wire.max_us()) == index &&
         wire.min_us() <= wire.max_us();
}

bool Histogram::Merge(const v1::Histogram& wire) {
  if (!IsValid(wire)) return false;
  if (wire.counts_size() == 0) return true;
  uint32_t index = 0;
  uint64_t total = 0;
  for (int i = 0; i < wire.counts_size(); ++i) {
    index += wire.index_deltas(i);
    uint64_t& cell = CellOf(index);
    cell = SaturatingAdd(cell, wire.counts(i));
    total += wire.counts(i);
  }
  AddTotals(total, wire.min_us(), wire.max_us(), wire.sum_us());
  return true;
}

void Histogram::Reset() {
  if (empty()) return;
  for (const std::unique_ptr<Page>& page : pages_) {
    if (page != nullptr) page->fill(0);
  }
  count_ = 0;
  min_us_ = UINT64_MAX;
  max_us_ = 0;
  sum_us_ = 0;
}

uint64_t Histogram::ValueAtQuantile(double quantile) const {
  if (empty()) return 0;
  const double wanted = std::ceil(std::clamp(quantile, 0.0, 1.0) * static_cast<double>(count_));
  // A double does not hold every count above 2^53: never ask for more than there is.
  const uint64_t rank =
      wanted >= static_cast<double>(count_) ? count_ : std::max<uint64_t>(1, static_cast<uint64_t>(wanted));
  uint64_t seen = 0;
  for (uint32_t page = 0; page < kPages; ++page) {
    if (pages_[page] == nullptr) continue;
    for (uint32_t i = 0; i < kPageBuckets; ++i) {
      seen = SaturatingAdd(seen, (*pages_[page])[i]);
      if (seen >= rank) return std::min(HighestOf(page * kPageBuckets + i), max_us_);
    }
  }
  return max_us_;
}

void Histogram::ToProto(v1::Histogram* wire) const {
  wire->Clear();
  if (empty()) return;
  uint32_t last = 0;
  for (uint32_t page = 0; page < kPages; ++page) {
    if (pages_[page] == nullptr) continue;
    for (uint32_t i = 0; i < kPageBuckets; ++i) {
      const uint64_t count = (*pages_[page])[i];
      if (count == 0) continue;
      const uint32_t bucket = page * kPageBuckets + i;
      wire->add_index_deltas(bucket - last);
      wire->add_counts(count);
      last = bucket;
    }
  }
  wire->set_min_us(min_us_);
  wire->set_max_us(max_us_);
  wire->set_sum_us(sum_us_);
}

v1::Percentiles Histogram::ToPercentiles() const {
  v1::Percentiles result;
  if (empty()) return result;
  result.set_count(count_);
  result.set_min_us(min_us_);
  result.set_mean_us(static_cast<double>(sum_us_) / static_cast<double>(count_));
  result.set_p50_us(ValueAtQuantile(0.50));
  result.set_p90_us(ValueAtQuantile(0.90));
  result.set_p95_us(ValueAtQuantile(0.95));
  result.set_p99_us(ValueAtQuantile(0.99));
  result.set_p999_us(ValueAtQuantile(0.999));
  result.set_max_us(max_us_);
  return result;
}

}  // namespace loadstar::metrics
