// One run of one engine on a SimLoop, with all that it told its agent; and the ledgers that every run has to keep.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/worker/engine.h"
#include "lib/metrics/figures.h"
#include "tests/worker/sim_loop.h"

namespace loadstar::worker {

inline constexpr int64_t kMs = 1'000'000;
inline constexpr int64_t kS = 1'000'000'000;

// Collects what an engine says.
class Told final : public AgentLink {
 public:
  void Send(const v1::WorkerToAgent& message) override {
    if (message.has_sample()) samples.push_back(message.sample());
    if (message.has_event()) events.push_back(message.event());
    if (message.has_finished()) {
      finished = message.finished();
      finished_ns = SimLoop::Clock();
    }
    if (message.has_started()) started_ns = message.started().started_monotonic_ns();
  }
  v1::LoadFigures Sum() const {
    metrics::FiguresMerger merger;
    for (const v1::WorkerSample& sample : samples) EXPECT_TRUE(merger.AddLater(sample.figures()));
    v1::LoadFigures sum;
    merger.ToProto(&sum);
    return sum;
  }
  metrics::Histogram Latency() const {
    metrics::Histogram histogram;
    for (const v1::WorkerSample& sample : samples) EXPECT_TRUE(histogram.Merge(sample.figures().latency()));
    return histogram;
  }
  metrics::Histogram ServiceTime() const {
    metrics::Histogram histogram;
    for (const v1::WorkerSample& sample : samples) EXPECT_TRUE(histogram.Merge(sample.figures().service_time()));
    return histogram;
  }
  metrics::Histogram ScheduleLag() const {
    metrics::Histogram histogram;
    for (const v1::WorkerSample& sample : samples) EXPECT_TRUE(histogram.Merge(sample.figures().schedule_lag()));
    return histogram;
  }
  uint64_t Errors(v1::ErrorPhase phase, v1::ErrorKind kind, const std::string& detail = "*") const {
    uint64_t count = 0;
    for (const v1::WorkerSample& sample : samples) {
      for (const v1::ErrorCount& error : sample.figures().errors()) {
        if (error.phase() == phase && error.kind() == kind && (detail == "*" || error.detail() == detail)) {
          count += error.count();
        }
      }
    }
    return count;
  }
  uint64_t EventsOf(const std::string& code) const {
    uint64_t count = 0;
    for (const v1::WorkerEvent& event : events) count += event.code() == code ? 1 : 0;
    return count;
  }

