// What is measured beside the load, merged over time.
#pragma once

#include "loadstar/v1/metrics.pb.h"

namespace loadstar::metrics {

// A later interval of the same host: counters, times and seconds add up, of a gauge the worst is kept. What one of the
// two lacks is the other's. The agent's name is left alone.
void AddLater(const v1::HostFigures& from, v1::HostFigures* to);

// A later interval of the same worker: what was spent adds up, memory is the later one's.
void AddLater(const v1::WorkerUsage& from, v1::WorkerUsage* to);

}  // namespace loadstar::metrics
