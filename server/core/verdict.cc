#include "server/core/verdict.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/core/thresholds.h"
#include "server/core/wire_time.h"

namespace loadstar::server {
namespace {

using Reasons = std::vector<v1::Reason>;

size_t RankOf(absl::string_view code) {
  const auto* rule = std::find_if(std::begin(kRules), std::end(kRules), [&](const Rule& r) { return r.code == code; });
  return static_cast<size_t>(rule - std::begin(kRules));
}

bool Has(const Reasons& reasons, absl::string_view code) {
  return std::any_of(reasons.begin(), reasons.end(), [&](const v1::Reason& reason) { return reason.code() == code; });
}

double Ms(uint64_t us) { return static_cast<double>(us) / 1000; }

void JudgeCompleteness(const RunFacts& facts, Reasons* reasons) {
  const v1::Run& run = facts.run;
  if (!Has(*reasons, "worker-lost") && facts.seconds_without_worker > 0) {
    reasons->push_back(MakeReason("worker-lost", absl::StrCat("in ", facts.seconds_without_worker,
                                                              " seconds an agent had no figures of some worker")));
  }
  if (run.gaps_size() > 0 && !Has(*reasons, "agent-lost")) {
    const auto shown = std::min(run.gaps_size(), 10);
    reasons->push_back(MakeReason(
        "gap", absl::StrCat(
                   "seconds that never arrived: ", absl::StrJoin(run.gaps().begin(), run.gaps().begin() + shown, ", "),
                   shown < run.gaps_size() ? absl::StrCat(" and ", run.gaps_size() - shown, " more") : "")));
  }
  // Only a run with nothing else to say for itself ended early by itself.
  if (reasons->empty() && run.recorded_s() + 1 < facts.planned_s) {
    reasons->push_back(MakeReason(
        "ended-early", absl::StrCat("figures of ", run.recorded_s(), " seconds of ", facts.planned_s, " planned")));
  }
}

void JudgeGenerator(const RunFacts& facts, Reasons* reasons) {
  const v1::Run& run = facts.run;
  std::map<std::string, uint64_t> own_errors;
  for (const v1::ErrorCount& error : run.totals().errors()) {
    if (error.kind() == v1::ERROR_KIND_NO_DESCRIPTORS) own_errors["no descriptors"] += error.count();
    if (error.kind() == v1::ERROR_KIND_NO_PORTS) own_errors["no ports"] += error.count();
    if (error.kind() == v1::ERROR_KIND_NO_MEMORY) own_errors["no memory"] += error.count();
  }
  for (const auto& [limit, count] : own_errors) {
    reasons->push_back(MakeReason("generator-errors", absl::StrCat(limit, ": ", count, " connects failed by it")));
  }
  const uint64_t lag_us = run.schedule_lag().count() > 0 ? run.schedule_lag().p99_us() : 0;
  uint32_t saturated = 0;
  double worst = 0;
  for (const auto& [worker, load] : facts.worker_loads) {
    const double share = load.seconds == 0 ? 0 : static_cast<double>(load.saturated) / load.seconds;
    if (share > kSaturatedShare) ++saturated;
    worst = std::max(worst, share);
  }
  if (saturated > 0 && lag_us > kSaturatedLagUs) {
    reasons->push_back(MakeReason(
        "generator-saturated",
        absl::StrFormat("%d of %d workers used more than 95 %% of a core, the worst in %.0f %% of its seconds, and the "
                        "p99 of schedule lag is %.3f ms",
                        saturated, facts.worker_loads.size(), worst * 100, Ms(lag_us))));
  }
  if (lag_us > std::max(kScheduleLagFloorUs, run.latency().p99_us() / 2)) {
    reasons->push_back(MakeReason("schedule-lag", absl::StrFormat("p99 of schedule lag %.3f ms, of latency %.3f ms",
                                                                  Ms(lag_us), Ms(run.latency().p99_us()))));
  }
  const uint64_t dropped = run.totals().counters().requests_dropped();
  const uint64_t due = run.totals().counters().requests_due();
  if (static_cast<double>(dropped) > kDroppedShare * static_cast<double>(due) && !Has(*reasons, "worker-lost") &&
      !Has(*reasons, "stop-requested")) {
    const bool late = lag_us > kScheduleLagFloorUs;
    reasons->push_back(
        MakeReason(late ? "requests-dropped" : "target-overloaded", absl::StrCat(dropped, " of ", due,
                                                                                 " requests that were due were "
                                                                                 "never sent")));
  }
  for (const v1::Participant& participant : run.participants()) {
    if (!participant.has_started_at() || !run.has_start_at() || participant.worker_count() == 0) continue;
    const double late_s = absl::ToDoubleSeconds(FromWire(participant.started_at()) - FromWire(run.start_at()));
    if (late_s > kLateStartS) {
      reasons->push_back(MakeReason(
          "late-start", absl::StrFormat("agent %s began %.3f s after the common start", participant.agent(), late_s)));
    }
  }
}

void JudgeConnections(const v1::Run& run, Reasons* reasons) {
  const bool judged_by_test = std::any_of(run.thresholds().begin(), run.thresholds().end(), [](const auto& result) {
    return result.threshold().metric() == "connections.lost" || result.threshold().metric() == "connections.failed";
  });
  // With a rate per connection the requests of a connection that is not there wait until it comes back, and what they
  // waited, or that they were never sent, says it.
  const v1::LoadSpec& load = run.test().load();
  const bool judged_by_requests = load.reconnect().enabled() && load.requests().model() == v1::REQUEST_MODEL_OPEN &&
                                  load.requests().rate_scope() == v1::RATE_SCOPE_PER_CONNECTION;
  const v1::Counters& counters = run.totals().counters();
  const uint64_t gone = counters.connections_lost() + counters.connects_failed();
  // Graver reasons say it already.
  if (judged_by_test || judged_by_requests || Has(*reasons, "worker-lost") || Has(*reasons, "stop-requested") ||
      Has(*reasons, "target-refuses") || Has(*reasons, "generator-errors") ||
      static_cast<double>(gone) <= kLostShare * static_cast<double>(counters.connects_attempted())) {
    return;
  }
  reasons->push_back(
      MakeReason("connections-lost",
                 absl::StrCat(counters.connections_lost(), " connections were lost and ", counters.connects_failed(),
                              " connects failed, of ", counters.connects_attempted(), " attempted")));
}

// The ledgers of metrics.proto over the whole run. They can only close over complete figures.
void JudgeLedgers(const v1::Run& run, Reasons* reasons) {
  if (run.gaps_size() > 0 || !run.has_totals() || Has(*reasons, "agent-lost") || Has(*reasons, "worker-lost") ||
      Has(*reasons, "drain-timeout") || Has(*reasons, "samples-malformed")) {
    return;
  }
  const v1::Counters& c = run.totals().counters();
  const v1::Gauges& g = run.totals().gauges();
  std::map<v1::ErrorPhase, uint64_t> errors;
  for (const v1::ErrorCount& error : run.totals().errors()) errors[error.phase()] += error.count();
  struct Ledger {
    absl::string_view left_name;
    uint64_t left;
    absl::string_view right_name;
    uint64_t right;
  };
  const Ledger ledgers[] = {
      {"connects attempted", c.connects_attempted(), "established + failed + pending",
       c.connects_established() + c.connects_failed() + g.connections_pending()},
      {"connections established", c.connects_established(), "closed + lost + open at the end",
       c.connections_closed() + c.connections_lost() + g.connections_established()},
      {"requests sent", c.requests_sent(), "answered + failed + outstanding",
       c.requests_answered() + c.requests_failed() + g.requests_outstanding()},
      {"requests due", c.requests_due(), "sent + dropped + backlog",
       c.requests_sent() + c.requests_dropped() + g.requests_backlog()},
      {"heartbeats sent", c.heartbeats_sent(), "answered + failed", c.heartbeats_answered() + c.heartbeats_failed()},
      {"connects failed", c.connects_failed(), "their errors by kind", errors[v1::ERROR_PHASE_CONNECT]},
      {"connections lost", c.connections_lost(), "their errors by kind", errors[v1::ERROR_PHASE_CONNECTION]},
      {"requests failed", c.requests_failed(), "their errors by kind", errors[v1::ERROR_PHASE_REQUEST]},
  };
  for (const Ledger& ledger : ledgers) {
    if (ledger.left == ledger.right) continue;
    reasons->push_back(MakeReason(
        "ledger", absl::StrCat(ledger.left_name, " ", ledger.left, ", but ", ledger.right_name, " ", ledger.right)));
  }
}

}  // namespace

v1::Reason MakeReason(absl::string_view code, absl::string_view message) {
  v1::Reason reason;
  reason.set_code(std::string(code));
  reason.set_message(std::string(message));
  const size_t rank = RankOf(code);
  if (rank < std::size(kRules)) {
    reason.set_side(kRules[rank].side);
    reason.set_remedy(std::string(kRules[rank].remedy));
  }
  return reason;
}

v1::Verdict Judge(const RunFacts& facts) {
  Reasons reasons(facts.run.verdict().reasons().begin(), facts.run.verdict().reasons().end());
  JudgeCompleteness(facts, &reasons);
  if (facts.run.has_totals()) {
    JudgeGenerator(facts, &reasons);
    JudgeConnections(facts.run, &reasons);
    JudgeLedgers(facts.run, &reasons);
  }
  const bool stopped = Has(reasons, "stop-requested");
  for (const v1::ThresholdResult& result : facts.run.thresholds()) {
    if (!stopped && !result.held()) reasons.push_back(MakeReason("threshold", Describe(result)));
  }
  std::stable_sort(reasons.begin(), reasons.end(),
                   [](const v1::Reason& a, const v1::Reason& b) { return RankOf(a.code()) < RankOf(b.code()); });

  v1::Verdict verdict;
  verdict.set_kind(v1::VERDICT_KIND_PASSED);
  if (stopped) {
    verdict.set_kind(v1::VERDICT_KIND_STOPPED);
  } else if (!reasons.empty()) {
    const size_t rank = RankOf(reasons.front().code());
    // A reason without a rule must not pass unseen.
    verdict.set_kind(rank < std::size(kRules) ? kRules[rank].kind : v1::VERDICT_KIND_NOT_TRUSTWORTHY);
  }
  for (v1::Reason& reason : reasons) *verdict.add_reasons() = std::move(reason);
  return verdict;
}

}  // namespace loadstar::server
