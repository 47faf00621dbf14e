#include "server/core/verdict.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/core/findings.h"
#include "server/core/thresholds.h"

namespace loadstar::server {
namespace {

void JudgeCompleteness(const RunFacts& facts, Findings* findings) {
  const v1::Run& run = facts.run;
  // Of a worker that died the loss tells. One that is only late delivers every second in the end.
  if (!findings->Has("worker-lost") && facts.seconds_without_worker > 0) {
    findings->Add(
        "figures-late",
        absl::StrCat("in ", facts.seconds_without_worker,
                     " seconds the figures of some worker did not reach its agent in time and count in a later "
                     "one: what was held, sent and answered is off in these, and right in all"));
  }
  if (run.gaps_size() > 0 && !findings->Has("agent-lost")) {
    const auto shown = std::min(run.gaps_size(), 10);
    findings->Add(
        "gap", absl::StrCat(
                   "seconds that never arrived: ", absl::StrJoin(run.gaps().begin(), run.gaps().begin() + shown, ", "),
                   shown < run.gaps_size() ? absl::StrCat(" and ", run.gaps_size() - shown, " more") : ""));
  }
  // Only a run with nothing else to say for itself ended early by itself.
  if (findings->empty() && run.recorded_s() + 1 < facts.planned_s) {
    findings->Add("ended-early",
                  absl::StrCat("figures of ", run.recorded_s(), " seconds of ", facts.planned_s, " planned"));
  }
}

void JudgeConnections(const v1::Run& run, Findings* findings) {
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
  const std::array<absl::string_view, 7> graver = {"worker-lost",    "stop-requested", "target-refuses", "no-ports",
                                                   "no-descriptors", "no-memory",      "conntrack-full"};
  const bool said = std::any_of(graver.begin(), graver.end(), [&](auto code) { return findings->Has(code); });
  if (judged_by_test || judged_by_requests || said ||
      static_cast<double>(gone) <= kLostShare * static_cast<double>(counters.connects_attempted())) {
    return;
  }
  findings->Add("connections-lost",
                absl::StrCat(counters.connections_lost(), " connections were lost and ", counters.connects_failed(),
                             " connects failed, of ", counters.connects_attempted(), " attempted"));
}

// The ledgers of metrics.proto over the whole run. They can only close over complete figures.
void JudgeLedgers(const v1::Run& run, Findings* findings) {
  if (run.gaps_size() > 0 || !run.has_totals() || findings->Has("agent-lost") || findings->Has("worker-lost") ||
      findings->Has("drain-timeout") || findings->Has("samples-malformed")) {
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
    findings->Add("ledger",
                  absl::StrCat(ledger.left_name, " ", ledger.left, ", but ", ledger.right_name, " ", ledger.right));
  }
}

}  // namespace

const Rule* FindRule(absl::string_view code) {
  const auto* rule = std::find_if(std::begin(kRules), std::end(kRules), [&](const Rule& r) { return r.code == code; });
  return rule == std::end(kRules) ? nullptr : rule;
}

size_t RankOf(absl::string_view code) {
  const Rule* rule = FindRule(code);
  return rule == nullptr ? std::size(kRules) : static_cast<size_t>(rule - std::begin(kRules));
}

v1::Reason MakeReason(absl::string_view code, absl::string_view message) {
  v1::Reason reason;
  reason.set_code(std::string(code));
  reason.set_message(std::string(message));
  if (const Rule* rule = FindRule(code)) {
    reason.set_side(rule->side);
    reason.set_remedy(std::string(rule->remedy));
  }
  return reason;
}

Judgement Judge(const RunFacts& facts) {
  Findings findings(facts.run.verdict());
  JudgeCompleteness(facts, &findings);
  if (facts.run.has_totals()) {
    JudgeWorkers(facts, &findings);
    JudgeHosts(facts, &findings);
    JudgeNodes(facts, &findings);
    JudgeConnections(facts.run, &findings);
    JudgeLedgers(facts.run, &findings);
    JudgeTargetLedger(facts, &findings);
  }
  const bool stopped = findings.Has("stop-requested");
  for (const v1::ThresholdResult& result : facts.run.thresholds()) {
    if (!stopped && !result.held()) findings.Add("threshold", Describe(result));
  }
  return findings.Judged();
}

}  // namespace loadstar::server
