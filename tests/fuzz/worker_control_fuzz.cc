// Whatever arrives on a worker's control channel: it is refused or it is a message, and a plan that is accepted makes
// settings within their bounds.
#include <cstdlib>

#include "agent/worker/control.h"
#include "agent/worker/in_flight.h"
#include "agent/worker/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  loadstar::worker::FrameReader reader;
  const auto on_message = [](loadstar::v1::AgentToWorker&& message) {
    if (!message.has_plan()) return;
    const auto settings = loadstar::worker::Settings::From(message.plan());
    if (!settings.ok()) return;
    if (settings->endpoints.empty() || settings->pipeline < 1 || settings->pipeline > loadstar::worker::kMaxPipeline ||
        settings->connect_timeout_ns <= 0 || settings->request_timeout_ns <= 0 || settings->think_ns < 0 ||
        settings->rate_per_s < 0) {
      std::abort();
    }
  };
  const size_t half = size / 2;
  const absl::Status first = reader.Feed(std::as_bytes(std::span(data, half)), on_message);
  if (!first.ok()) return 0;
  (void)reader.Feed(std::as_bytes(std::span(data + half, size - half)), on_message);
  return 0;
}
