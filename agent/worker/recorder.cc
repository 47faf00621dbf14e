#include "agent/worker/recorder.h"

#include <utility>

namespace loadstar::worker {
namespace {

constexpr size_t kMaxDetail = 64;

uint64_t Microseconds(int64_t ns) { return ns > 0 ? static_cast<uint64_t>(ns) / 1000 : 0; }

bool HasAny(const v1::Counters& counters) { return counters.ByteSizeLong() > 0; }
bool HasAny(const v1::Gauges& gauges) { return gauges.ByteSizeLong() > 0; }

}  // namespace

Recorder::Recorder(std::vector<std::string> endpoints) : endpoints_(endpoints.size()) {
  for (size_t i = 0; i < endpoints.size(); ++i) endpoints_[i].name = std::move(endpoints[i]);
}

void Recorder::ConnectBegun(uint32_t endpoint) {
  Endpoint& e = endpoints_[endpoint];
  e.counters.set_connects_attempted(e.counters.connects_attempted() + 1);
  e.gauges.set_connections_pending(e.gauges.connections_pending() + 1);
  totals_.set_connections_pending(totals_.connections_pending() + 1);
}

void Recorder::ConnectDone(uint32_t endpoint, int64_t took_ns) {
  Endpoint& e = endpoints_[endpoint];
  e.counters.set_connects_established(e.counters.connects_established() + 1);
  e.gauges.set_connections_pending(e.gauges.connections_pending() - 1);
  e.gauges.set_connections_established(e.gauges.connections_established() + 1);
  totals_.set_connections_pending(totals_.connections_pending() - 1);
  totals_.set_connections_established(totals_.connections_established() + 1);
  connect_time_.Record(Microseconds(took_ns));
}

void Recorder::ConnectFailed(uint32_t endpoint, const Failure& failure) {
  Endpoint& e = endpoints_[endpoint];
  e.counters.set_connects_failed(e.counters.connects_failed() + 1);
  e.gauges.set_connections_pending(e.gauges.connections_pending() - 1);
  totals_.set_connections_pending(totals_.connections_pending() - 1);
  CountError(v1::ERROR_PHASE_CONNECT, failure);
}

void Recorder::HandshakeDone(uint32_t endpoint, int64_t took_ns) {
  v1::Counters& counters = endpoints_[endpoint].counters;
  counters.set_handshakes_done(counters.handshakes_done() + 1);
  handshake_time_.Record(Microseconds(took_ns));
}

void Recorder::ConnectionClosed(uint32_t endpoint) {
  Endpoint& e = endpoints_[endpoint];
  e.counters.set_connections_closed(e.counters.connections_closed() + 1);
  e.gauges.set_connections_established(e.gauges.connections_established() - 1);
  totals_.set_connections_established(totals_.connections_established() - 1);
}

void Recorder::ConnectionLost(uint32_t endpoint, const Failure& failure) {
  Endpoint& e = endpoints_[endpoint];
  e.counters.set_connections_lost(e.counters.connections_lost() + 1);
  e.gauges.set_connections_established(e.gauges.connections_established() - 1);
  totals_.set_connections_established(totals_.connections_established() - 1);
  CountError(v1::ERROR_PHASE_CONNECTION, failure);
}

void Recorder::TotalRequestsDue(uint64_t count) {
  unattributed_.set_requests_due(unattributed_.requests_due() + count);
  totals_.set_requests_backlog(totals_.requests_backlog() + count);
}

void Recorder::TotalRequestDropped(int64_t waited_ns) {
  unattributed_.set_requests_dropped(unattributed_.requests_dropped() + 1);
  unattributed_latency_.Record(Microseconds(waited_ns));
  totals_.set_requests_backlog(totals_.requests_backlog() - 1);
}

void Recorder::RequestDue(uint32_t endpoint) {
  Endpoint& e = endpoints_[endpoint];
  e.counters.set_requests_due(e.counters.requests_due() + 1);
  e.gauges.set_requests_backlog(e.gauges.requests_backlog() + 1);
  totals_.set_requests_backlog(totals_.requests_backlog() + 1);
}

void Recorder::RequestDropped(uint32_t endpoint, int64_t waited_ns) {
  Endpoint& e = endpoints_[endpoint];
  e.counters.set_requests_dropped(e.counters.requests_dropped() + 1);
  e.latency.Record(Microseconds(waited_ns));
  e.gauges.set_requests_backlog(e.gauges.requests_backlog() - 1);
  totals_.set_requests_backlog(totals_.requests_backlog() - 1);
}

void Recorder::RequestSent(uint32_t endpoint, bool of_total_rate, size_t bytes, int64_t schedule_lag_ns) {
  Endpoint& e = endpoints_[endpoint];
  e.counters.set_requests_sent(e.counters.requests_sent() + 1);
  e.counters.set_bytes_sent(e.counters.bytes_sent() + bytes);
  e.gauges.set_requests_outstanding(e.gauges.requests_outstanding() + 1);
  if (!of_total_rate) e.gauges.set_requests_backlog(e.gauges.requests_backlog() - 1);
  totals_.set_requests_outstanding(totals_.requests_outstanding() + 1);
  totals_.set_requests_backlog(totals_.requests_backlog() - 1);
  schedule_lag_.Record(Microseconds(schedule_lag_ns));
}

void Recorder::RequestAnswered(uint32_t endpoint, int64_t latency_ns, int64_t service_ns) {
  Endpoint& e = endpoints_[endpoint];
  e.counters.set_requests_answered(e.counters.requests_answered() + 1);
  e.gauges.set_requests_outstanding(e.gauges.requests_outstanding() - 1);
  totals_.set_requests_outstanding(totals_.requests_outstanding() - 1);
  e.latency.Record(Microseconds(latency_ns));
  service_time_.Record(Microseconds(service_ns));
}

void Recorder::RequestFailedAfter(uint32_t endpoint, const Failure& failure, int64_t latency_ns, int64_t service_ns) {
  endpoints_[endpoint].latency.Record(Microseconds(latency_ns));
  service_time_.Record(Microseconds(service_ns));
  RequestFailed(endpoint, failure);
}

void Recorder::RequestGivenUp(uint32_t endpoint, const Failure& failure, int64_t latency_ns) {
  endpoints_[endpoint].latency.Record(Microseconds(latency_ns));
  RequestFailed(endpoint, failure);
}

void Recorder::RequestFailed(uint32_t endpoint, const Failure& failure) {
  Endpoint& e = endpoints_[endpoint];
  e.counters.set_requests_failed(e.counters.requests_failed() + 1);
  e.gauges.set_requests_outstanding(e.gauges.requests_outstanding() - 1);
  totals_.set_requests_outstanding(totals_.requests_outstanding() - 1);
  CountError(v1::ERROR_PHASE_REQUEST, failure);
}

void Recorder::HeartbeatSent(uint32_t endpoint, size_t bytes) {
  v1::Counters& counters = endpoints_[endpoint].counters;
  counters.set_heartbeats_sent(counters.heartbeats_sent() + 1);
  counters.set_bytes_sent(counters.bytes_sent() + bytes);
}

void Recorder::HeartbeatAnswered(uint32_t endpoint) {
  v1::Counters& counters = endpoints_[endpoint].counters;
  counters.set_heartbeats_answered(counters.heartbeats_answered() + 1);
}

void Recorder::HeartbeatFailed(uint32_t endpoint) {
  v1::Counters& counters = endpoints_[endpoint].counters;
  counters.set_heartbeats_failed(counters.heartbeats_failed() + 1);
}

void Recorder::BytesSent(uint32_t endpoint, size_t bytes) {
  v1::Counters& counters = endpoints_[endpoint].counters;
  counters.set_bytes_sent(counters.bytes_sent() + bytes);
}

void Recorder::BytesReceived(uint32_t endpoint, size_t bytes) {
  v1::Counters& counters = endpoints_[endpoint].counters;
  counters.set_bytes_received(counters.bytes_received() + bytes);
}

void Recorder::ChangeTarget(uint32_t endpoint, int64_t change) {
  v1::Gauges& gauges = endpoints_[endpoint].gauges;
  gauges.set_connections_target(gauges.connections_target() + static_cast<uint64_t>(change));
  totals_.set_connections_target(totals_.connections_target() + static_cast<uint64_t>(change));
}

void Recorder::CountError(v1::ErrorPhase phase, const Failure& failure) {
  metrics::ErrorKey key{phase, failure.kind, failure.detail.substr(0, kMaxDetail)};
  auto found = errors_.find(key);
  if (found == errors_.end()) {
    if (errors_.size() >= kMaxErrorKeys) std::get<2>(key) = kOtherDetail;
    found = errors_.try_emplace(std::move(key), 0).first;
  }
  ++found->second;
}

void Recorder::TakeSecond(v1::WorkerSample* sample) {
  v1::LoadFigures* figures = sample->mutable_figures();
  figures->Clear();
  sample->clear_endpoints();
  *figures->mutable_counters() = unattributed_;
  *figures->mutable_gauges() = totals_;
  scratch_.Reset();
  scratch_.Merge(unattributed_latency_);
  for (Endpoint& e : endpoints_) {
    metrics::AddCounters(e.counters, figures->mutable_counters());
    scratch_.Merge(e.latency);
    if (HasAny(e.counters) || HasAny(e.gauges)) {
      v1::EndpointFigures* out = sample->add_endpoints();
      out->set_endpoint(e.name);
      *out->mutable_counters() = e.counters;
      *out->mutable_gauges() = e.gauges;
      e.latency.ToProto(out->mutable_latency());
    }
    e.counters.Clear();
    e.latency.Reset();
  }
  scratch_.ToProto(figures->mutable_latency());
  service_time_.ToProto(figures->mutable_service_time());
  schedule_lag_.ToProto(figures->mutable_schedule_lag());
  connect_time_.ToProto(figures->mutable_connect_time());
  handshake_time_.ToProto(figures->mutable_handshake_time());
  for (auto& [key, count] : errors_) {
    if (count == 0) continue;
    v1::ErrorCount* error = figures->add_errors();
    error->set_phase(std::get<0>(key));
    error->set_kind(std::get<1>(key));
    error->set_detail(std::get<2>(key));
    error->set_count(count);
    count = 0;
  }
  unattributed_.Clear();
  unattributed_latency_.Reset();
  service_time_.Reset();
  schedule_lag_.Reset();
  connect_time_.Reset();
  handshake_time_.Reset();
}

}  // namespace loadstar::worker
