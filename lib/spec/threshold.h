#pragma once

#include <string>
#include <string_view>

#include "lib/spec/flaw.h"
#include "lib/spec/report.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::spec {

// Reads "metric OP value".
MaybeFlaw ReadThreshold(std::string_view text, v1::ThresholdSpec* out);

// "latency.p99 < 50ms", from the fields.
std::string FormatThreshold(const v1::ThresholdSpec& threshold);

// Checks the thresholds of a test whose target and load have been completed: known metrics, sensible bounds, and that
// the test can measure and meet them at all. Fills in their texts.
void CompleteThresholds(v1::TestSpec* test, Report* report);

}  // namespace loadstar::spec
