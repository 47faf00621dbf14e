// A run with two nodes, as a coordinator streams it.
#pragma once

#include "lib/metrics/histogram.h"
#include "loadstar/v1/metrics.pb.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::client::terminal {

inline v1::Run SampleRun() {
  v1::Run run;
  run.set_run_id("smoke-20261124-204033");
  run.set_state(v1::RUN_STATE_RUNNING);
  run.mutable_test()->set_name("smoke");
  auto* ramp = run.mutable_test()->mutable_load()->add_connections();
  ramp->mutable_duration()->set_seconds(60);
  ramp->set_to_connections(100'000);
  auto* hold = run.mutable_test()->mutable_load()->add_connections();
  hold->mutable_duration()->set_seconds(60);
  hold->set_to_connections(100'000);
  hold->set_hold(true);
  run.add_endpoints("127.0.0.1:9100");
  run.add_endpoints("127.0.0.1:9101");
  run.add_nodes("node1");
  run.add_nodes("node2");
  run.mutable_planned_duration()->set_seconds(120);
  return run;
}

// Second `second` of it: 300 requests of 1 ms and a few of 20 ms on node1.
inline v1::Snapshot SampleSnapshot(uint32_t second) {
  v1::Snapshot snapshot;
  snapshot.set_run_id("smoke-20261124-204033");
  snapshot.set_from_elapsed_s(second);
  snapshot.set_to_elapsed_s(second);
  snapshot.set_stage_index(second < 60 ? 0 : 1);
  snapshot.set_planned_s(120);
  auto* counters = snapshot.mutable_figures()->mutable_counters();
  counters->set_requests_due(19'998);
  counters->set_requests_sent(19'996);
  counters->set_requests_answered(19'990);
  counters->set_connects_failed(2);
  counters->set_connections_lost(1);
  auto* gauges = snapshot.mutable_figures()->mutable_gauges();
  gauges->set_connections_target(75'000);
  gauges->set_connections_established(74'998);
  gauges->set_connections_pending(2);
  gauges->set_requests_outstanding(6);
  gauges->set_requests_backlog(2);
  auto* refused = snapshot.mutable_figures()->add_errors();
  refused->set_phase(v1::ERROR_PHASE_CONNECT);
  refused->set_kind(v1::ERROR_KIND_REFUSED);
  refused->set_count(2);
  auto* reset = snapshot.mutable_figures()->add_errors();
  reset->set_phase(v1::ERROR_PHASE_CONNECTION);
  reset->set_kind(v1::ERROR_KIND_RESET);
  reset->set_count(1);
  metrics::Histogram histogram;
  histogram.Record(1'000, 300);
  histogram.Record(20'000, 10);
  *snapshot.mutable_latency() = histogram.ToPercentiles();
  *snapshot.mutable_service_time() = histogram.ToPercentiles();
  metrics::Histogram lag;
  lag.Record(50, 310);
  *snapshot.mutable_schedule_lag() = lag.ToPercentiles();
  auto* node1 = snapshot.add_endpoints();
  node1->set_endpoint("127.0.0.1:9100");
  node1->set_node("node1");
  node1->mutable_gauges()->set_connections_established(37'499);
  node1->mutable_counters()->set_requests_answered(9'995);
  histogram.ToProto(node1->mutable_latency());
  auto* own = snapshot.add_nodes();
  own->set_node("node1");
  own->set_reachable(true);
  own->set_connections(37'499);
  return snapshot;
}

}  // namespace loadstar::client::terminal
