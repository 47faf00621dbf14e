// A run's thresholds judged against its figures.
#pragma once

#include <optional>
#include <string>

#include "loadstar/v1/run.pb.h"

namespace loadstar::server {

// The figure that a threshold's metric names (lib/spec lists them), in its base unit; nothing when it was not measured.
// `run` has its totals, percentiles and peak; `load_s` is how long the load was on.
std::optional<double> Measure(const std::string& metric, const v1::Run& run, double load_s);

// Fills in run->thresholds from run->test.
void JudgeThresholds(double load_s, v1::Run* run);

// "latency.p99 < 50ms did not hold: measured 61.2 ms".
std::string Describe(const v1::ThresholdResult& result);

}  // namespace loadstar::server
