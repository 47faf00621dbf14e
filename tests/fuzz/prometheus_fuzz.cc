// Any bytes that a node may answer to GET /metrics.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/observer/prometheus.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  loadstar::v1::NodeFigures figures;
  loadstar::agent::ReadPrometheus({reinterpret_cast<const char*>(data), size}, &figures);
  if (figures.has_cpu_seconds_total() && !(figures.cpu_seconds_total() >= 0)) abort();
  return 0;
}
