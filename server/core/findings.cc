#include "server/core/findings.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/core/wire_time.h"
#include "server/core/words.h"

namespace loadstar::server {
namespace {

double Ms(uint64_t us) { return static_cast<double>(us) / 1000; }
std::string Percent(double ratio) { return absl::StrFormat("%.0f %%", ratio * 100); }
// As people say a rate: "61k/s".
std::string RateWords(double per_s) {
  if (per_s >= 1'000'000) return absl::StrFormat("%.1fM/s", per_s / 1'000'000);
  return per_s >= 10'000 ? absl::StrFormat("%.0fk/s", per_s / 1000) : absl::StrFormat("%.0f/s", per_s);
}

uint64_t LagUs(const v1::Run& run) { return run.schedule_lag().count() > 0 ? run.schedule_lag().p99_us() : 0; }

// The workers were late by what they had no core for, and so much that the result shows it.
bool ContentionShows(const v1::Run& run) {
  const uint64_t lag_us = LagUs(run);
  return lag_us > kContendedLagUs &&
         static_cast<double>(lag_us) > kContendedLagOfLatency * static_cast<double>(run.latency().p99_us());
}

// So many requests were never sent that what held them up is what the run measured.
bool DroppedMany(const v1::Run& run) {
  const v1::Counters& counters = run.totals().counters();
  return static_cast<double>(counters.requests_dropped()) >
         kDroppedShare * static_cast<double>(counters.requests_due());
}

std::string LagWords(const v1::Run& run) {
  if (run.schedule_lag().count() == 0) return "no request was sent";
  return absl::StrFormat("the p99 of schedule lag is %.3f ms, of latency %.3f ms", Ms(run.schedule_lag().p99_us()),
                         Ms(run.latency().p99_us()));
}

bool Lasted(uint32_t seconds, uint32_t of) {
  return static_cast<double>(seconds) > kShareOfSeconds * static_cast<double>(of);
}

// How many workers were in a state for more than a tenth of their seconds, and the worst of them.
struct Afflicted {
  size_t count = 0;
  double worst = 0;  // share of its seconds
};
Afflicted CountWorkers(const Strain& strain, uint32_t WorkerLoad::*state) {
  Afflicted result;
  for (const auto& [index, load] : strain.workers) {
    if (!Lasted(load.*state, load.seconds)) continue;
    ++result.count;
    result.worst = std::max(result.worst, Share(load.*state, load.seconds));
  }
  return result;
}

// Whether the result shows what answers waited for their worker.
bool AnswersWaited(const v1::Run& run, double wait_us) {
  return run.service_time().count() > 0 && wait_us > kAnswersWaitUs &&
         wait_us > kAnswersWaitOfServiceTime * static_cast<double>(run.service_time().p99_us());
}

// The rate at which the workers' cores would be just full, projected from what they sent while they were. No more than
// became due in the same seconds: where a backlog is worked off more is sent than can be kept up.
std::optional<double> SustainableRate(const Strain& strain, double cpu_share) {
  const uint64_t kept_up = std::min(strain.saturated_sent, strain.saturated_due);
  if (kept_up == 0 || strain.saturated_worker_ns == 0 || cpu_share <= 0) return std::nullopt;
  const double each = static_cast<double>(kept_up) / (static_cast<double>(strain.saturated_worker_ns) / 1e9);
  return each * static_cast<double>(strain.workers.size()) * kFullCore / std::max(cpu_share, kFullCore);
}

void JudgeSaturation(const RunFacts& facts, Findings* findings) {
  const Afflicted saturated = CountWorkers(facts.strain, &WorkerLoad::saturated);
  if (saturated.count == 0) return;
  uint64_t cpu_ns = 0;
  uint64_t interval_ns = 0;
  uint64_t turns = 0;
  for (const auto& [index, load] : facts.strain.workers) {
    cpu_ns += load.saturated_cpu_ns;
    interval_ns += load.saturated_ns;
    turns += load.saturated_turns;
  }
  // A full core goes from turn to turn: answers wait for the rest of the turn in which they come, and in the next one
  // for those before them, together a turn on average. Those that a turn does not get to wait for more.
  const double wait_us = Share(cpu_ns, turns) / 1000;
  const bool kept_up = turns > 0 && wait_us < kTurnThatKeepsUpUs &&
                       wait_us < kAnswersWaitOfServiceTime * static_cast<double>(facts.run.service_time().p50_us());
  const bool late = LagUs(facts.run) > kSaturatedLagUs || (DroppedMany(facts.run) && !kept_up);
  const bool answers_waited = AnswersWaited(facts.run, wait_us);
  const double cpu = Share(cpu_ns, interval_ns);
  std::string message = absl::StrCat(saturated.count, " of ", Counted(facts.strain.workers.size(), "worker"),
                                     " saturated: ", Percent(cpu), " of its core", saturated.count == 1 ? "" : "s",
                                     ", the worst in ", Percent(saturated.worst), " of its seconds");
  if (turns > 0 && facts.run.service_time().count() > 0) {
    absl::StrAppendFormat(
        &message,
        ", answers waited for a turn of its loop or more, which took %.3f ms, the p99 of service time is %.3f ms",
        wait_us / 1000, Ms(facts.run.service_time().p99_us()));
  }
  absl::StrAppend(&message, ", and ", LagWords(facts.run));
  if (!late && !answers_waited) {
    findings->Add("workers-saturated", message);
    return;
  }
  std::string remedy;
  const bool open = facts.run.test().load().requests().model() == v1::REQUEST_MODEL_OPEN;
  const std::optional<double> rate = SustainableRate(facts.strain, cpu);
  if (open && rate) {
    remedy = absl::StrCat("start more workers (on cores that are free), or lower the rate below about ",
                          RateWords(*rate), ", which is projected from what was sent in the saturated seconds");
  } else if (!open) {
    remedy = "start more workers (on cores that are free), or use fewer connections or a longer think time";
  }
  findings->Add("generator-saturated", message, remedy);
}

void JudgeStarvation(const RunFacts& facts, Findings* findings) {
  const Afflicted starved = CountWorkers(facts.strain, &WorkerLoad::starved);
  if (starved.count == 0) return;
  uint64_t wait_ns = 0;
  uint64_t interval_ns = 0;
  uint64_t turns = 0;
  for (const auto& [index, load] : facts.strain.workers) {
    wait_ns += load.starved_wait_ns;
    interval_ns += load.starved_ns;
    turns += load.starved_turns;
  }
  // What the answers of a turn waited for their worker.
  const double wait_us = Share(wait_ns, turns) / 1000;
  const bool kept_up = CountWorkers(facts.strain, &WorkerLoad::crowded).count == 0;
  const bool shows =
      ContentionShows(facts.run) || AnswersWaited(facts.run, wait_us) || (DroppedMany(facts.run) && !kept_up);
  findings->Add(shows ? "host-contended" : "workers-starved",
                absl::StrCat(starved.count, " of ", Counted(facts.strain.workers.size(), "worker"),
                             " waited for a core while ready to run, for ", Percent(Share(wait_ns, interval_ns)),
                             " of the time, the worst in ", Percent(starved.worst),
                             " of its seconds: others (the target on the same host, other programs) take the cores; ",
                             LagWords(facts.run)));
}

// Whether a worker stood still so long that it was late to close a second.
bool JudgeStalls(const RunFacts& facts, Findings* findings) {
  size_t stalled = 0;
  uint32_t worst = 0;
  uint64_t longest_ns = 0;
  for (const auto& [index, load] : facts.strain.workers) {
    if (load.stall_ns <= kStallNs) continue;
    ++stalled;
    if (load.stall_ns > longest_ns) worst = index;
    longest_ns = std::max(longest_ns, load.stall_ns);
  }
  if (stalled == 0) return false;
  const v1::Percentiles& lag = facts.run.schedule_lag();
  const bool shows =
      lag.count() > 0 && lag.p999_us() > std::max(kScheduleLagFloorUs, facts.run.latency().p999_us() / 2);
  findings->Add(shows ? "worker-stalled" : "worker-late",
                absl::StrFormat("%s stood still, worker %d the longest, for more than %.1f s; the p99.9 of schedule "
                                "lag is %.3f ms, of latency %.3f ms",
                                Counted(stalled, "worker"), worst, static_cast<double>(longest_ns) / 1e9,
                                Ms(lag.p999_us()), Ms(facts.run.latency().p999_us())));
  return true;
}

void JudgeOwnErrors(const RunFacts& facts, Findings* findings) {
  std::map<absl::string_view, uint64_t> failed;
  for (const v1::ErrorCount& error : facts.run.totals().errors()) {
    if (error.kind() == v1::ERROR_KIND_NO_DESCRIPTORS) failed["no-descriptors"] += error.count();
    if (error.kind() == v1::ERROR_KIND_NO_PORTS) failed["no-ports"] += error.count();
    if (error.kind() == v1::ERROR_KIND_NO_MEMORY) failed["no-memory"] += error.count();
  }
  for (const auto& [code, count] : failed) {
    std::string message = absl::StrCat(count, " connects failed: ");
    if (code == "no-descriptors") absl::StrAppend(&message, "a worker, or the host, had no descriptor left");
    if (code == "no-memory") absl::StrAppend(&message, "the kernel had no memory for a socket");
    if (code == "no-ports") {
      absl::StrAppend(&message, "no port was left between a source address and an endpoint");
      for (const auto& [agent, host] : facts.strain.hosts) {
        if (!host.figures.has_sockets_time_wait()) continue;
        absl::StrAppend(&message, "; up to ", host.figures.sockets_time_wait(),
                        " sockets were in TIME_WAIT on the host of agent ", agent);
      }
    }
    findings->Add(code, message);
  }
}

bool HasLatencyThreshold(const v1::Run& run, bool failed) {
  return std::any_of(run.thresholds().begin(), run.thresholds().end(), [&](const v1::ThresholdResult& result) {
    return absl::StartsWith(result.threshold().metric(), "latency.") && !(failed && result.held());
  });
}

std::string OnHost(const std::string& agent) { return absl::StrCat(" on the host of agent ", agent); }

void JudgeListenQueue(const RunFacts& facts, const std::string& agent, const HostLoad& host, Findings* findings) {
  const v1::HostFigures& figures = host.figures;
  const uint64_t overflows = figures.listen_overflows() + figures.syn_queue_full();
  if (overflows == 0) return;
  const uint64_t attempted = facts.run.totals().counters().connects_attempted();
  std::string message = absl::StrCat("accept queues overflowed ", figures.listen_overflows(), " times", OnHost(agent));
  if (figures.has_listen_drops()) absl::StrAppend(&message, ", listeners turned ", figures.listen_drops(), " away");
  if (figures.syn_queue_full() > 0) {
    absl::StrAppend(&message, ", ", figures.syn_queue_full(), " SYNs met a full queue of half-open connections");
  }
  absl::StrAppend(&message, ", where the run attempted ", attempted, " connects");
  const bool of_target = HasTarget(facts.run, facts.strain, agent);
  if (!of_target) absl::StrAppend(&message, "; whether the target is on that host is not known");
  const bool shows = of_target && static_cast<double>(std::max(figures.listen_overflows(), figures.listen_drops())) >
                                      kDroppedByKernelShare * static_cast<double>(attempted);
  findings->Add(shows ? "listen-overflow" : "accept-queue", message);
}

void JudgeConntrack(const RunFacts& facts, const std::string& agent, const v1::HostFigures& figures,
                    Findings* findings) {
  const auto attempted = static_cast<double>(facts.run.totals().counters().connects_attempted());
  const std::string entries =
      figures.has_conntrack_count() && figures.has_conntrack_max()
          ? absl::StrCat("; it had up to ", figures.conntrack_count(), " of ", figures.conntrack_max(), " entries")
          : "";
  if (figures.conntrack_drops() > 0) {
    const bool shows = static_cast<double>(figures.conntrack_drops()) > kDroppedByKernelShare * attempted;
    findings->Add(
        shows ? "conntrack-full" : "conntrack",
        absl::StrCat("connection tracking dropped ", figures.conntrack_drops(), " packets", OnHost(agent), entries));
  } else if (Share(figures.conntrack_count(), figures.conntrack_max()) >= kConntrackNearlyFull) {
    findings->Add("conntrack", absl::StrCat("connection tracking is nearly full", OnHost(agent), entries));
  }
}

void JudgeSegments(const RunFacts& facts, const std::string& agent, const v1::HostFigures& figures,
                   Findings* findings) {
  const v1::Run& run = facts.run;
  const double again = Share(figures.segments_retransmitted(), figures.segments_sent());
  const std::string message = absl::StrFormat(
      "%d of %d segments were sent again and %d retransmission timers ran out%s; the p99 of latency is %.3f ms",
      figures.segments_retransmitted(), figures.segments_sent(), figures.tcp_timeouts(), OnHost(agent),
      Ms(run.latency().p99_us()));
  // SYNs that a full queue dropped are sent again too: that is the listener's doing.
  const uint64_t lost = figures.tcp_timeouts() - std::min(figures.tcp_timeouts(), figures.listen_drops());
  const bool shows =
      static_cast<double>(lost) > kTimeoutsOfRequests * static_cast<double>(run.totals().counters().requests_sent()) &&
      run.latency().count() > 0 && run.latency().p99_us() >= kRetransmitTimeUs;
  if (shows) {
    findings->Add("packet-loss", message);
  } else if (again > kRetransmittedShare) {
    findings->Add("retransmits", message);
  }
}

void JudgeHost(const RunFacts& facts, const std::string& agent, const HostLoad& host, Findings* findings) {
  const v1::HostFigures& figures = host.figures;
  JudgeListenQueue(facts, agent, host, findings);
  JudgeConntrack(facts, agent, figures, findings);
  JudgeSegments(facts, agent, figures, findings);
  if (figures.tcp_memory_aborts() > 0) {
    const bool shows = static_cast<double>(figures.tcp_memory_aborts()) >
                       kDroppedByKernelShare * static_cast<double>(facts.run.totals().counters().connects_attempted());
    findings->Add(
        shows ? "socket-memory" : "socket-memory-short",
        absl::StrCat(figures.tcp_memory_aborts(), " connections were ended for lack of socket memory", OnHost(agent)));
  }
  if (Lasted(host.stolen, host.seconds)) {
    findings->Add(ContentionShows(facts.run) ? "host-stolen" : "cores-stolen",
                  absl::StrCat("the hypervisor took ", Percent(Share(figures.cpu_steal_ns(), figures.cpu_ns())),
                               " of the cores' time", OnHost(agent), ", more than ", Percent(kStolenTime), " in ",
                               Percent(Share(host.stolen, host.seconds)), " of the seconds; ", LagWords(facts.run)));
  }
  if (Lasted(host.softirq_bound, host.seconds)) {
    findings->Add(
        ContentionShows(facts.run) ? "softirq-bound" : "softirq-core",
        absl::StrCat("in ", Percent(Share(host.softirq_bound, host.seconds)), " of the seconds one core was full",
                     OnHost(agent), " and interrupts took ", Percent(host.softirq_bound_cores / host.softirq_bound),
                     " of a core, while others had room; ", LagWords(facts.run)));
  }
}

// A count of the workers' beside the nodes': what the nodes must have seen, and what they may have.
struct Witnessed {
  absl::string_view what;
  std::optional<uint64_t> seen;  // by the nodes, all of them
  absl::string_view least_name;
  uint64_t least;
  absl::string_view most_name;
  uint64_t most;
};

using Field = std::pair<bool (v1::NodeFigures::*)() const, uint64_t (v1::NodeFigures::*)() const>;

std::optional<uint64_t> Grown(const v1::Run& run, const Strain& strain, const Field& field) {
  uint64_t sum = 0;
  for (const std::string& name : run.nodes()) {
    const NodeLoad& node = strain.nodes.at(name);
    if (!(*node.before.*field.first)() || !(*node.after.*field.first)()) return std::nullopt;
    const uint64_t before = (*node.before.*field.second)();
    const uint64_t after = (*node.after.*field.second)();
    if (after < before) return std::nullopt;  // it was started again in between
    sum += after - before;
  }
  return sum;
}

}  // namespace

void Findings::Add(absl::string_view code, absl::string_view message, absl::string_view remedy) {
  v1::Reason reason = MakeReason(code, message);
  if (!remedy.empty()) reason.set_remedy(std::string(remedy));
  const Rule* rule = FindRule(code);
  const bool note = rule != nullptr && rule->kind == v1::VERDICT_KIND_PASSED;
  (note ? notes_ : reasons_).push_back(std::move(reason));
}

bool Findings::Has(absl::string_view code) const {
  return std::any_of(reasons_.begin(), reasons_.end(), [&](const v1::Reason& reason) { return reason.code() == code; });
}

Judgement Findings::Judged() {
  std::stable_sort(reasons_.begin(), reasons_.end(),
                   [](const v1::Reason& a, const v1::Reason& b) { return RankOf(a.code()) < RankOf(b.code()); });
  Judgement judgement;
  judgement.verdict.set_kind(v1::VERDICT_KIND_PASSED);
  if (Has("stop-requested")) {
    judgement.verdict.set_kind(v1::VERDICT_KIND_STOPPED);
  } else if (!reasons_.empty()) {
    const Rule* rule = FindRule(reasons_.front().code());
    // A reason without a rule must not pass unseen.
    judgement.verdict.set_kind(rule != nullptr ? rule->kind : v1::VERDICT_KIND_NOT_TRUSTWORTHY);
  }
  for (v1::Reason& reason : reasons_) *judgement.verdict.add_reasons() = std::move(reason);
  judgement.notes = std::move(notes_);
  return judgement;
}

bool HasTarget(const v1::Run& run, const Strain& strain, const std::string& agent) {
  const auto host = strain.hosts.find(agent);
  if (host != strain.hosts.end() && host->second.has_nodes) return true;
  const bool loads = std::any_of(run.participants().begin(), run.participants().end(), [&](const auto& participant) {
    return participant.agent() == agent && participant.worker_count() > 0;
  });
  return loads && std::any_of(run.endpoints().begin(), run.endpoints().end(), &OnLoopback);
}

void JudgeWorkers(const RunFacts& facts, Findings* findings) {
  const v1::Run& run = facts.run;
  JudgeOwnErrors(facts, findings);
  JudgeSaturation(facts, findings);
  JudgeStarvation(facts, findings);
  const bool stalled = JudgeStalls(facts, findings);
  const uint64_t lag_us = LagUs(run);
  if (lag_us > std::max(kScheduleLagFloorUs, run.latency().p99_us() / 2)) {
    findings->Add("schedule-lag", LagWords(run));
  }
  if (DroppedMany(run) && !findings->Has("worker-lost") && !findings->Has("stop-requested")) {
    const bool skips = run.test().load().requests().late_requests() == v1::LATE_REQUESTS_SKIP;
    const bool late = lag_us > kScheduleLagFloorUs || findings->Has("generator-saturated") ||
                      findings->Has("host-contended") || (skips && stalled);
    findings->Add(late ? "requests-dropped" : "target-overloaded",
                  absl::StrCat(run.totals().counters().requests_dropped(), " of ",
                               run.totals().counters().requests_due(), " requests that were due were never sent"));
  }
  uint64_t turns = 0;
  uint64_t overflows = 0;
  for (const auto& [index, load] : facts.strain.workers) {
    turns += load.loop_turns;
    overflows += load.queue_overflows;
  }
  if (static_cast<double>(overflows) > kOverflowsOfTurns * static_cast<double>(turns)) {
    findings->Add("loop-queues", absl::StrCat("queues between the workers and the kernel (io_uring) were full ",
                                              overflows, " times in ", turns, " turns of their loops"));
  }
  for (const v1::Participant& participant : run.participants()) {
    if (!participant.has_started_at() || !run.has_start_at() || participant.worker_count() == 0) continue;
    const double late_s = absl::ToDoubleSeconds(FromWire(participant.started_at()) - FromWire(run.start_at()));
    if (late_s > kLateStartS) {
      findings->Add("late-start",
                    absl::StrFormat("agent %s began %.3f s after the common start", participant.agent(), late_s));
    }
  }
}

void JudgeHosts(const RunFacts& facts, Findings* findings) {
  for (const auto& [agent, host] : facts.strain.hosts) JudgeHost(facts, agent, host, findings);
}

void JudgeNodes(const RunFacts& facts, Findings* findings) {
  const v1::Run& run = facts.run;
  const bool suffered =
      run.test().load().requests().model() == v1::REQUEST_MODEL_OPEN &&
      (findings->Has("target-overloaded") || HasLatencyThreshold(run, true) ||
       (!HasLatencyThreshold(run, false) && run.latency().count() > 0 && run.latency().p99_us() > kSufferedLatencyUs));
  for (const auto& [name, node] : facts.strain.nodes) {
    if (node.processes == 0 || !Lasted(node.saturated, node.seconds)) continue;
    findings->Add(
        suffered ? "target-saturated" : "node-saturated",
        absl::StrFormat("node %s used up to %.1f of the %s that its %s can use, more than %s of them in %s of "
                        "the seconds; the p99 of latency is %.3f ms",
                        name, node.cores_most, Counted(node.processes, "core"),
                        node.processes == 1 ? "process" : "processes", Percent(kFullCore),
                        Percent(Share(node.saturated, node.seconds)), Ms(run.latency().p99_us())));
  }
}

void JudgeTargetLedger(const RunFacts& facts, Findings* findings) {
  const v1::Run& run = facts.run;
  if (run.nodes().empty() || run.gaps_size() > 0 || findings->Has("worker-lost") || findings->Has("agent-lost")) return;
  for (const std::string& name : run.nodes()) {
    const auto found = facts.strain.nodes.find(name);
    if (found == facts.strain.nodes.end() || !found->second.before || !found->second.after) return;
    // Others that hold connections, and connections of this run that the last reading still saw, count too: then there
    // is nothing to compare.
    const NodeLoad& node = found->second;
    if (!node.before->has_connections() || node.before->connections() > 0 || !node.after->has_connections() ||
        node.after->connections() > 0) {
      return;
    }
  }
  const v1::Counters& c = run.totals().counters();
  const Field accepted = {&v1::NodeFigures::has_accepted_total, &v1::NodeFigures::accepted_total};
  const Field requests = {&v1::NodeFigures::has_requests_total, &v1::NodeFigures::requests_total};
  const Field received = {&v1::NodeFigures::has_bytes_received_total, &v1::NodeFigures::bytes_received_total};
  std::vector<Witnessed> rows = {{"connections accepted", Grown(run, facts.strain, accepted), "established",
                                  c.connects_established(), "attempted", c.connects_attempted()}};
  if (run.test().target().protocol() == v1::PROTOCOL_TCP) {
    // Of a stream of echoed bytes a node does not know where a request ends.
    const uint64_t payload = run.test().target().tcp().payload_bytes();
    rows.push_back({"bytes received", Grown(run, facts.strain, received), "of answered requests",
                    (c.requests_answered() + c.heartbeats_answered()) * payload, "sent", c.bytes_sent()});
  } else {
    rows.push_back({"requests received", Grown(run, facts.strain, requests), "answered",
                    c.requests_answered() + c.heartbeats_answered(), "sent", c.requests_sent() + c.heartbeats_sent()});
  }
  for (const Witnessed& row : rows) {
    if (!row.seen || (*row.seen >= row.least && *row.seen <= row.most)) continue;
    findings->Add("ledger-target",
                  absl::StrCat("the nodes' own count of ", row.what, " is ", *row.seen, ", the workers' ", row.least,
                               " ", row.least_name, " and ", row.most, " ", row.most_name));
  }
}

}  // namespace loadstar::server
