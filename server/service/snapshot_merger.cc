#include "server/service/snapshot_merger.h"

#include "lib/metrics/usage.h"

namespace loadstar::server {

bool SnapshotMerger::Add(v1::Snapshot snapshot) {
  if (!begun_) from_elapsed_s_ = snapshot.from_elapsed_s();
  begun_ = true;
  if (!figures_.AddLater(snapshot.figures())) return false;
  for (const v1::EndpointFigures& endpoint : snapshot.endpoints()) {
    if (!endpoints_[{endpoint.node(), endpoint.endpoint()}].AddLater(endpoint)) return false;
  }
  for (const v1::WorkerUsage& usage : snapshot.workers()) {
    metrics::AddLater(usage, &workers_[usage.worker_index()]);
  }
  for (const v1::HostFigures& host : snapshot.hosts()) metrics::AddLater(host, &hosts_[host.agent()]);
  endpoint_latency_left_out_ = endpoint_latency_left_out_ || snapshot.endpoint_latency_left_out();
  missing_agents_.insert(snapshot.missing_agents().begin(), snapshot.missing_agents().end());
  last_ = std::move(snapshot);
  return true;
}

v1::Snapshot SnapshotMerger::Take() {
  v1::Snapshot merged = std::move(last_);
  merged.set_from_elapsed_s(from_elapsed_s_);
  figures_.ToProto(merged.mutable_figures());
  merged.clear_endpoints();
  for (const auto& [name, figures] : endpoints_) {
    v1::EndpointFigures* endpoint = merged.add_endpoints();
    figures.ToProto(endpoint);
    endpoint->set_node(name.first);
    endpoint->set_endpoint(name.second);
    if (endpoint_latency_left_out_) endpoint->clear_latency();
  }
  const bool too_much = metrics::BoundEndpoints(merged.mutable_endpoints());
  merged.set_endpoint_latency_left_out(endpoint_latency_left_out_ || too_much);
  merged.clear_workers();
  for (const auto& [index, usage] : workers_) *merged.add_workers() = usage;
  merged.clear_hosts();
  for (const auto& [agent, host] : hosts_) {
    v1::HostFigures* out = merged.add_hosts();
    *out = host;
    out->set_agent(agent);
  }
  merged.mutable_missing_agents()->Assign(missing_agents_.begin(), missing_agents_.end());
  const auto percentiles = [](const metrics::Histogram& histogram, v1::Percentiles* to) {
    *to = histogram.ToPercentiles();
  };
  merged.clear_latency();
  merged.clear_service_time();
  merged.clear_schedule_lag();
  if (!figures_.latency().empty()) percentiles(figures_.latency(), merged.mutable_latency());
  if (!figures_.service_time().empty()) percentiles(figures_.service_time(), merged.mutable_service_time());
  if (!figures_.schedule_lag().empty()) percentiles(figures_.schedule_lag(), merged.mutable_schedule_lag());
  return merged;
}

}  // namespace loadstar::server
