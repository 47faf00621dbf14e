#include "tests/simulation/worker_model.h"

#include <algorithm>

#include "lib/plan/split.h"
#include "tests/simulation/scheduler.h"

namespace loadstar::simulation {

WorkerModel::WorkerModel(const v1::WorkerPlan& plan, uint64_t seed)
    : plan_(plan), random_(seed), profile_(plan.load()), end_ns_(profile_.EndNs()) {}

void WorkerModel::Update(const v1::WorkerUpdate& update) { profile_.Update(update.at_elapsed_ns(), update.update()); }

void WorkerModel::StopAt(int64_t elapsed_ns) {
  // A second that was already told stays told.
  end_ns_ = std::min(end_ns_, std::max(elapsed_ns, static_cast<int64_t>(second_) * kSecond + 1));
}

int64_t WorkerModel::NextSampleNs() const { return std::min(end_ns_, (static_cast<int64_t>(second_) + 1) * kSecond); }

v1::WorkerSample WorkerModel::Sample() {
  const int64_t until_ns = NextSampleNs();
  const bool last = until_ns >= end_ns_;
  v1::WorkerSample sample;
  sample.set_elapsed_s(second_++);
  v1::Counters& counters = *sample.mutable_figures()->mutable_counters();

  const plan::Split split(plan_.worker_count(), static_cast<uint32_t>(plan_.endpoints_size()), 0);
  const uint64_t target = last ? 0 : split.ShareOf(plan_.worker_index(), profile_.TargetAt(until_ns));
  uint64_t open = gauges_.connections_established();
  if (open > 0 && random_.Chance(10)) {
    counters.set_connections_lost(1);
    --open;
    v1::ErrorCount* error = sample.mutable_figures()->add_errors();
    error->set_phase(v1::ERROR_PHASE_CONNECTION);
    error->set_kind(v1::ERROR_KIND_RESET);
    error->set_count(1);
  }
  if (target > open) {
    counters.set_connects_established(target - open);
    counters.set_connects_attempted(target - open);
  } else {
    counters.set_connections_closed(open - target);
  }
  const auto outstanding = static_cast<uint64_t>(last ? 0 : random_.Between(0, 3));
  const auto backlog = static_cast<uint64_t>(last ? 0 : random_.Between(0, 2));
  // Enough is sent and answered for what is outstanding and due to come out right.
  const auto answered = gauges_.requests_outstanding() + static_cast<uint64_t>(random_.Between(0, 8));
  const uint64_t sent = answered + outstanding - gauges_.requests_outstanding();
  const uint64_t sent_at_least = std::max(sent, gauges_.requests_backlog());
  counters.set_requests_answered(answered + (sent_at_least - sent));
  counters.set_requests_sent(sent_at_least);
  counters.set_requests_due(sent_at_least + backlog - gauges_.requests_backlog());

  metrics::Histogram latency;
  metrics::Histogram lag;
  for (uint64_t i = 0; i < counters.requests_answered(); ++i) {
    latency.Record(static_cast<uint64_t>(random_.Between(50, 200'000)));
    lag.Record(static_cast<uint64_t>(random_.Between(1, 500)));
  }
  latency.ToProto(sample.mutable_figures()->mutable_latency());
  latency.ToProto(sample.mutable_figures()->mutable_service_time());
  lag.ToProto(sample.mutable_figures()->mutable_schedule_lag());

  gauges_.set_connections_target(target);
  gauges_.set_connections_established(target);
  gauges_.set_requests_outstanding(outstanding);
  gauges_.set_requests_backlog(backlog);
  *sample.mutable_figures()->mutable_gauges() = gauges_;
  v1::EndpointFigures* endpoint = sample.add_endpoints();
  endpoint->set_endpoint(plan_.endpoints(static_cast<int>(plan_.worker_index()) % plan_.endpoints_size()));
  *endpoint->mutable_counters() = counters;
  *endpoint->mutable_gauges() = gauges_;
  *endpoint->mutable_latency() = sample.figures().latency();
  sample.mutable_usage()->set_interval_ns(1000 * kMs);
  sample.mutable_usage()->set_cpu_ns(static_cast<uint64_t>(random_.Between(1, 500)) * kMs);
  finished_ = last;
  return sample;
}

}  // namespace loadstar::simulation
