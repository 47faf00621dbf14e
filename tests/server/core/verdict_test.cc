#include "server/core/verdict.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
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
  run.mutable_service_time()->set_count(1000);
  run.mutable_service_time()->set_p99_us(5'000);
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

void FailConnects(v1::ErrorKind kind, uint64_t count, v1::Run* run) {
  v1::Counters* counters = run->mutable_totals()->mutable_counters();
  counters->set_connects_attempted(counters->connects_attempted() + count);
  counters->set_connects_failed(count);
  AddError(v1::ERROR_PHASE_CONNECT, kind, count, run);
}

v1::Verdict Of(const v1::Run& run, const Strain& strain = {}) { return Judge({run, strain, 0, 10}).verdict; }

// The notes' codes, one after the other.
std::string NotesOf(const v1::Run& run, const Strain& strain) {
  std::string codes;
  const Judgement judgement = Judge({run, strain, 0, 10});
  for (const v1::Reason& note : judgement.notes) absl::StrAppend(&codes, note.code(), " ");
  return codes;
}
std::string CodesOf(const v1::Run& run, const Strain& strain) {
  std::string codes;
  const v1::Verdict verdict = Of(run, strain);
  for (const v1::Reason& reason : verdict.reasons()) absl::StrAppend(&codes, reason.code(), " ");
  return codes;
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
      {"no-ports", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](v1::Run* run) { FailConnects(v1::ERROR_KIND_NO_PORTS, 3, run); }},
      {"no-descriptors", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](v1::Run* run) { FailConnects(v1::ERROR_KIND_NO_DESCRIPTORS, 3, run); }},
      {"no-memory", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](v1::Run* run) { FailConnects(v1::ERROR_KIND_NO_MEMORY, 3, run); }},
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
  Strain strain;
  strain.workers[0] = {.seconds = 10, .saturated = 5, .saturated_cpu_ns = 4'850, .saturated_ns = 5'000};
  strain.workers[1] = {.seconds = 10};
  v1::Run run = CleanRun();
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_PASSED);
  EXPECT_EQ(NotesOf(run, strain), "workers-saturated ") << "it does not pass unseen";
  run.mutable_schedule_lag()->set_p99_us(2'000);
  const v1::Verdict verdict = Of(run, strain);
  ASSERT_EQ(verdict.reasons_size(), 1);
  EXPECT_EQ(verdict.kind(), v1::VERDICT_KIND_NOT_TRUSTWORTHY);
  EXPECT_EQ(verdict.reasons(0).code(), "generator-saturated");
  EXPECT_EQ(verdict.reasons(0).side(), v1::SIDE_GENERATOR);
  EXPECT_TRUE(absl::StrContains(verdict.reasons(0).message(), "97 % of its core")) << verdict.ShortDebugString();
  strain.workers[0].saturated = 1;
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_PASSED) << "a moment is not the run";
  EXPECT_EQ(NotesOf(run, strain), "");
}

