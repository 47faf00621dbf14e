#include "lib/metrics/figures.h"

#include <utility>

namespace loadstar::metrics {

void AddCounters(const v1::Counters& from, v1::Counters* to) {
  to->set_connects_attempted(to->connects_attempted() + from.connects_attempted());
  to->set_connects_established(to->connects_established() + from.connects_established());
  to->set_connects_failed(to->connects_failed() + from.connects_failed());
  to->set_connections_closed(to->connections_closed() + from.connections_closed());
  to->set_connections_lost(to->connections_lost() + from.connections_lost());
  to->set_handshakes_done(to->handshakes_done() + from.handshakes_done());
  to->set_requests_due(to->requests_due() + from.requests_due());
  to->set_requests_sent(to->requests_sent() + from.requests_sent());
  to->set_requests_answered(to->requests_answered() + from.requests_answered());
  to->set_requests_failed(to->requests_failed() + from.requests_failed());
  to->set_requests_dropped(to->requests_dropped() + from.requests_dropped());
  to->set_bytes_sent(to->bytes_sent() + from.bytes_sent());
  to->set_bytes_received(to->bytes_received() + from.bytes_received());
  to->set_heartbeats_sent(to->heartbeats_sent() + from.heartbeats_sent());
  to->set_heartbeats_answered(to->heartbeats_answered() + from.heartbeats_answered());
  to->set_heartbeats_failed(to->heartbeats_failed() + from.heartbeats_failed());
}

void AddGauges(const v1::Gauges& from, v1::Gauges* to) {
  to->set_connections_target(to->connections_target() + from.connections_target());
  to->set_connections_established(to->connections_established() + from.connections_established());
  to->set_connections_pending(to->connections_pending() + from.connections_pending());
  to->set_requests_outstanding(to->requests_outstanding() + from.requests_outstanding());
  to->set_requests_backlog(to->requests_backlog() + from.requests_backlog());
}

bool BoundEndpoints(google::protobuf::RepeatedPtrField<v1::EndpointFigures>* endpoints) {
  size_t bytes = 0;
  for (const v1::EndpointFigures& endpoint : *endpoints) bytes += endpoint.ByteSizeLong();
  if (bytes <= kMaxEndpointBytes) return false;
  for (v1::EndpointFigures& endpoint : *endpoints) endpoint.clear_latency();
  return true;
}

bool FiguresMerger::AddSource(const v1::LoadFigures& figures) {
  // All are checked before any is merged, so that a refused message leaves nothing of itself behind.
  if (!Histogram::IsValid(figures.latency()) || !Histogram::IsValid(figures.service_time()) ||
      !Histogram::IsValid(figures.schedule_lag()) || !Histogram::IsValid(figures.connect_time()) ||
      !Histogram::IsValid(figures.handshake_time())) {
    return false;
  }
  AddCounters(figures.counters(), &counters_);
  AddGauges(figures.gauges(), &gauges_);
  for (const v1::ErrorCount& error : figures.errors()) {
    if (error.count() == 0) continue;
    ErrorKey key{error.phase(), error.kind(), error.detail()};
    if (errors_.size() >= kMaxErrors && errors_.find(key) == errors_.end()) std::get<2>(key) = "(others)";
    errors_[std::move(key)] += error.count();
  }
  return latency_.Merge(figures.latency()) && service_time_.Merge(figures.service_time()) &&
         schedule_lag_.Merge(figures.schedule_lag()) && connect_time_.Merge(figures.connect_time()) &&
         handshake_time_.Merge(figures.handshake_time());
}

bool FiguresMerger::AddSource(const v1::EndpointFigures& figures) {
  if (!latency_.Merge(figures.latency())) return false;
  AddCounters(figures.counters(), &counters_);
  AddGauges(figures.gauges(), &gauges_);
  return true;
}

bool FiguresMerger::AddLater(const v1::LoadFigures& figures) {
  if (!AddSource(figures)) return false;
  gauges_ = figures.gauges();
  return true;
}

bool FiguresMerger::AddLater(const v1::EndpointFigures& figures) {
  if (!AddSource(figures)) return false;
  gauges_ = figures.gauges();
  return true;
}

void FiguresMerger::ToProto(v1::LoadFigures* out) const {
  out->Clear();
  *out->mutable_counters() = counters_;
  *out->mutable_gauges() = gauges_;
  for (const auto& [key, count] : errors_) {
    v1::ErrorCount* error = out->add_errors();
    error->set_phase(std::get<0>(key));
    error->set_kind(std::get<1>(key));
    error->set_detail(std::get<2>(key));
    error->set_count(count);
  }
  latency_.ToProto(out->mutable_latency());
  service_time_.ToProto(out->mutable_service_time());
  schedule_lag_.ToProto(out->mutable_schedule_lag());
  connect_time_.ToProto(out->mutable_connect_time());
  handshake_time_.ToProto(out->mutable_handshake_time());
}

void FiguresMerger::ToProto(v1::EndpointFigures* out) const {
  *out->mutable_counters() = counters_;
  *out->mutable_gauges() = gauges_;
  latency_.ToProto(out->mutable_latency());
}

}  // namespace loadstar::metrics
