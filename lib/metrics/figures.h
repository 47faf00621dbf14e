#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "lib/metrics/histogram.h"
#include "loadstar/v1/metrics.pb.h"

namespace loadstar::metrics {

using ErrorKey = std::tuple<v1::ErrorPhase, v1::ErrorKind, std::string>;  // phase, kind, detail

// Adds counters field by field.
void AddCounters(const v1::Counters& from, v1::Counters* to);
// Adds gauges field by field (over sources, never over time).
void AddGauges(const v1::Gauges& from, v1::Gauges* to);

// Bounds a message's figures by endpoint to kMaxEndpointBytes: when they take more, their latency histograms are left
// out, all of them, and true is returned. What is left fits: a spec allows 1,024 endpoints, and one without a histogram
// takes less than 400 bytes. Without the bound a message of 1,024 full histograms (each up to 23,552 buckets) would
// reach 100 MB and more, and a stream takes 16 MiB.
inline constexpr size_t kMaxEndpointBytes = size_t{4} << 20;
bool BoundEndpoints(google::protobuf::RepeatedPtrField<v1::EndpointFigures>* endpoints);

// An accumulator of LoadFigures from any number of sources and seconds. Histograms and counters add up. Gauges of one
// second add up over sources; over seconds the last second's stand: `AddSource` and `AddLater` say which is meant.
// Bounded: of the kinds of errors kMaxErrors are kept apart; a further one counts under its phase and kind with the
// detail "(others)" (details are what a target answers, so their number is not ours).
class FiguresMerger {
 public:
  static constexpr size_t kMaxErrors = 2048;

  // Another source of the same interval. False (nothing changed) when a histogram of it is malformed.
  [[nodiscard]] bool AddSource(const v1::LoadFigures& figures);
  [[nodiscard]] bool AddSource(const v1::EndpointFigures& figures);
  // A later interval: as AddSource, but its gauges replace those so far.
  [[nodiscard]] bool AddLater(const v1::LoadFigures& figures);
  [[nodiscard]] bool AddLater(const v1::EndpointFigures& figures);

  void ToProto(v1::LoadFigures* out) const;
  void ToProto(v1::EndpointFigures* out) const;  // counters, gauges, latency; names are left alone

  const Histogram& latency() const { return latency_; }
  const Histogram& service_time() const { return service_time_; }
  const Histogram& schedule_lag() const { return schedule_lag_; }
  const Histogram& connect_time() const { return connect_time_; }
  const Histogram& handshake_time() const { return handshake_time_; }
  const v1::Counters& counters() const { return counters_; }
  const v1::Gauges& gauges() const { return gauges_; }

 private:
  v1::Counters counters_;
  v1::Gauges gauges_;
  std::map<ErrorKey, uint64_t> errors_;
  Histogram latency_, service_time_, schedule_lag_, connect_time_, handshake_time_;
};

}  // namespace loadstar::metrics
