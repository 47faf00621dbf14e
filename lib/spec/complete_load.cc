#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "lib/spec/address.h"
#include "lib/spec/complete.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

constexpr int kMaxStages = 1000;
constexpr int kMaxAgents = 1024;
constexpr uint32_t kMaxWorkers = 4096;
constexpr uint32_t kMaxPipeline = 1024;
constexpr uint32_t kMaxBurst = 1'000'000;
constexpr DurationBounds kStage{absl::Nanoseconds(1), kMaxRunTime};
// Beyond an hour a latency no longer fits the histograms.
constexpr DurationBounds kTimeout{absl::Milliseconds(1), absl::Hours(1)};
constexpr DurationBounds kThink{absl::ZeroDuration(), absl::Hours(24)};
constexpr DurationBounds kHeartbeat{absl::Milliseconds(100), absl::Hours(1)};
// What the kernel takes (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT).
constexpr DurationBounds kKeepalive{absl::Seconds(1), absl::Seconds(32'767)};
constexpr uint32_t kMaxKeepaliveProbes = 127;
constexpr DurationBounds kBackoff{absl::Milliseconds(1), absl::Hours(1)};

void CompleteStage(v1::Stage* stage, const std::string& field, uint64_t before, Report* report) {
  const std::string duration_field = Join(field, stage->hold() ? "hold" : "ramp");
  if (!stage->has_duration() || FromProto(stage->duration()) == absl::ZeroDuration()) {
    report->Add(duration_field, "a stage needs time: its length is zero", "Write how long it lasts, such as 5m");
  } else {
    CheckDuration(duration_field, stage->duration(), kStage, report);
  }
  if (stage->to_connections() > kMaxConnections) {
    report->Add(Join(field, "to"), Cat(FormatCount(stage->to_connections()), " connections are absurd"),
                Cat("At most ", FormatCount(kMaxConnections), " are possible"));
  }
  if (!stage->hold()) return;
  if (stage->to_connections() == 0) stage->set_to_connections(before);
  if (stage->to_connections() != before) {
    report->Add(Join(field, "to"), "a hold keeps the connections that there were before it",
                "Make it a ramp or leave the number out");
  }
}

void CompleteConnections(v1::LoadSpec* load, Report* report) {
  constexpr std::string_view kField = "load.connections";
  if (load->connections_size() > kMaxStages) {
    return report->Add(kField,
                       Cat("there are ", load->connections_size(), " stages; at most ", kMaxStages, " are allowed"));
  }
  if (load->connections().empty() && !report->Spoilt(kField)) {
    return report->Add(kField, "the load profile is empty", "Write stages, such as [{ramp: 1m, to: 1k}, {hold: 1m}]");
  }
  uint64_t before = 0, peak = 0;
  absl::Duration length;
  for (int i = 0; i < load->connections_size(); ++i) {
    v1::Stage* stage = load->mutable_connections(i);
    CompleteStage(stage, Index(kField, static_cast<size_t>(i)), before, report);
    before = stage->to_connections();
    peak = std::max(peak, before);
    length += FromProto(stage->duration());
  }
  if (report->Spoilt(kField)) return;
  if (peak == 0) {
    report->Add(kField, "the load profile never has a connection", "Let a ramp go up, such as {ramp: 1m, to: 1k}");
  } else if (length > kMaxRunTime) {
    report->Add(kField, Cat("the load profile takes ", spec::FormatDuration(length)),
                Cat("At most ", spec::FormatDuration(kMaxRunTime), " is allowed"));
  }
}

uint64_t PeakOf(const v1::LoadSpec& load) {
  uint64_t peak = 0;
  for (const v1::Stage& stage : load.connections()) peak = std::max(peak, stage.to_connections());
  return peak;
}

void CheckBurst(const v1::RequestsSpec& requests, Report* report) {
  constexpr std::string_view kField = "load.requests.burst";
  if (report->Spoilt("load.requests.arrival") || report->Spoilt(kField)) return;
  if (requests.arrival() != v1::ARRIVAL_BURST) {
    if (requests.burst_requests() > 0) {
      report->Add(kField, "only arrivals in bursts have a size", "Write arrival: burst beside it or take it out");
    }
    return;
  }
  if (requests.burst_requests() == 0) {
    report->Add(kField, "arrivals in bursts need the size of a burst", "Write it such as burst: 100");
  } else if (requests.burst_requests() < 2 || requests.burst_requests() > kMaxBurst) {
    report->Add(kField, Cat("a burst of ", FormatCount(requests.burst_requests()), " is not possible"),
                Cat("Write 2 to ", FormatCount(kMaxBurst)));
  }
}

void CompleteOpen(v1::RequestsSpec* requests, uint64_t peak, Report* report) {
  constexpr std::string_view kRate = "load.requests.rate";
  if (requests->has_think()) {
    report->Add("load.requests.think", "the open model has no think time: requests are due by the rate",
                "Take it out or write model: closed");
  }
  if (requests->arrival() == v1::ARRIVAL_UNSPECIFIED) requests->set_arrival(v1::ARRIVAL_CONSTANT);
  if (!v1::Arrival_IsValid(requests->arrival()))
    report->Add("load.requests.arrival", "unknown arrival", "Use constant, poisson or burst");
  CheckBurst(*requests, report);
  if (requests->late_requests() == v1::LATE_REQUESTS_UNSPECIFIED) requests->set_late_requests(v1::LATE_REQUESTS_SEND);
  if (!v1::LateRequests_IsValid(requests->late_requests()))
    report->Add("load.requests.lateRequests", "unknown choice", "Use send or skip");
  if (report->Spoilt(kRate)) return;
  if (requests->rate_scope() != v1::RATE_SCOPE_PER_CONNECTION && requests->rate_scope() != v1::RATE_SCOPE_TOTAL) {
    return report->Add(kRate, "the open model needs a rate, per connection or total",
                       "Write it such as \"1/s per connection\" or \"100k/s total\"");
  }
  if (!std::isfinite(requests->rate_per_s()) || requests->rate_per_s() <= 0) {
    return report->Add(kRate, "the rate is no number above zero", "Leave requests out to only hold connections");
  }
  const bool per_connection = requests->rate_scope() == v1::RATE_SCOPE_PER_CONNECTION;
  if (per_connection && report->Spoilt("load.connections")) return;
  const double total = requests->rate_per_s() * (per_connection ? static_cast<double>(std::max<uint64_t>(peak, 1)) : 1);
  if (total > kMaxRequestsPerSecond) {
    report->Add(kRate, Cat(FormatRate(total), " in all is absurd"),
                Cat("At most ", FormatRate(kMaxRequestsPerSecond), " is possible"));
  }
}

void CompleteClosed(v1::RequestsSpec* requests, Report* report) {
  if (requests->rate_per_s() != 0 || requests->rate_scope() != v1::RATE_SCOPE_UNSPECIFIED) {
    report->Add("load.requests.rate", "the closed model has no rate: the answers set the pace",
                "Take it out or write model: open");
  }
  if (requests->arrival() != v1::ARRIVAL_UNSPECIFIED) {
    report->Add("load.requests.arrival", "the closed model has no arrivals: the answers set the pace",
                "Take it out or write model: open");
  }
  if (requests->burst_requests() != 0) {
    report->Add("load.requests.burst", "the closed model has no bursts: the answers set the pace",
                "Take it out or write model: open");
  }
  if (requests->late_requests() != v1::LATE_REQUESTS_UNSPECIFIED) {
    report->Add("load.requests.lateRequests", "the closed model has no late requests: the answers set the pace",
                "Take it out or write model: open");
  }
  if (!requests->has_think()) ToProto(absl::ZeroDuration(), requests->mutable_think());
  CheckDuration("load.requests.think", requests->think(), kThink, report);
}

void CompleteRequests(v1::RequestsSpec* requests, uint64_t peak, Report* report) {
  switch (requests->model()) {
    case v1::REQUEST_MODEL_OPEN:
      CompleteOpen(requests, peak, report);
      break;
    case v1::REQUEST_MODEL_CLOSED:
      CompleteClosed(requests, report);
      break;
    default:
      if (!report->Spoilt("load.requests.model")) {
        report->Add("load.requests.model", "the requests need a model",
                    "Write model: open (sent when due) or model: closed (sent after the last answer)");
      }
  }
  if (!requests->has_timeout()) ToProto(absl::Seconds(30), requests->mutable_timeout());
  CheckDuration("load.requests.timeout", requests->timeout(), kTimeout, report);
  if (requests->pipeline() == 0 && !report->Spoilt("load.requests.pipeline")) requests->set_pipeline(1);
  if (requests->pipeline() > kMaxPipeline) {
    report->Add("load.requests.pipeline",
                Cat(FormatCount(requests->pipeline()), " requests in flight on a connection are too many"),
                Cat("At most ", kMaxPipeline, " are possible"));
  }
}

void CompleteReconnect(v1::ReconnectSpec* reconnect, Report* report) {
  if (!reconnect->enabled()) return;
  if (!reconnect->has_initial_backoff()) ToProto(absl::Milliseconds(100), reconnect->mutable_initial_backoff());
  if (!reconnect->has_max_backoff()) {
    ToProto(std::max(absl::Seconds(10), FromProto(reconnect->initial_backoff())), reconnect->mutable_max_backoff());
  }
  CheckDuration("load.reconnect.initial", reconnect->initial_backoff(), kBackoff, report);
  CheckDuration("load.reconnect.max", reconnect->max_backoff(), kBackoff, report);
  if (!report->Spoilt("load.reconnect") &&
      FromProto(reconnect->max_backoff()) < FromProto(reconnect->initial_backoff())) {
    report->Add("load.reconnect.max",
                Cat("the longest delay is below the first one, ",
                    spec::FormatDuration(FromProto(reconnect->initial_backoff()))),
                "Raise max or lower initial");
  }
}

void CompleteHeartbeat(v1::HeartbeatSpec* heartbeat, Report* report) {
  constexpr std::string_view kEvery = "load.heartbeat.every";
  if (!heartbeat->has_every() && !report->Spoilt("load.heartbeat")) {
    report->Add(kEvery, "a heartbeat needs to be told how long a connection is idle before it",
                "Write it such as every: 30s");
  }
  if (heartbeat->has_every()) CheckDuration(kEvery, heartbeat->every(), kHeartbeat, report);
  if (!heartbeat->has_timeout()) ToProto(absl::Seconds(10), heartbeat->mutable_timeout());
  CheckDuration("load.heartbeat.timeout", heartbeat->timeout(), kTimeout, report);
}

void CheckWholeSeconds(std::string_view field, const google::protobuf::Duration& duration, Report* report) {
  CheckDuration(field, duration, kKeepalive, report);
  if (!report->Spoilt(field) && duration.nanos() != 0) {
    report->Add(field, Cat(spec::FormatDuration(FromProto(duration)), " is no whole number of seconds"),
                "The kernel counts keepalive in seconds: write such as 10s");
  }
}

void CompleteKeepalive(v1::KeepaliveSpec* keepalive, Report* report) {
  constexpr std::string_view kIdle = "load.keepalive.idle";
  constexpr std::string_view kProbes = "load.keepalive.probes";
  if (!keepalive->has_idle() && !report->Spoilt("load.keepalive")) {
    report->Add(kIdle, "keepalive needs to be told how long a connection is idle before the first probe",
                "Write it such as idle: 60s");
  }
  if (keepalive->has_idle()) CheckWholeSeconds(kIdle, keepalive->idle(), report);
  if (!keepalive->has_interval()) ToProto(absl::Seconds(10), keepalive->mutable_interval());
  CheckWholeSeconds("load.keepalive.interval", keepalive->interval(), report);
  if (keepalive->probes() == 0 && !report->Spoilt(kProbes)) keepalive->set_probes(3);
  if (keepalive->probes() > kMaxKeepaliveProbes) {
    report->Add(kProbes, Cat(FormatCount(keepalive->probes()), " probes are too many"),
                Cat("At most ", kMaxKeepaliveProbes, " are possible"));
  }
}

void CompleteSources(v1::LoadSpec* load, Report* report) {
  constexpr std::string_view kField = "load.sourceAddresses";
  std::vector<std::string> addresses;
  std::set<std::string> seen;
  for (int i = 0; i < load->source_addresses_size(); ++i) {
    const std::string field = Index(kField, static_cast<size_t>(i));
    const size_t before = addresses.size();
    if (MaybeFlaw flaw = ReadSourceAddresses(load->source_addresses(i), &addresses))
      report->Add(field, *std::move(flaw));
    if (addresses.size() > kMaxSourceAddresses) {
      return report->Add(kField, Cat("there are more than ", kMaxSourceAddresses, " source addresses"));
    }
    for (size_t at = before; at < addresses.size(); ++at) {
      if (!seen.insert(addresses[at]).second)
        report->Add(field, Cat("the address ", addresses[at], " is there twice"), "Keep one of them");
    }
  }
  if (report->Spoilt(kField)) return;
  load->mutable_source_addresses()->Assign(addresses.begin(), addresses.end());
}

void CheckAgents(const v1::LoadSpec& load, Report* report) {
  constexpr std::string_view kField = "load.agents";
  if (load.agents_size() > kMaxAgents) {
    return report->Add(kField, Cat("there are ", load.agents_size(), " agents; at most ", kMaxAgents, " are allowed"));
  }
  std::set<std::string> seen;
  for (int i = 0; i < load.agents_size(); ++i) {
    const std::string field = Index(kField, static_cast<size_t>(i));
    CheckName(field, load.agents(i), "host1", report);
    if (!seen.insert(load.agents(i)).second)
      report->Add(field, Cat("the agent ", Quoted(load.agents(i)), " is there twice"), "Keep one of them");
  }
}

}  // namespace

void CompleteLoad(v1::LoadSpec* load, Report* report) {
  CompleteConnections(load, report);
  if (load->has_requests()) CompleteRequests(load->mutable_requests(), PeakOf(*load), report);
  if (!load->has_connect_timeout()) ToProto(absl::Seconds(10), load->mutable_connect_timeout());
  CheckDuration("load.connectTimeout", load->connect_timeout(), kTimeout, report);
  CompleteReconnect(load->mutable_reconnect(), report);
  if (load->has_heartbeat()) CompleteHeartbeat(load->mutable_heartbeat(), report);
  if (load->has_keepalive()) CompleteKeepalive(load->mutable_keepalive(), report);
  CompleteSources(load, report);
  if (load->workers() > kMaxWorkers) {
    report->Add("load.workers", Cat(FormatCount(load->workers()), " workers are too many"),
                Cat("At most ", FormatCount(kMaxWorkers), " are possible; left out, the number is computed"));
  }
  CheckAgents(*load, report);
}

}  // namespace loadstar::spec
