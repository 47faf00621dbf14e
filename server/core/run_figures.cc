#include "server/core/run_figures.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace loadstar::server {
namespace {

// A run cannot last longer than a document may ask for (31 days) and its drain.
constexpr uint32_t kMaxSecond = 32 * 24 * 3600;

std::string Range(const std::string& agent, int64_t from, int64_t to) {
  return from == to ? absl::StrCat(agent, ":", from) : absl::StrCat(agent, ":", from, "-", to);
}

}  // namespace

RunFigures::RunFigures(std::vector<std::string> endpoints, std::vector<std::string> nodes, uint32_t planned_s,
                       const std::map<std::string, uint32_t>& processes)
    : endpoints_(std::move(endpoints)), nodes_(std::move(nodes)), planned_s_(planned_s) {
  for (uint32_t i = 0; i < endpoints_.size(); ++i) endpoint_index_.emplace(endpoints_[i], i);
  for (const auto& [node, count] : processes) strain_.nodes[node].processes = count;
}

void RunFigures::Join(const std::string& agent, bool has_workers) { parts_[agent].has_workers = has_workers; }

void RunFigures::Close(const std::string& agent, bool finished) {
  Part& part = parts_[agent];
  part.closed = true;
  part.finished = finished;
}

RunFigures::Taken RunFigures::Add(const std::string& agent, const v1::AgentSample& sample) {
  const auto found = parts_.find(agent);
  const uint32_t k = sample.elapsed_s();
  if (found == parts_.end() || k > kMaxSecond) return Taken::kMalformed;
  Part& part = found->second;
  if (part.closed || k <= part.highest) return Taken::kRepeat;
  // The run's own accumulator tells a malformed message first, before anything else has changed.
  if (!totals_.AddSource(sample.figures())) return Taken::kMalformed;
  // What comes after a second was given up (see kMaxOpenSeconds) is in the totals and in no snapshot.
  Second given_up;
  Second& second = k < dropped_below_ ? given_up : open_[k];
  if (second.delivered.empty() && k >= dropped_below_) ++recorded_s_;
  second.changed = true;
  second.delivered.push_back(agent);
  // Histograms that totals_ took can only fail here if a count overflowed, which totals_ would have met first.
  (void)second.figures.AddSource(sample.figures());
  second.endpoint_latency_left_out = second.endpoint_latency_left_out || sample.endpoint_latency_left_out();
  endpoint_latency_left_out_ = endpoint_latency_left_out_ || sample.endpoint_latency_left_out();
  part.endpoint_gauges.clear();
  for (const v1::EndpointFigures& endpoint : sample.endpoints()) {
    const auto index = endpoint_index_.find(endpoint.endpoint());
    if (index == endpoint_index_.end()) continue;
    if (!endpoint_totals_[index->second].AddSource(endpoint)) continue;
    (void)second.endpoints[index->second].AddSource(endpoint);
    part.endpoint_gauges[index->second] = endpoint.gauges();
  }
  second.nodes.insert(second.nodes.end(), sample.nodes().begin(), sample.nodes().end());
  if (sample.has_host()) {
    second.hosts.push_back(sample.host());
    second.hosts.back().set_agent(agent);
  }
  second.workers.insert(second.workers.end(), sample.workers().begin(), sample.workers().end());
  strain_.Add(agent, sample, k < planned_s_);
  if (sample.workers_merged() < sample.workers_expected()) ++seconds_without_worker_;
  if (k > part.highest + 1) {
    part.skipped.emplace_back(static_cast<uint32_t>(part.highest + 1), k - 1);
  }
  part.highest = k;
  part.gauges = sample.figures().gauges();
  highest_ = std::max<int64_t>(highest_, k);
  return Taken::kMerged;
}

bool RunFigures::Final(uint32_t second) const {
  return std::all_of(parts_.begin(), parts_.end(), [&](const auto& entry) {
    return entry.second.closed || entry.second.highest >= static_cast<int64_t>(second);
  });
}

