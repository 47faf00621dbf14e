// Whatever bytes claim to be a histogram: it is refused without a trace, or it merges and goes round the wire
// unchanged.
#include <cstdlib>
#include <string>

#include "lib/metrics/histogram.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  loadstar::v1::Histogram wire;
  if (!wire.ParseFromArray(data, static_cast<int>(size))) return 0;
  loadstar::metrics::Histogram histogram;
  histogram.Record(1);
  if (!histogram.Merge(wire)) {
    if (histogram.count() != 1 || histogram.max_us() != 1) std::abort();
    return 0;
  }
  loadstar::metrics::Histogram alone;
  if (!alone.Merge(wire)) std::abort();
  loadstar::v1::Histogram again;
  alone.ToProto(&again);
  loadstar::metrics::Histogram twice;
  if (!twice.Merge(again)) std::abort();
  loadstar::v1::Histogram third;
  twice.ToProto(&third);
  if (third.SerializeAsString() != again.SerializeAsString()) std::abort();
  for (const double quantile : {0.0, 0.5, 0.99, 1.0}) {
    const uint64_t value = alone.ValueAtQuantile(quantile);
    if (!alone.empty() && (value < alone.min_us() || value > alone.max_us())) std::abort();
  }
  return 0;
}
