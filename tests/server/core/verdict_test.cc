#include "server/core/verdict.h"

#include <gtest/gtest.h>

#include <functional>

#include "server/core/thresholds.h"

namespace loadstar::server {
namespace {

// A run of ten seconds with nothing wrong.
v1::Run CleanRun() {
  v1::Run run;
  run.set_recorded_s(10);
  run.set_peak_connections(100);
  v1::Counters* c = run.mutable_totals()->mutable_counters();
  c->set_connects_attempted(100);
  c->set_connects_established(100);
  c->set_connections_closed(100);
  c->set_requests_due(1000);
  c->set_requests_sent(1000);
  c->set_requests_answered(1000);
  run.mutable_latency()->set_count(1000);
  run.mutable_latency()->set_p99_us(5'000);
  run.mutable_schedule_lag()->set_count(1000);
  run.mutable_schedule_lag()->set_p99_us(100);
  return run;
}

void AddError(v1::ErrorPhase phase, v1::ErrorKind kind, uint64_t count, v1::Run* run) {
  v1::ErrorCount* error = run->mutable_totals()->add_errors();
  error->set_phase(phase);
  error->set_kind(kind);
  error->set_count(count);
}

v1::Verdict Of(const v1::Run& run, const std::map<uint32_t, WorkerLoad>& loads = {}) {
  return Judge({run, loads, 0, 10});
}

TEST(Verdict, NothingWrongIsPassed) {
  const v1::Verdict verdict = Of(CleanRun());
  EXPECT_EQ(verdict.kind(), v1::VERDICT_KIND_PASSED) << verdict.ShortDebugString();
  EXPECT_EQ(verdict.reasons_size(), 0);
}

TEST(Verdict, LostConnectionsAreJudgedByTheirRequestsWhereThoseWaitedForTheReconnect) {
  v1::Run run = CleanRun();
  run.mutable_totals()->mutable_counters()->set_connections_closed(90);
  run.mutable_totals()->mutable_counters()->set_connections_lost(10);
  AddError(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_RESET, 10, &run);
  v1::LoadSpec* load = run.mutable_test()->mutable_load();
  load->mutable_requests()->set_model(v1::REQUEST_MODEL_OPEN);
  load->mutable_requests()->set_rate_scope(v1::RATE_SCOPE_PER_CONNECTION);
  EXPECT_EQ(Of(run).kind(), v1::VERDICT_KIND_FAILED) << "without reconnect";
  load->mutable_reconnect()->set_enabled(true);
  EXPECT_EQ(Of(run).kind(), v1::VERDICT_KIND_PASSED) << Of(run).ShortDebugString();
  load->mutable_requests()->set_rate_scope(v1::RATE_SCOPE_TOTAL);
  EXPECT_EQ(Of(run).kind(), v1::VERDICT_KIND_FAILED) << "others took their requests over";
  load->mutable_requests()->set_model(v1::REQUEST_MODEL_CLOSED);
  load->mutable_requests()->set_rate_scope(v1::RATE_SCOPE_UNSPECIFIED);
  EXPECT_EQ(Of(run).kind(), v1::VERDICT_KIND_FAILED) << "nobody knows what they would have asked for";
  load->clear_requests();
  EXPECT_EQ(Of(run).kind(), v1::VERDICT_KIND_FAILED);
}

// One row a rule: what spoils the run, and what is then said.
TEST(Verdict, EachRuleHasItsReason) {
  struct Row {
    const char* code;
    v1::VerdictKind kind;
    std::function<void(v1::Run*)> spoil;
  };
  const Row rows[] = {
      {"gap", v1::VERDICT_KIND_NOT_CARRIED_OUT, [](v1::Run* run) { run->add_gaps("a:3-4"); }},
      {"ended-early", v1::VERDICT_KIND_NOT_CARRIED_OUT, [](v1::Run* run) { run->set_recorded_s(5); }},
      {"generator-errors", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](v1::Run* run) {
         run->mutable_totals()->mutable_counters()->set_connects_attempted(103);
         run->mutable_totals()->mutable_counters()->set_connects_failed(3);
         AddError(v1::ERROR_PHASE_CONNECT, v1::ERROR_KIND_NO_PORTS, 3, run);
       }},
      {"schedule-lag", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](v1::Run* run) { run->mutable_schedule_lag()->set_p99_us(12'000); }},
      {"requests-dropped", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](v1::Run* run) {
         run->mutable_totals()->mutable_counters()->set_requests_due(1100);
         run->mutable_totals()->mutable_counters()->set_requests_dropped(100);
         run->mutable_schedule_lag()->set_p99_us(12'000);
         run->mutable_latency()->set_p99_us(40'000);
       }},
      {"target-overloaded", v1::VERDICT_KIND_FAILED,
       [](v1::Run* run) {
         run->mutable_totals()->mutable_counters()->set_requests_due(1100);
         run->mutable_totals()->mutable_counters()->set_requests_dropped(100);
       }},
      {"connections-lost", v1::VERDICT_KIND_FAILED,
       [](v1::Run* run) {
         run->mutable_totals()->mutable_counters()->set_connections_closed(99);
         run->mutable_totals()->mutable_counters()->set_connections_lost(1);
         AddError(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_RESET, 1, run);
       }},
      {"ledger", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](v1::Run* run) { run->mutable_totals()->mutable_counters()->set_requests_answered(999); }},
      {"ledger", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](v1::Run* run) { run->mutable_totals()->mutable_counters()->set_connections_closed(99); }},
      {"ledger", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](v1::Run* run) {  // failed requests without their kinds
         run->mutable_totals()->mutable_counters()->set_requests_answered(990);
         run->mutable_totals()->mutable_counters()->set_requests_failed(10);
       }},
      {"late-start", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](v1::Run* run) {
         run->mutable_start_at()->set_seconds(1000);
         run->add_participants()->set_worker_count(1);
         run->mutable_participants(0)->mutable_started_at()->set_seconds(1002);
       }},
      {"threshold", v1::VERDICT_KIND_FAILED,
       [](v1::Run* run) {
         v1::ThresholdSpec* threshold = run->mutable_test()->add_thresholds();
         threshold->set_metric("latency.p99");
         threshold->set_comparison(v1::COMPARISON_LT);
         threshold->set_value(5'000);
         JudgeThresholds(10, run);
       }},
  };
  for (const Row& row : rows) {
    v1::Run run = CleanRun();
    row.spoil(&run);
    const v1::Verdict verdict = Of(run);
    ASSERT_EQ(verdict.reasons_size(), 1) << row.code << ": " << verdict.ShortDebugString();
    EXPECT_EQ(verdict.reasons(0).code(), row.code);
    EXPECT_FALSE(verdict.reasons(0).message().empty());
    EXPECT_EQ(verdict.kind(), row.kind) << row.code;
  }
}

TEST(Verdict, LostConnectionsAreTheTestsOwnMatterWhenItHasAThresholdOnThem) {
  v1::Run run = CleanRun();
  run.mutable_totals()->mutable_counters()->set_connections_closed(99);
  run.mutable_totals()->mutable_counters()->set_connections_lost(1);
  AddError(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_RESET, 1, &run);
  v1::ThresholdSpec* threshold = run.mutable_test()->add_thresholds();
  threshold->set_metric("connections.lost");
  threshold->set_comparison(v1::COMPARISON_LE);
  threshold->set_value(5);
  JudgeThresholds(10, &run);
  EXPECT_EQ(Of(run).kind(), v1::VERDICT_KIND_PASSED);
}

TEST(Verdict, TheGravestReasonDecidesAndComesFirst) {
  v1::Run run = CleanRun();
  run.mutable_schedule_lag()->set_p99_us(50'000);
  *run.mutable_verdict()->add_reasons() = MakeReason("worker-lost", "agent a: worker 1 ended: killed by signal 9");
  const v1::Verdict verdict = Of(run);
  EXPECT_EQ(verdict.kind(), v1::VERDICT_KIND_NOT_CARRIED_OUT);
  ASSERT_EQ(verdict.reasons_size(), 2);
  EXPECT_EQ(verdict.reasons(0).code(), "worker-lost");
  EXPECT_EQ(verdict.reasons(1).code(), "schedule-lag");
}

TEST(Verdict, StoppedRunIsStoppedAndItsThresholdsAreNotJudged) {
  v1::Run run = CleanRun();
  run.set_recorded_s(3);
  v1::ThresholdSpec* threshold = run.mutable_test()->add_thresholds();
  threshold->set_metric("connections.peak");
  threshold->set_comparison(v1::COMPARISON_GE);
  threshold->set_value(1'000'000);
  JudgeThresholds(3, &run);
  *run.mutable_verdict()->add_reasons() = MakeReason("stop-requested", "stopped by request 3 s after its start");
  const v1::Verdict verdict = Of(run);
  EXPECT_EQ(verdict.kind(), v1::VERDICT_KIND_STOPPED);
  EXPECT_EQ(verdict.reasons_size(), 1) << verdict.ShortDebugString();
}

TEST(Verdict, BusyWorkerIsOnlySaidToBeSaturatedWhenItWasLate) {
  const std::map<uint32_t, WorkerLoad> busy = {{0, {10, 5}}, {1, {10, 0}}};
  v1::Run run = CleanRun();
  EXPECT_EQ(Of(run, busy).kind(), v1::VERDICT_KIND_PASSED);
  run.mutable_schedule_lag()->set_p99_us(2'000);
  const v1::Verdict verdict = Of(run, busy);
  ASSERT_EQ(verdict.reasons_size(), 1);
  EXPECT_EQ(verdict.reasons(0).code(), "generator-saturated");
}

TEST(Thresholds, WhatWasNotMeasuredDoesNotHold) {
  v1::Run run = CleanRun();
  run.clear_latency();
  v1::ThresholdSpec* threshold = run.mutable_test()->add_thresholds();
  threshold->set_metric("latency.p99");
  threshold->set_comparison(v1::COMPARISON_LT);
  threshold->set_value(1e9);
  JudgeThresholds(10, &run);
  EXPECT_FALSE(run.thresholds(0).has_measured());
  EXPECT_FALSE(run.thresholds(0).held());
}

TEST(Thresholds, EveryMetricIsMeasured) {
  v1::Run run = CleanRun();
  for (v1::Percentiles* p : {run.mutable_service_time(), run.mutable_connect_time(), run.mutable_handshake_time()}) {
    p->set_count(1);
  }
  for (const char* family : {"latency", "service_time", "schedule_lag", "connect_time", "handshake_time"}) {
    for (const char* which : {"p50", "p90", "p95", "p99", "p999", "max", "mean"}) {
      EXPECT_TRUE(Measure(std::string(family) + "." + which, run, 10).has_value()) << family << which;
    }
  }
  EXPECT_EQ(Measure("errors.ratio", run, 10), 0.0);
  EXPECT_EQ(Measure("connections.peak", run, 10), 100.0);
  EXPECT_EQ(Measure("requests.rate", run, 10), 100.0);
  EXPECT_EQ(Measure("requests.answered", run, 10), 1000.0);
  EXPECT_EQ(Measure("connections.failed", run, 10), 0.0);
  EXPECT_EQ(Measure("connections.lost", run, 10), 0.0);
  EXPECT_EQ(Measure("requests.failed", run, 10), 0.0);
  EXPECT_FALSE(Measure("latency.p42", run, 10).has_value());
}

}  // namespace
}  // namespace loadstar::server
