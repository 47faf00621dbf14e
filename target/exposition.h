#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "target/options.h"
#include "target/process_usage.h"
#include "target/shared_state.h"

namespace loadstar::target {

// What is on GET /metrics, in Prometheus' text format: every metric by process ("0".."N-1") and as process="total". CPU
// and memory count the supervising parent as process="parent", the total includes it. `clock_s`: CLOCK_MONOTONIC when
// what was spent is read.
std::string RenderMetrics(const Options& options, const SharedState& state, double clock_s, const ProcessUsage& parent,
                          const std::function<ProcessUsage(uint32_t)>& usage);

}  // namespace loadstar::target