  std::vector<v1::WorkerSample> samples;
  std::vector<v1::WorkerEvent> events;
  std::optional<v1::WorkerFinished> finished;
  int64_t started_ns = -1;
  int64_t finished_ns = -1;  // on the simulated clock
};

inline uint64_t ErrorsOf(const v1::LoadFigures& figures, v1::ErrorPhase phase) {
  uint64_t count = 0;
  for (const v1::ErrorCount& error : figures.errors()) count += error.phase() == phase ? error.count() : 0;
  return count;
}

// Failed requests whose time is in the latency: answered with an error, or given up.
inline uint64_t TimedErrors(const v1::LoadFigures& figures) {
  uint64_t count = 0;
  for (const v1::ErrorCount& error : figures.errors()) {
    const bool timed = error.kind() == v1::ERROR_KIND_RPC_ERROR || error.kind() == v1::ERROR_KIND_HTTP_STATUS ||
                       error.kind() == v1::ERROR_KIND_REQUEST_TIMEOUT || error.kind() == v1::ERROR_KIND_ABANDONED ||
                       error.kind() == v1::ERROR_KIND_HEARTBEAT_TIMEOUT;
    if (timed && error.phase() == v1::ERROR_PHASE_REQUEST) count += error.count();
  }
  return count;
}

// metrics.proto's ledgers, exactly, at every second; and what must hold between totals, endpoints and errors.
inline void ExpectLedger(const std::vector<v1::WorkerSample>& samples) {
  v1::Gauges before;
  std::map<std::string, v1::Gauges> endpoints_before;
  uint64_t heartbeats_under_way = 0;
  const auto balance = [](const v1::Counters& c, const v1::Gauges& was, const v1::Gauges& is,
                          const std::string& where) {
    EXPECT_EQ(c.connects_attempted(),
              c.connects_established() + c.connects_failed() + is.connections_pending() - was.connections_pending())
        << where;
    EXPECT_EQ(c.connects_established(), c.connections_closed() + c.connections_lost() + is.connections_established() -
                                            was.connections_established())
        << where;
    EXPECT_EQ(c.requests_sent(),
              c.requests_answered() + c.requests_failed() + is.requests_outstanding() - was.requests_outstanding())
        << where;
  };
  for (size_t i = 0; i < samples.size(); ++i) {
    const v1::LoadFigures& f = samples[i].figures();
    const std::string where = "second " + std::to_string(i);
    EXPECT_EQ(samples[i].elapsed_s(), i);
    balance(f.counters(), before, f.gauges(), where);
    EXPECT_EQ(f.counters().requests_due(), f.counters().requests_sent() + f.counters().requests_dropped() +
                                               f.gauges().requests_backlog() - before.requests_backlog())
        << where;
    heartbeats_under_way += f.counters().heartbeats_sent();
    const uint64_t over = f.counters().heartbeats_answered() + f.counters().heartbeats_failed();
    ASSERT_GE(heartbeats_under_way, over) << where;
    heartbeats_under_way -= over;
    EXPECT_LE(heartbeats_under_way, f.gauges().connections_established()) << where << ": one a connection";
    EXPECT_EQ(ErrorsOf(f, v1::ERROR_PHASE_CONNECT), f.counters().connects_failed()) << where;
    EXPECT_EQ(ErrorsOf(f, v1::ERROR_PHASE_CONNECTION), f.counters().connections_lost()) << where;
    EXPECT_EQ(ErrorsOf(f, v1::ERROR_PHASE_REQUEST), f.counters().requests_failed()) << where;
    before = f.gauges();
    metrics::FiguresMerger endpoints;
    std::map<std::string, v1::Gauges> now;
    for (const v1::EndpointFigures& endpoint : samples[i].endpoints()) {
      ASSERT_TRUE(endpoints.AddSource(endpoint));
      balance(endpoint.counters(), endpoints_before[endpoint.endpoint()], endpoint.gauges(),
              where + " of " + endpoint.endpoint());
      now[endpoint.endpoint()] = endpoint.gauges();
    }
    // An endpoint that is left out has nothing to say: all its gauges are 0 now.
    endpoints_before = now;
    EXPECT_EQ(endpoints.counters().requests_sent(), f.counters().requests_sent()) << where;
    EXPECT_EQ(endpoints.counters().connects_attempted(), f.counters().connects_attempted()) << where;
    EXPECT_EQ(endpoints.counters().heartbeats_sent(), f.counters().heartbeats_sent()) << where;
    EXPECT_EQ(endpoints.gauges().connections_established(), f.gauges().connections_established()) << where;
    EXPECT_EQ(endpoints.gauges().connections_target(), f.gauges().connections_target()) << where;
    metrics::Histogram latency;
    EXPECT_TRUE(latency.Merge(f.latency()));
    EXPECT_EQ(latency.count(), f.counters().requests_answered() + f.counters().requests_dropped() + TimedErrors(f))
        << where;
    // What a total rate drops is no endpoint's.
    EXPECT_EQ(latency.count() - endpoints.latency().count(),
              f.counters().requests_dropped() - endpoints.counters().requests_dropped())
        << where;
  }
  if (samples.empty()) return;
  // At the very end nothing is left.
  EXPECT_EQ(before.connections_established(), 0u);
  EXPECT_EQ(before.connections_pending(), 0u);
  EXPECT_EQ(before.requests_outstanding(), 0u);
  EXPECT_EQ(before.requests_backlog(), 0u);
  EXPECT_EQ(heartbeats_under_way, 0u);
}

// A run in simulated time. The start is one second after construction.
class SimRun {
 public:
  SimRun(const v1::WorkerPlan& plan, SimPeer* peer) : loop_(peer), start_ns_(SimLoop::kEpoch + kS) {
    auto engine = Engine::Create(plan, &loop_, &told_, &SimLoop::ReadSimClock);
    EXPECT_TRUE(engine.ok()) << engine.status();
    if (engine.ok()) engine_ = *std::move(engine);
  }

  SimLoop& loop() { return loop_; }
  Engine& engine() { return *engine_; }
  const Told& told() const { return told_; }
  int64_t finished_after_ns() const { return told_.finished_ns - start_ns_; }
  int64_t elapsed_ns() const { return SimLoop::Clock() - start_ns_; }

