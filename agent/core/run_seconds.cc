#include "agent/core/run_seconds.h"

#include <algorithm>
#include <utility>

#include "lib/metrics/usage.h"

namespace loadstar::agent {
namespace {

void AddError(v1::ErrorPhase phase, v1::ErrorKind kind, uint64_t count, v1::LoadFigures* figures) {
  if (count == 0) return;
  v1::ErrorCount* error = figures->add_errors();
  error->set_phase(phase);
  error->set_kind(kind);
  error->set_count(count);
}

// The counters that bring these gauges to zero, so that the ledgers close.
v1::Counters Closing(const v1::Gauges& gauges, bool died) {
  v1::Counters counters;
  if (died) {
    counters.set_connections_lost(gauges.connections_established());
  } else {
    counters.set_connections_closed(gauges.connections_established());
  }
  counters.set_connects_failed(gauges.connections_pending());
  counters.set_requests_failed(gauges.requests_outstanding());
  counters.set_requests_dropped(gauges.requests_backlog());
  return counters;
}

}  // namespace

RunSeconds::RunSeconds(Options options)
    : options_(std::move(options)), workers_(options_.worker_count), live_(options_.worker_count) {
  for (uint32_t i = 0; i < options_.endpoints.size(); ++i) endpoint_index_.emplace(options_.endpoints[i], i);
}

bool RunSeconds::Add(uint32_t index, const v1::WorkerSample& sample) {
  Worker& worker = workers_[index];
  const uint32_t k = sample.elapsed_s();
  // A worker says each second once and in order; 32 days are more than any run may last.
  if (!worker.live || k <= worker.highest || k > 32 * 24 * 3600) return false;
  const bool late = k < next_;
  Second& second = seconds_[late ? next_ : k];
  if (late) {
    v1::LoadFigures without_gauges = sample.figures();
    without_gauges.clear_gauges();
    if (!second.figures.AddSource(without_gauges)) return false;
  } else {
    if (!second.figures.AddSource(sample.figures())) return false;
    ++second.merged;
  }
  second.has_figures = true;
  worker.highest = k;
  worker.gauges = sample.figures().gauges();
  worker.endpoint_gauges.clear();
  for (const v1::EndpointFigures& endpoint : sample.endpoints()) {
    const auto known = endpoint_index_.find(endpoint.endpoint());
    if (known == endpoint_index_.end()) continue;
    worker.endpoint_gauges[known->second] = endpoint.gauges();
    v1::EndpointFigures added = endpoint;
    if (late) added.clear_gauges();
    (void)second.endpoints[known->second].AddSource(added);
  }
  v1::WorkerUsage usage = sample.usage();
  usage.set_worker_index(options_.first_worker + index);
  second.usage.push_back(std::move(usage));
  return true;
}

uint64_t RunSeconds::ConnectionsHeld() const {
  uint64_t held = 0;
  for (const Worker& worker : workers_) {
    if (worker.live) held += worker.gauges.connections_established() + worker.gauges.connections_pending();
  }
  return held;
}

bool RunSeconds::PastLoad(uint32_t k) const {
  return options_.worker_count > 0 && live_ == 0 && seconds_.find(k) == seconds_.end();
}

void RunSeconds::AddNodes(uint32_t k, std::vector<v1::NodeFigures> nodes) {
  if (k < next_ || PastLoad(k)) return;
  Second& second = seconds_[k];
  second.nodes = std::move(nodes);
  second.has_nodes = true;
}

void RunSeconds::AddHost(uint32_t k, const v1::HostFigures& host) {
  k = std::max(k, next_);
  if (PastLoad(k)) return;
  Second& second = seconds_[k];
  metrics::AddLater(host, &second.host);
  second.has_host = true;
}

void RunSeconds::End(uint32_t index, Ending ending) {
  Worker& worker = workers_[index];
  if (!worker.live) return;
  worker.live = false;
  --live_;
  if (ending != Ending::kFinished) {
    const bool died = ending == Ending::kDied;
    worker.died = died;
    const v1::ErrorKind kind = died ? v1::ERROR_KIND_WORKER_LOST : v1::ERROR_KIND_ABANDONED;
    v1::LoadFigures closing;
    *closing.mutable_counters() = Closing(worker.gauges, died);
    AddError(v1::ERROR_PHASE_CONNECT, kind, closing.counters().connects_failed(), &closing);
    AddError(v1::ERROR_PHASE_CONNECTION, kind, closing.counters().connections_lost(), &closing);
    AddError(v1::ERROR_PHASE_REQUEST, kind, closing.counters().requests_failed(), &closing);
    if (worker.highest >= 0) {
      Second& second = seconds_[std::max(next_, static_cast<uint32_t>(worker.highest + 1))];
      (void)second.figures.AddSource(closing);
      second.has_figures = true;
      for (const auto& [endpoint, gauges] : worker.endpoint_gauges) {
        v1::EndpointFigures part;
        *part.mutable_counters() = Closing(gauges, died);
        (void)second.endpoints[endpoint].AddSource(part);
      }
    }
  }
  if (live_ > 0) return;
  // Seconds that only nodes and the host have spoken of are of no load.
  std::erase_if(seconds_, [](const auto& entry) { return !entry.second.has_figures; });
}

bool RunSeconds::Delivered(uint32_t second) const {
  return std::all_of(workers_.begin(), workers_.end(), [&](const Worker& worker) {
    return !worker.live || worker.highest >= static_cast<int64_t>(second);
  });
}

uint32_t RunSeconds::Expected(uint32_t second) const {
  // One that died is missed until the end; one that finished before is not.
  return static_cast<uint32_t>(std::count_if(workers_.begin(), workers_.end(), [&](const Worker& worker) {
    return worker.live || worker.died || worker.highest >= static_cast<int64_t>(second);
  }));
}

bool RunSeconds::HostSettled(uint32_t second, bool has_host, int64_t elapsed_ns) const {
  // Once no worker is left a second that has only begun is not waited out.
  const bool cut_short = options_.worker_count > 0 && live_ == 0 && elapsed_ns < EndOf(second);
  return has_host || cut_short || options_.host_patience_ns == 0 || elapsed_ns >= HostDueAt(second);
}

void RunSeconds::Report(int64_t elapsed_ns, const std::function<void(v1::AgentSample)>& report) {
  while (!seconds_.empty()) {
    const auto it = seconds_.find(next_);
    const bool delivered = Delivered(next_);
    const bool known = it != seconds_.end();
    const bool complete = delivered && (!options_.observing || (known && it->second.has_nodes)) &&
                          (!known || HostSettled(next_, it->second.has_host, elapsed_ns));
    if (!complete && elapsed_ns < DueAt(next_)) return;
    if (!known) {
      if (!delivered) return;
      ++next_;  // skipped by all: a gap
      continue;
    }
    // Nodes and the host alone do not make a second of a load: some worker has to have spoken.
    if (!delivered && !it->second.has_figures) return;
    if (it->second.has_figures || options_.worker_count == 0) report(Make(next_, it->second));
    seconds_.erase(it);
    ++next_;
  }
}

int64_t RunSeconds::NextInstant() const {
  if (seconds_.empty()) return INT64_MAX;
  // Where no worker has spoken yet time alone changes nothing.
  const auto it = seconds_.find(next_);
  const bool known = it != seconds_.end();
  if (!Delivered(next_)) return known && it->second.has_figures ? DueAt(next_) : INT64_MAX;
  const bool nodes_missing = options_.observing && !(known && it->second.has_nodes);
  return nodes_missing || options_.host_patience_ns == 0 ? DueAt(next_) : HostDueAt(next_);
}

v1::AgentSample RunSeconds::Make(uint32_t k, const Second& second) {
  v1::AgentSample sample;
  sample.set_run_id(options_.run_id);
  sample.set_elapsed_s(k);
  second.figures.ToProto(sample.mutable_figures());
  for (const auto& [index, merger] : second.endpoints) {
    v1::EndpointFigures* endpoint = sample.add_endpoints();
    merger.ToProto(endpoint);
    endpoint->set_endpoint(options_.endpoints[index]);
    if (index < options_.nodes.size()) endpoint->set_node(options_.nodes[index]);
  }
  if (metrics::BoundEndpoints(sample.mutable_endpoints())) sample.set_endpoint_latency_left_out(true);
  sample.set_workers_merged(second.merged);
  sample.set_workers_expected(Expected(k));
  for (const v1::WorkerUsage& usage : second.usage) *sample.add_workers() = usage;
  for (v1::NodeFigures& node : std::exchange(nodes_before_, {})) *sample.add_nodes_before() = std::move(node);
  if (const auto unused = std::exchange(memory_unused_before_bytes_, std::nullopt)) {
    sample.set_memory_unused_before_bytes(*unused);
  }
  for (const v1::NodeFigures& node : second.nodes) *sample.add_nodes() = node;
  if (second.has_host) *sample.mutable_host() = second.host;
  return sample;
}

}  // namespace loadstar::agent