void RunFigures::HandOut(uint32_t k, const Receiver& receive) {
  Second& second = open_[k];
  second.changed = false;
  v1::Snapshot snapshot;
  snapshot.set_from_elapsed_s(k);
  snapshot.set_to_elapsed_s(k);
  if (!second.delivered.empty()) {  // else: absent, not zero
    second.figures.ToProto(snapshot.mutable_figures());
    for (const auto& [index, merger] : second.endpoints) {
      v1::EndpointFigures* endpoint = snapshot.add_endpoints();
      merger.ToProto(endpoint);
      endpoint->set_endpoint(endpoints_[index]);
      if (index < nodes_.size()) endpoint->set_node(nodes_[index]);
      if (second.endpoint_latency_left_out) endpoint->clear_latency();
    }
    const bool too_much = metrics::BoundEndpoints(snapshot.mutable_endpoints());
    snapshot.set_endpoint_latency_left_out(second.endpoint_latency_left_out || too_much);
    *snapshot.mutable_latency() = second.figures.latency().ToPercentiles();
    *snapshot.mutable_service_time() = second.figures.service_time().ToPercentiles();
    *snapshot.mutable_schedule_lag() = second.figures.schedule_lag().ToPercentiles();
  }
  for (const v1::NodeFigures& node : second.nodes) *snapshot.add_nodes() = node;
  for (const v1::WorkerUsage& usage : second.workers) *snapshot.add_workers() = usage;
  for (const v1::HostFigures& host : second.hosts) *snapshot.add_hosts() = host;
  for (const auto& [agent, part] : parts_) {
    const bool delivered = std::find(second.delivered.begin(), second.delivered.end(), agent) != second.delivered.end();
    const bool over = part.finished && part.highest < static_cast<int64_t>(k);
    if (!delivered && !over) snapshot.add_missing_agents(agent);
  }
  receive(&snapshot);
}

void RunFigures::Publish(uint32_t due, const Receiver& receive) {
  for (auto& [k, second] : open_) {
    if (k < next_ && second.changed) HandOut(k, receive);
  }
  while (static_cast<int64_t>(next_) <= highest_ && (next_ < due || Final(next_))) HandOut(next_++, receive);
  // An agent that never delivers, though it is in reach, must not grow this without end.
  while (open_.size() > kMaxOpenSeconds && static_cast<int64_t>(next_) <= highest_) HandOut(next_++, receive);
  DropFinal(false);
}

void RunFigures::PublishAll(const Receiver& receive) {
  Publish(static_cast<uint32_t>(highest_ + 1), receive);
  DropFinal(true);
}

void RunFigures::DropFinal(bool all) {
  while (!open_.empty() && open_.begin()->first < next_ &&
         (all || open_.size() > kMaxOpenSeconds || Final(open_.begin()->first))) {
    const Second& second = open_.begin()->second;
    peak_connections_ = std::max<uint64_t>(peak_connections_, second.figures.gauges().connections_established());
    dropped_below_ = open_.begin()->first + 1;
    open_.erase(open_.begin());
  }
}

void RunFigures::Totals(v1::LoadFigures* out) const {
  totals_.ToProto(out);
  v1::Gauges gauges;
  for (const auto& [agent, part] : parts_) metrics::AddGauges(part.gauges, &gauges);
  *out->mutable_gauges() = gauges;
}

bool RunFigures::EndpointTotals(google::protobuf::RepeatedPtrField<v1::EndpointFigures>* out) const {
  for (const auto& [index, merger] : endpoint_totals_) {
    v1::EndpointFigures& endpoint = *out->Add();
    merger.ToProto(&endpoint);
    endpoint.set_endpoint(endpoints_[index]);
    if (index < nodes_.size()) endpoint.set_node(nodes_[index]);
    if (endpoint_latency_left_out_) endpoint.clear_latency();
    v1::Gauges gauges;
    for (const auto& [agent, part] : parts_) {
      const auto last = part.endpoint_gauges.find(index);
      if (last != part.endpoint_gauges.end()) metrics::AddGauges(last->second, &gauges);
    }
    *endpoint.mutable_gauges() = gauges;
  }
  return metrics::BoundEndpoints(out) || endpoint_latency_left_out_;
}

std::vector<std::string> RunFigures::Gaps() const {
  std::vector<std::string> gaps;
  for (const auto& [agent, part] : parts_) {
    if (!part.has_workers) continue;
    for (const auto& [from, to] : part.skipped) gaps.push_back(Range(agent, from, to));
    // The end of the run is only missing of one that did not say that it was through.
    if (!part.finished && part.highest < highest_) gaps.push_back(Range(agent, part.highest + 1, highest_));
  }
  if (gaps.size() > kMaxGaps) {
    const size_t more = gaps.size() - kMaxGaps;
    gaps.resize(kMaxGaps);
    gaps.push_back(absl::StrCat("and ", more, " more"));
  }
  return gaps;
}

}  // namespace loadstar::server