TEST(Verdict, SaturatedWorkerOfAClosedLoopIsToBlameWhenItsTurnsAreWhatTheResultShows) {
  v1::Run run = CleanRun();
  run.mutable_test()->mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_CLOSED);
  // It asks for all that one core can: 250 turns of 4 ms each second.
  Strain strain;
  strain.workers[0] = {.seconds = 10,
                       .saturated = 10,
                       .saturated_cpu_ns = 10'000'000'000,
                       .saturated_ns = 10'000'000'000,
                       .saturated_turns = 2'500};
  run.mutable_service_time()->set_p99_us(17'000);
  EXPECT_EQ(CodesOf(run, strain), "") << "three quarters of the tail are the target's";
  EXPECT_EQ(NotesOf(run, strain), "workers-saturated ");
  run.mutable_service_time()->set_p99_us(15'000);
  ASSERT_EQ(CodesOf(run, strain), "generator-saturated ");
  EXPECT_EQ(NotesOf(run, strain), "");
  const v1::Reason reason = Of(run, strain).reasons(0);
  EXPECT_TRUE(absl::StrContains(reason.message(),
                                "answers waited for a turn of its loop or more, which took 4.000 ms, the "
                                "p99 of service time is 15.000 ms"))
      << reason.message();
  EXPECT_TRUE(absl::StrContains(reason.remedy(), "fewer connections")) << reason.remedy();
  // A probe of what a core can do: turns of 0.8 ms, which are most of a service time that hardly matters.
  strain.workers[0].saturated_turns = 12'500;
  run.mutable_service_time()->set_p99_us(1'000);
  EXPECT_EQ(CodesOf(run, strain), "");
  EXPECT_EQ(NotesOf(run, strain), "workers-saturated ");
  // Connections that are only held wait for no answer.
  strain.workers[0].saturated_turns = 2'500;
  run.clear_service_time();
  EXPECT_EQ(CodesOf(run, strain), "");
  // The open model too, with every connection busy: there is no lag then.
  run.mutable_test()->mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_OPEN);
  run.mutable_service_time()->set_count(1000);
  run.mutable_service_time()->set_p99_us(15'000);
  EXPECT_EQ(CodesOf(run, strain), "generator-saturated ");
}

TEST(Verdict, SaturatedWorkersSayWhichRateWouldDo) {
  // Two workers; in 5 s of saturation one agent's two workers, at 100 % and 96 %, sent 620,000 requests.
  Strain strain;
  strain.workers[0] = {.seconds = 10, .saturated = 5, .saturated_cpu_ns = 5'000'000'000, .saturated_ns = 5'000'000'000};
  strain.workers[1] = {.seconds = 10, .saturated = 5, .saturated_cpu_ns = 4'800'000'000, .saturated_ns = 5'000'000'000};
  strain.saturated_sent = 620'000;
  strain.saturated_due = 700'000;
  strain.saturated_worker_ns = 10'000'000'000;
  v1::Run run = CleanRun();
  run.mutable_schedule_lag()->set_p99_us(4'000);
  run.mutable_test()->mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_OPEN);
  for (auto set :
       {&v1::Counters::set_requests_due, &v1::Counters::set_requests_sent, &v1::Counters::set_requests_answered}) {
    (run.mutable_totals()->mutable_counters()->*set)(1'300'000);
  }
  // 124,000/s at 98 %: 120,204/s at 95 %.
  EXPECT_TRUE(absl::StrContains(Of(run, strain).reasons(0).remedy(), "below about 120k/s"))
      << Of(run, strain).reasons(0).remedy();
  run.set_recorded_s(100);  // of a long ramp: 13,000/s in all, but it kept up with more
  EXPECT_TRUE(absl::StrContains(Of(run, strain).reasons(0).remedy(), "below about 120k/s"))
      << Of(run, strain).reasons(0).remedy();
  run.set_recorded_s(10);
  strain.saturated_due = 500'000;  // a backlog was worked off in those seconds
  EXPECT_TRUE(absl::StrContains(Of(run, strain).reasons(0).remedy(), "below about 97k/s"))
      << Of(run, strain).reasons(0).remedy();
  run.mutable_test()->mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_CLOSED);
  EXPECT_FALSE(absl::StrContains(Of(run, strain).reasons(0).remedy(), "/s")) << "there is no rate to lower";
}

TEST(Verdict, WorkersThatWaitForACoreAreTheHostsFaultWhenTheLatencyShowsIt) {
  Strain strain;
  strain.workers[0] = {.seconds = 10, .starved = 4, .starved_wait_ns = 2'000, .starved_ns = 4'000};
  v1::Run run = CleanRun();
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_PASSED);
  EXPECT_EQ(NotesOf(run, strain), "workers-starved ");
  // Late, but three quarters of the tail are the target's.
  run.mutable_schedule_lag()->set_p99_us(6'000);
  run.mutable_latency()->set_p99_us(24'000);
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_PASSED);
  // Workers that share two cores with the nodes.
  run.mutable_schedule_lag()->set_p99_us(1'800);
  run.mutable_latency()->set_p99_us(4'400);
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_PASSED);
  run.mutable_schedule_lag()->set_p99_us(6'000);
  run.mutable_latency()->set_p99_us(23'000);
  const v1::Verdict verdict = Of(run, strain);
  ASSERT_EQ(verdict.reasons_size(), 1) << verdict.ShortDebugString();
  EXPECT_EQ(verdict.kind(), v1::VERDICT_KIND_NOT_TRUSTWORTHY);
  EXPECT_EQ(verdict.reasons(0).code(), "host-contended");
  EXPECT_EQ(verdict.reasons(0).side(), v1::SIDE_HOST);
  EXPECT_TRUE(absl::StrContains(verdict.reasons(0).message(), "for 50 % of the time")) << verdict.ShortDebugString();
  strain.workers[0].starved = 1;
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_PASSED);
}

TEST(Verdict, WorkersWithoutACoreAreToBlameWhereLagDoesNotSeeIt) {
  v1::Run run = CleanRun();
  Strain starved;
  starved.workers[0] = {
      .seconds = 10, .starved = 4, .starved_wait_ns = 2'400'000'000, .starved_ns = 4'000'000'000, .starved_turns = 800};
  run.mutable_service_time()->set_p99_us(13'000);  // each turn waited 3 ms
  EXPECT_EQ(CodesOf(run, starved), "");
  run.mutable_service_time()->set_p99_us(11'000);
  EXPECT_EQ(CodesOf(run, starved), "host-contended ");
  // All connections were busy: requests waited for answers, and those for the worker.
  run.mutable_service_time()->set_p99_us(100'000);
  run.mutable_totals()->mutable_counters()->set_requests_due(1'300);
  run.mutable_totals()->mutable_counters()->set_requests_dropped(300);
  EXPECT_EQ(CodesOf(run, starved), "target-overloaded ") << "it idled in between: it kept up with its answers";
  starved.workers[0].crowded = 2;
  EXPECT_EQ(CodesOf(run, starved), "host-contended requests-dropped ");
  Strain saturated;
  saturated.workers[0] = {.seconds = 10, .saturated = 4, .saturated_cpu_ns = 99, .saturated_ns = 100};
  EXPECT_EQ(CodesOf(run, saturated), "generator-saturated requests-dropped ");
  EXPECT_EQ(CodesOf(run, {}), "target-overloaded ");
  // It looks again and again whether it may send what is due: its turns have next to nothing to do.
  saturated.workers[0] = {.seconds = 10,
                          .saturated = 10,
                          .saturated_cpu_ns = 10'000'000'000,
                          .saturated_ns = 10'000'000'000,
                          .saturated_turns = 1'250'000};
  run.mutable_service_time()->set_p50_us(20);
  EXPECT_EQ(CodesOf(run, saturated), "generator-saturated requests-dropped ") << "8 of 20 us: few are in flight";
  run.mutable_service_time()->set_p50_us(40'000);
  EXPECT_EQ(CodesOf(run, saturated), "target-overloaded ") << "8 us a turn";
  EXPECT_EQ(NotesOf(run, saturated), "workers-saturated ");
  saturated.workers[0].saturated_turns = 50'000;
  EXPECT_EQ(CodesOf(run, saturated), "generator-saturated requests-dropped ") << "0.2 ms a turn";
}

TEST(Verdict, FiguresThatCameLateAreNoLostWorker) {
  v1::Run run = CleanRun();
  Judgement judgement = Judge({run, {}, 5, 10});
  EXPECT_EQ(judgement.verdict.kind(), v1::VERDICT_KIND_PASSED) << judgement.verdict.ShortDebugString();
  ASSERT_EQ(judgement.notes.size(), 1u);
  EXPECT_EQ(judgement.notes[0].code(), "figures-late");
  run.mutable_verdict()->add_reasons()->set_code("worker-lost");
  judgement = Judge({run, {}, 5, 10});
  EXPECT_EQ(judgement.verdict.kind(), v1::VERDICT_KIND_NOT_CARRIED_OUT);
  EXPECT_TRUE(judgement.notes.empty()) << "the seconds without it are the loss's";
}

TEST(Verdict, WorkerThatStoodStillShowsInALongRunToo) {
  Strain strain;
  strain.workers[0] = {.seconds = 1'000, .stall_ns = 3'000'000'000};
  v1::Run run = CleanRun();
  EXPECT_EQ(NotesOf(run, strain), "worker-late ");
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_PASSED);
  run.mutable_schedule_lag()->set_p999_us(2'500'000);  // of p99 nothing is seen
  run.mutable_latency()->set_p999_us(2'600'000);
  EXPECT_EQ(CodesOf(run, strain), "worker-stalled ");
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_NOT_TRUSTWORTHY);
  strain.workers[0].stall_ns = 400'000'000;
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_PASSED);
}

TEST(Verdict, SkippedRequestsOfAStalledWorkerAreNotTheTargetsFault) {
  Strain strain;
  strain.workers[0] = {.seconds = 10, .stall_ns = 3'000'000'000};
  v1::Run run = CleanRun();
  run.mutable_totals()->mutable_counters()->set_requests_due(1'300);
  run.mutable_totals()->mutable_counters()->set_requests_dropped(300);
  EXPECT_EQ(CodesOf(run, strain), "target-overloaded ");
  run.mutable_test()->mutable_load()->mutable_requests()->set_late_requests(v1::LATE_REQUESTS_SKIP);
  EXPECT_EQ(CodesOf(run, strain), "requests-dropped ");
  EXPECT_EQ(CodesOf(run, {}), "target-overloaded ");
}

// A run under an open model on one node of two processes.
v1::Run NodeRun() {
  v1::Run run = CleanRun();
  run.mutable_test()->mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_OPEN);
  run.mutable_test()->mutable_target()->set_protocol(v1::PROTOCOL_MCP_TCP);
  run.add_endpoints("10.0.0.1:9100");
  run.add_nodes("node1");
  v1::Participant* participant = run.add_participants();
  participant->set_agent("a");
  participant->set_worker_count(1);
  return run;
}

TEST(Verdict, NodeWithoutACoreToSpareIsToBlameWhereLatencySuffered) {
  Strain strain;
  NodeLoad& node = strain.nodes["node1"];
  node.processes = 2;
  node.seconds = 10;
  node.saturated = 6;
  node.cores_most = 1.98;
  v1::Run run = NodeRun();
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_PASSED) << "full, and fast enough";
  EXPECT_EQ(NotesOf(run, strain), "node-saturated ");
  run.mutable_latency()->set_p99_us(600'000);
  EXPECT_EQ(CodesOf(run, strain), "target-saturated ");
  EXPECT_EQ(Of(run, strain).kind(), v1::VERDICT_KIND_FAILED) << "the figures stand";
  EXPECT_EQ(Of(run, strain).reasons(0).side(), v1::SIDE_TARGET);

  // Where the test itself says what latency it takes, that decides.
  v1::ThresholdSpec* threshold = run.mutable_test()->add_thresholds();
  threshold->set_metric("latency.p99");
  threshold->set_comparison(v1::COMPARISON_LT);
  threshold->set_value(1'000'000);
  JudgeThresholds(10, &run);
  EXPECT_EQ(CodesOf(run, strain), "");
  threshold->set_value(500'000);
  JudgeThresholds(10, &run);
  EXPECT_EQ(CodesOf(run, strain), "target-saturated threshold ");

  run.mutable_test()->mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_CLOSED);
  EXPECT_EQ(CodesOf(run, strain), "threshold ") << "a closed loop fills every target";
  run = NodeRun();
  run.mutable_latency()->set_p99_us(600'000);
  node.processes = 0;
  EXPECT_EQ(CodesOf(run, strain), "") << "of how many cores nobody knows";
}

// One row a rule on the host's counters: what the kernel counted, and what is said and noted.
TEST(Verdict, WhatTheKernelCountedIsJudgedByWhatItDidToTheRun) {
  struct Row {
    const char* code;
    const char* note;
    v1::VerdictKind kind;
    std::function<void(HostLoad*, v1::Run*)> spoil;
  };
  const auto late = [](v1::Run* run) { run->mutable_schedule_lag()->set_p99_us(6'000); };
  const Row rows[] = {
      {"listen-overflow ", "", v1::VERDICT_KIND_FAILED,
       [](HostLoad* host, v1::Run*) {
         host->has_nodes = true;
         host->figures.set_listen_overflows(5);
       }},
      {"", "accept-queue ", v1::VERDICT_KIND_PASSED,
       [](HostLoad* host, v1::Run*) { host->figures.set_listen_overflows(5); }},
      {"", "accept-queue ", v1::VERDICT_KIND_PASSED,
       [](HostLoad* host, v1::Run* run) {
         host->has_nodes = true;
         host->figures.set_listen_overflows(5);
         for (const auto set : {&v1::Counters::set_connects_attempted, &v1::Counters::set_connects_established,
                                &v1::Counters::set_connections_closed}) {
           (run->mutable_totals()->mutable_counters()->*set)(100'000);
         }
       }},
      {"conntrack-full ", "", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](HostLoad* host, v1::Run*) { host->figures.set_conntrack_drops(40); }},
      {"", "conntrack ", v1::VERDICT_KIND_PASSED,
       [](HostLoad* host, v1::Run*) {
         host->figures.set_conntrack_count(96);
         host->figures.set_conntrack_max(100);
       }},
      {"socket-memory ", "", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](HostLoad* host, v1::Run*) { host->figures.set_tcp_memory_aborts(2); }},
      {"host-stolen ", "", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [&](HostLoad* host, v1::Run* run) {
         host->stolen = 4;
         late(run);
       }},
      {"", "cores-stolen ", v1::VERDICT_KIND_PASSED, [](HostLoad* host, v1::Run*) { host->stolen = 4; }},
      {"softirq-bound ", "", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [&](HostLoad* host, v1::Run* run) {
         host->softirq_bound = 4;
         host->softirq_bound_cores = 3.2;
         late(run);
       }},
      {"", "softirq-core ", v1::VERDICT_KIND_PASSED, [](HostLoad* host, v1::Run*) { host->softirq_bound = 4; }},
      {"packet-loss ", "", v1::VERDICT_KIND_NOT_TRUSTWORTHY,
       [](HostLoad* host, v1::Run* run) {
         host->figures.set_tcp_timeouts(11);
         run->mutable_latency()->set_p99_us(210'000);
       }},
      {"", "", v1::VERDICT_KIND_PASSED, [](HostLoad* host, v1::Run*) { host->figures.set_tcp_timeouts(11); }},
      {"", "accept-queue ", v1::VERDICT_KIND_PASSED,
       [](HostLoad* host, v1::Run* run) {  // SYNs that a listener dropped, and were sent again
         host->figures.set_tcp_timeouts(11);
         host->figures.set_listen_overflows(10);
         host->figures.set_listen_drops(10);
         run->mutable_latency()->set_p99_us(210'000);
       }},
      {"", "retransmits ", v1::VERDICT_KIND_PASSED,
       [](HostLoad* host, v1::Run*) {
         host->figures.set_segments_sent(1'000);
         host->figures.set_segments_retransmitted(11);
       }},
  };
  for (const Row& row : rows) {
    v1::Run run = NodeRun();
    Strain strain;
    HostLoad& host = strain.hosts["a"];
    host.seconds = 10;
    row.spoil(&host, &run);
    EXPECT_EQ(CodesOf(run, strain), row.code) << row.note;
    EXPECT_EQ(NotesOf(run, strain), row.note) << row.code;
    EXPECT_EQ(Of(run, strain).kind(), row.kind) << row.code << row.note;
  }
}

TEST(Verdict, InterruptsThatBindACoreAreToldOfTheSecondsInWhichTheyDid) {
  v1::Run run = NodeRun();
  Strain strain;
  HostLoad& host = strain.hosts["a"];
  host.seconds = 10;
  host.softirq_bound = 4;
  host.softirq_bound_cores = 3.2;
  host.figures.set_cores(4);
  host.figures.set_cpu_ns(40'000);
  host.figures.set_cpu_softirq_ns(3'500);  // 35 % of a core on average, which would bind none
  const Judgement judgement = Judge({run, strain, 0, 10});
  ASSERT_EQ(judgement.notes.size(), 1u);
  EXPECT_TRUE(absl::StrContains(judgement.notes[0].message(),
                                "in 40 % of the seconds one core was full on the host of agent a and interrupts took "
                                "80 % of a core"))
      << judgement.notes[0].message();
}

TEST(Verdict, TargetOnLoopbackIsOnTheWorkersHost) {
  v1::Run run = NodeRun();
  Strain strain;
  strain.hosts["a"].figures.set_listen_overflows(5);
  EXPECT_EQ(CodesOf(run, strain), "");
  run.set_endpoints(0, "127.0.0.1:9100");
  EXPECT_EQ(CodesOf(run, strain), "listen-overflow ");
  run.mutable_participants(0)->set_worker_count(0);
  EXPECT_EQ(CodesOf(run, strain), "") << "it only watches: that loopback is another's";
}

TEST(Verdict, FullQueuesOfTheLoopAreNoted) {
  Strain strain;
  strain.workers[0] = {.seconds = 10, .loop_turns = 1'000, .queue_overflows = 10};
  EXPECT_EQ(NotesOf(CleanRun(), strain), "");
  strain.workers[0].queue_overflows = 11;
  EXPECT_EQ(NotesOf(CleanRun(), strain), "loop-queues ");
  EXPECT_EQ(Of(CleanRun(), strain).kind(), v1::VERDICT_KIND_PASSED);
}

TEST(Verdict, NodesOwnCountersThatDisagreeAreNoted) {
  const auto figures = [](uint64_t connections, uint64_t accepted, uint64_t requests) {
    v1::NodeFigures node;
    node.set_connections(connections);
    node.set_accepted_total(accepted);
    node.set_requests_total(requests);
    return node;
  };
  v1::Run run = NodeRun();
  const auto notes = [&](const v1::NodeFigures& before, const v1::NodeFigures& after) {
    Strain strain;
    strain.nodes["node1"].before = before;
    strain.nodes["node1"].after = after;
    return NotesOf(run, strain);
  };
  EXPECT_EQ(notes(figures(0, 7, 50), figures(0, 107, 1050)), "");
  EXPECT_EQ(notes(figures(0, 7, 50), figures(0, 107, 1049)), "ledger-target ") << "one request that it never saw";
  EXPECT_EQ(notes(figures(0, 7, 50), figures(0, 107, 1051)), "ledger-target ") << "one too many";
  EXPECT_EQ(notes(figures(0, 7, 50), figures(0, 108, 1050)), "ledger-target ");
  EXPECT_EQ(notes(figures(1, 7, 50), figures(0, 108, 1050)), "") << "another client was there";
  EXPECT_EQ(notes(figures(0, 7, 50), figures(2, 108, 1050)), "") << "somebody still is";
  EXPECT_EQ(notes(figures(0, 700, 5000), figures(0, 100, 1000)), "") << "it was started again";
  // Requests that failed may have been received or not.
  v1::Counters* counters = run.mutable_totals()->mutable_counters();
  counters->set_requests_answered(990);
  counters->set_requests_failed(10);
  AddError(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_REQUEST_TIMEOUT, 10, &run);
  EXPECT_EQ(notes(figures(0, 7, 50), figures(0, 107, 1045)), "");
  EXPECT_EQ(notes(figures(0, 7, 50), figures(0, 107, 1039)), "ledger-target ");
  // Echoed bytes have no requests in them.
  run.mutable_test()->mutable_target()->set_protocol(v1::PROTOCOL_TCP);
  run.mutable_test()->mutable_target()->mutable_tcp()->set_payload_bytes(64);
  counters->set_bytes_sent(64'000);
  v1::NodeFigures before = figures(0, 7, 50);
  v1::NodeFigures after = figures(0, 107, 51);
  before.set_bytes_received_total(100);
  after.set_bytes_received_total(64'100);
  EXPECT_EQ(notes(before, after), "");
  after.set_bytes_received_total(64'101);
  EXPECT_EQ(notes(before, after), "ledger-target ");
  run.add_nodes("node2");
  EXPECT_EQ(notes(before, after), "") << "of one node nothing is known";
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
