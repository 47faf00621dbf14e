#include "agent/worker/settings.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "agent/worker/in_flight.h"

namespace loadstar::worker {
namespace {

constexpr uint64_t kMaxConnections = 10'000'000;
constexpr int kMaxEndpoints = 4096;
constexpr int kMaxSources = 4096;
constexpr uint32_t kMaxBurst = 1'000'000;
constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr int64_t kMaxSeconds = int64_t{366} * 24 * 3600;
constexpr int64_t kMaxKeepaliveSeconds = 32'767;
constexpr uint32_t kMaxKeepaliveProbes = 127;

static_assert(kMaxPipeline + 1 <= InFlightTable::kMaxPlaces, "a heartbeat has a place beside those of requests");

absl::Status Wrong(absl::string_view field, absl::string_view found, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat("worker plan: ", field, " is ", found, "; it must be ", expected));
}

absl::StatusOr<int64_t> Nanoseconds(absl::string_view field, bool present, const google::protobuf::Duration& duration,
                                    int64_t otherwise) {
  if (!present) return otherwise;
  if (duration.seconds() < 0 || duration.nanos() < 0 || duration.nanos() >= kNsPerSecond ||
      duration.seconds() > kMaxSeconds) {
    return Wrong(field, absl::StrCat(duration.seconds(), " s ", duration.nanos(), " ns"), "between 0 and a year");
  }
  return duration.seconds() * kNsPerSecond + duration.nanos();
}

absl::Status ReadConnections(const v1::LoadSpec& load, Settings* settings) {
  auto connect_timeout =
      Nanoseconds("load.connect_timeout", load.has_connect_timeout(), load.connect_timeout(), 10 * kNsPerSecond);
  if (!connect_timeout.ok()) return connect_timeout.status();
  const v1::ReconnectSpec& reconnect = load.reconnect();
  auto initial = Nanoseconds("load.reconnect.initial_backoff", reconnect.has_initial_backoff(),
                             reconnect.initial_backoff(), kNsPerSecond / 10);
  if (!initial.ok()) return initial.status();
  auto max = Nanoseconds("load.reconnect.max_backoff", reconnect.has_max_backoff(), reconnect.max_backoff(),
                         10 * kNsPerSecond);
  if (!max.ok()) return max.status();
  settings->connect_timeout_ns = *connect_timeout > 0 ? *connect_timeout : 10 * kNsPerSecond;
  settings->reconnect = reconnect.enabled();
  settings->initial_backoff_ns = *initial;
  settings->max_backoff_ns = *max;
  return absl::OkStatus();
}

absl::Status ReadHeartbeat(const v1::LoadSpec& load, Settings* settings) {
  if (!load.has_heartbeat()) return absl::OkStatus();
  auto every = Nanoseconds("load.heartbeat.every", true, load.heartbeat().every(), 0);
  if (!every.ok()) return every.status();
  if (*every == 0) return Wrong("load.heartbeat.every", "0", "above 0");
  auto timeout = Nanoseconds("load.heartbeat.timeout", load.heartbeat().has_timeout(), load.heartbeat().timeout(),
                             10 * kNsPerSecond);
  if (!timeout.ok()) return timeout.status();
  if (*timeout == 0) return Wrong("load.heartbeat.timeout", "0", "above 0");
  settings->heartbeat_every_ns = *every;
  settings->heartbeat_timeout_ns = *timeout;
  return absl::OkStatus();
}

absl::Status ReadKeepalive(const v1::LoadSpec& load, Settings* settings) {
  if (!load.has_keepalive()) return absl::OkStatus();
  const v1::KeepaliveSpec& keepalive = load.keepalive();
  const int64_t idle_s = keepalive.idle().seconds();
  const int64_t interval_s = keepalive.has_interval() ? keepalive.interval().seconds() : 10;
  const uint32_t probes = keepalive.probes() > 0 ? keepalive.probes() : 3;
  for (const auto& [field, seconds] :
       {std::pair("load.keepalive.idle", idle_s), std::pair("load.keepalive.interval", interval_s)}) {
    if (seconds < 1 || seconds > kMaxKeepaliveSeconds) {
      return Wrong(field, absl::StrCat(seconds, " s"), absl::StrCat("1 s to ", kMaxKeepaliveSeconds, " s"));
    }
  }
  if (probes > kMaxKeepaliveProbes) {
    return Wrong("load.keepalive.probes", absl::StrCat(probes), absl::StrCat("1 to ", kMaxKeepaliveProbes));
  }
  settings->keepalive =
      net::Keepalive{static_cast<int>(idle_s), static_cast<int>(interval_s), static_cast<int>(probes)};
  return absl::OkStatus();
}

absl::Status ReadRequests(const v1::LoadSpec& load, Settings* settings) {
  settings->request_timeout_ns = 30 * kNsPerSecond;
  if (!load.has_requests()) return absl::OkStatus();
  const v1::RequestsSpec& requests = load.requests();
  auto timeout = Nanoseconds("load.requests.timeout", requests.has_timeout(), requests.timeout(), 30 * kNsPerSecond);
  if (!timeout.ok()) return timeout.status();
  if (*timeout > 0) settings->request_timeout_ns = *timeout;
  auto think = Nanoseconds("load.requests.think", requests.has_think(), requests.think(), 0);
  if (!think.ok()) return think.status();
  settings->think_ns = *think;
  if (requests.pipeline() > kMaxPipeline) {
    return Wrong("load.requests.pipeline", absl::StrCat(requests.pipeline()), absl::StrCat("1 to ", kMaxPipeline));
  }
  settings->pipeline = requests.pipeline() == 0 ? 1 : requests.pipeline();
  settings->spacing.poisson = requests.arrival() == v1::ARRIVAL_POISSON;
  if (requests.arrival() == v1::ARRIVAL_BURST) {
    if (requests.burst_requests() < 1 || requests.burst_requests() > kMaxBurst) {
      return Wrong("load.requests.burst_requests", absl::StrCat(requests.burst_requests()),
                   absl::StrCat("1 to ", kMaxBurst));
    }
    settings->spacing.burst = requests.burst_requests();
  }
  settings->skip_late = requests.late_requests() == v1::LATE_REQUESTS_SKIP;
  if (requests.model() == v1::REQUEST_MODEL_CLOSED) {
    settings->pace = Pace::kClosed;
    return absl::OkStatus();
  }
  if (requests.model() != v1::REQUEST_MODEL_OPEN) {
    return Wrong("load.requests.model", v1::RequestModel_Name(requests.model()), "open or closed");
  }
  settings->rate_per_s = requests.rate_per_s();
  if (!std::isfinite(settings->rate_per_s) || settings->rate_per_s < 0 || settings->rate_per_s > 1e9) {
    return Wrong("load.requests.rate_per_s", absl::StrCat(settings->rate_per_s), "between 0 and 1e9");
  }
  if (requests.rate_scope() == v1::RATE_SCOPE_TOTAL) {
    settings->pace = Pace::kTotal;
  } else if (requests.rate_scope() == v1::RATE_SCOPE_PER_CONNECTION) {
    settings->pace = Pace::kPerConnection;
  } else {
    return Wrong("load.requests.rate_scope", v1::RateScope_Name(requests.rate_scope()), "total or per connection");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Settings> Settings::From(const v1::WorkerPlan& plan) {
  Settings settings;
  settings.plan = plan;
  if (plan.worker_count() == 0 || plan.worker_index() >= plan.worker_count()) {
    return Wrong("worker_index", absl::StrCat(plan.worker_index(), " of ", plan.worker_count()),
                 "below worker_count, which is at least 1");
  }
  if (plan.connections_max() > kMaxConnections) {
    return Wrong("connections_max", absl::StrCat(plan.connections_max()), absl::StrCat("at most ", kMaxConnections));
  }
  settings.connections_max = static_cast<uint32_t>(plan.connections_max());
  if (plan.endpoints().empty() || plan.endpoints_size() > kMaxEndpoints) {
    return Wrong("endpoints", absl::StrCat("a list of ", plan.endpoints_size()), absl::StrCat("1 to ", kMaxEndpoints));
  }
  if (plan.load().source_addresses_size() > kMaxSources) {
    return Wrong("load.source_addresses", absl::StrCat("a list of ", plan.load().source_addresses_size()),
                 absl::StrCat("at most ", kMaxSources));
  }
  for (const std::string& text : plan.endpoints()) {
    auto address = net::ParseAddress(text);
    if (!address.ok()) return Wrong("endpoints", absl::StrCat("\"", text, "\""), "numeric HOST:PORT or [V6]:PORT");
    settings.endpoints.push_back(*address);
  }
  for (const std::string& text : plan.load().source_addresses()) {
    auto address = net::ParseHost(text);
    if (!address.ok()) return Wrong("load.source_addresses", absl::StrCat("\"", text, "\""), "a numeric address");
    settings.sources.push_back(*address);
  }
  if (absl::Status status = ReadConnections(plan.load(), &settings); !status.ok()) return status;
  if (absl::Status status = ReadHeartbeat(plan.load(), &settings); !status.ok()) return status;
  if (absl::Status status = ReadKeepalive(plan.load(), &settings); !status.ok()) return status;
  if (absl::Status status = ReadRequests(plan.load(), &settings); !status.ok()) return status;
  return settings;
}

}  // namespace loadstar::worker