  // Script: calls `what` at an instant of the run.
  void At(int64_t elapsed_ns, std::function<void()> what) { loop_.After(elapsed_ns + kS, std::move(what)); }
  void Start() {
    v1::AgentToWorker message;
    message.mutable_start()->set_start_monotonic_ns(start_ns_);
    EXPECT_TRUE(engine_->Receive(message).ok());
  }
  void Update(int64_t at_ns, const v1::LoadUpdate& update) {
    v1::AgentToWorker message;
    message.mutable_update()->set_at_elapsed_ns(at_ns);
    *message.mutable_update()->mutable_update() = update;
    EXPECT_TRUE(engine_->Receive(message).ok());
  }
  void Stop(int64_t at_ns) {
    v1::AgentToWorker message;
    message.mutable_stop()->set_at_elapsed_ns(at_ns);
    EXPECT_TRUE(engine_->Receive(message).ok());
  }
  void RunUntil(int64_t elapsed_ns) {
    while (!engine_->finished() && this->elapsed_ns() < elapsed_ns) loop_.RunOnce(elapsed_ns - this->elapsed_ns());
  }
  // Starts, runs to the end and checks what holds in every run.
  void ToTheEnd(int64_t longest_ns = 3600 * kS) {
    Start();
    Finish(longest_ns);
  }
  void Finish(int64_t longest_ns = 3600 * kS) {
    RunUntil(longest_ns);
    ASSERT_TRUE(engine_->finished()) << "after " << elapsed_ns() << " ns";
    ASSERT_TRUE(told_.finished.has_value());
    EXPECT_EQ(told_.finished->samples(), told_.samples.size());
    EXPECT_EQ(loop_.open(), 0u);
    ExpectLedger(told_.samples);
  }

 private:
  SimLoop loop_;
  Told told_;
  int64_t start_ns_;
  std::unique_ptr<Engine> engine_;
};

// A plan for one worker of one, to be adapted.
class PlanBuilder {
 public:
  PlanBuilder() {
    plan_.set_worker_count(1);
    plan_.set_protocol(v1::PROTOCOL_TCP);
    plan_.add_endpoints("127.0.0.1:23001");
    plan_.mutable_load()->set_seed(7);
  }
  PlanBuilder& Ramp(int64_t ns, uint64_t to) {
    v1::Stage* stage = plan_.mutable_load()->add_connections();
    stage->mutable_duration()->set_seconds(ns / kS);
    stage->mutable_duration()->set_nanos(static_cast<int32_t>(ns % kS));
    stage->set_to_connections(to);
    plan_.set_connections_max(std::max(plan_.connections_max(), to));
    return *this;
  }
  // All connections from (nearly) the start.
  PlanBuilder& Hold(int64_t ns, uint64_t connections) { return Ramp(1, connections).Ramp(ns - 1, connections); }
  PlanBuilder& Endpoints(int count) {
    plan_.clear_endpoints();
    for (int i = 0; i < count; ++i) plan_.add_endpoints("127.0.0.1:" + std::to_string(23001 + i));
    return *this;
  }
  PlanBuilder& Open(double rate_per_s, v1::RateScope scope, v1::Arrival arrival = v1::ARRIVAL_CONSTANT) {
    v1::RequestsSpec* requests = plan_.mutable_load()->mutable_requests();
    requests->set_model(v1::REQUEST_MODEL_OPEN);
    requests->set_rate_per_s(rate_per_s);
    requests->set_rate_scope(scope);
    requests->set_arrival(arrival);
    return *this;
  }
  PlanBuilder& Closed(int64_t think_ns) {
    v1::RequestsSpec* requests = plan_.mutable_load()->mutable_requests();
    requests->set_model(v1::REQUEST_MODEL_CLOSED);
    requests->mutable_think()->set_seconds(think_ns / kS);
    requests->mutable_think()->set_nanos(static_cast<int32_t>(think_ns % kS));
    return *this;
  }
  PlanBuilder& Pipeline(uint32_t pipeline) {
    plan_.mutable_load()->mutable_requests()->set_pipeline(pipeline);
    return *this;
  }
  PlanBuilder& Timeout(int64_t seconds) {
    plan_.mutable_load()->mutable_requests()->mutable_timeout()->set_seconds(seconds);
    return *this;
  }
  PlanBuilder& Mcp() {
    plan_.set_protocol(v1::PROTOCOL_MCP_TCP);
    return *this;
  }
  PlanBuilder& Heartbeat(int64_t every_ns, int64_t timeout_ns) {
    v1::HeartbeatSpec* heartbeat = plan_.mutable_load()->mutable_heartbeat();
    heartbeat->mutable_every()->set_seconds(every_ns / kS);
    heartbeat->mutable_every()->set_nanos(static_cast<int32_t>(every_ns % kS));
    heartbeat->mutable_timeout()->set_seconds(timeout_ns / kS);
    heartbeat->mutable_timeout()->set_nanos(static_cast<int32_t>(timeout_ns % kS));
    return *this;
  }
  PlanBuilder& Reconnect() {
    plan_.mutable_load()->mutable_reconnect()->set_enabled(true);
    return *this;
  }
  PlanBuilder& Worker(uint32_t index, uint32_t count) {
    plan_.set_worker_index(index);
    plan_.set_worker_count(count);
    return *this;
  }
  v1::WorkerPlan& plan() { return plan_; }

 private:
  v1::WorkerPlan plan_;
};

}  // namespace loadstar::worker
