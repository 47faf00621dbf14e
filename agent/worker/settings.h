#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/worker/pacer.h"
#include "lib/net/loop.h"
#include "loadstar/v1/worker.pb.h"

namespace loadstar::worker {

// What decides when a request is sent.
enum class Pace {
  kNone,           // connections are only held
  kTotal,          // open model, one schedule for the run
  kPerConnection,  // open model, a schedule for each connection
  kClosed,         // after the answer and the think time
};

// Requests in flight on one connection.
inline constexpr uint32_t kMaxPipeline = 1024;

// A WorkerPlan with its defaults filled in, checked, and in the units that the load engine works with. Constant.
struct Settings {
  v1::WorkerPlan plan;
  std::vector<net::Address> endpoints;  // as plan.endpoints
  std::vector<net::Address> sources;    // may be empty
  uint32_t connections_max = 0;
  int64_t connect_timeout_ns = 0;
  bool reconnect = false;
  int64_t initial_backoff_ns = 0;
  int64_t max_backoff_ns = 0;
  int64_t heartbeat_every_ns = 0;  // 0: there are none
  int64_t heartbeat_timeout_ns = 0;
  std::optional<net::Keepalive> keepalive;
  Pace pace = Pace::kNone;
  double rate_per_s = 0;
  Spacing spacing;
  bool skip_late = false;
  int64_t think_ns = 0;
  int64_t request_timeout_ns = 0;
  uint32_t pipeline = 1;

  // An error says which field is wrong and what it may be; the agent passes it on as WorkerReady.error.
  static absl::StatusOr<Settings> From(const v1::WorkerPlan& plan);
};

}  // namespace loadstar::worker
