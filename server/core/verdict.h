// How a run came out: one table of rules, from facts and figures to reasons, and from reasons to the verdict.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "loadstar/v1/run.pb.h"
#include "server/core/strain.h"

namespace loadstar::server {

// What a reason's code makes of a run.
struct Rule {
  absl::string_view code;
  v1::VerdictKind kind;
  v1::Side side;
  absl::string_view remedy;
};

// Gravest first: a run's verdict is the kind of the first rule that has a reason, except that a run that was stopped by
// request is STOPPED whatever else is said of it. Within a kind the order is that of the table: causes stand before
// what they lead to. Rules of the kind PASSED are notes: they say what was there and has not shaped the result, or not
// as far as can be told; they are events of the run (warnings) and change no verdict. docs/verdicts.md explains each.
inline constexpr Rule kRules[] = {
    // Facts, recorded as they happen.
    {"prepare-failed", v1::VERDICT_KIND_NOT_CARRIED_OUT, v1::SIDE_GENERATOR, "see the message of the agent"},
    {"start-failed", v1::VERDICT_KIND_NOT_CARRIED_OUT, v1::SIDE_GENERATOR, "see the message of the agent"},
    {"target-refuses", v1::VERDICT_KIND_NOT_CARRIED_OUT, v1::SIDE_TARGET,
     "check that the target listens on the endpoints of the test"},
    {"agent-lost", v1::VERDICT_KIND_NOT_CARRIED_OUT, v1::SIDE_GENERATOR,
     "check the agent's host, its log and the link to it"},
    {"worker-lost", v1::VERDICT_KIND_NOT_CARRIED_OUT, v1::SIDE_GENERATOR,
     "check the host's kernel log for the out-of-memory killer and the agent's log"},
    {"gap", v1::VERDICT_KIND_NOT_CARRIED_OUT, v1::SIDE_CONTROL, "check the link between the agent and the coordinator"},
    {"drain-timeout", v1::VERDICT_KIND_NOT_CARRIED_OUT, v1::SIDE_GENERATOR,
     "check the agent's log; lower requests.timeout when answers are still out at the end"},
    {"ended-early", v1::VERDICT_KIND_NOT_CARRIED_OUT, v1::SIDE_GENERATOR, "check the agents' logs"},
    {"update-failed", v1::VERDICT_KIND_NOT_CARRIED_OUT, v1::SIDE_GENERATOR, "see the message of the agent"},
    // Figures that the generator or its host has shaped.
    {"ledger", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_CONTROL,
     "this is a defect of Loadstar: please report it with run.json"},
    {"no-descriptors", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_GENERATOR,
     "raise the hard limit (ulimit -Hn) and fs.file-max, use more workers, or run with a smaller --scale"},
    {"no-ports", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_HOST,
     "use more source addresses (load.sourceAddresses), endpoints or agents, widen net.ipv4.ip_local_port_range, or "
     "wait until the sockets in TIME_WAIT are gone"},
    {"no-memory", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_HOST,
     "free memory, raise the third number of net.ipv4.tcp_mem, use more agents, or run with a smaller --scale"},
    {"socket-memory", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_HOST,
     "raise the third number of net.ipv4.tcp_mem, or use fewer connections on this host"},
    {"conntrack-full", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_HOST,
     "raise net.netfilter.nf_conntrack_max, or exempt the load from tracking (notrack)"},
    {"generator-saturated", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_GENERATOR,
     "use more workers, cores or agents, or run with a smaller --scale"},
    {"host-contended", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_HOST,
     "give the workers cores of their own: end other programs, or run the target or some of the load on another host"},
    {"host-stolen", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_HOST,
     "use a virtual machine whose cores are its own, or one that has not used up its CPU credit"},
    {"softirq-bound", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_HOST,
     "spread the network's interrupts over more cores (ethtool -L, or rps_cpus of the interface's receive queues)"},
    {"packet-loss", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_HOST,
     "look for drops on the way between workers and target: interface counters (ip -s link), queues, firewalls"},
    {"worker-stalled", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_GENERATOR,
     "find what stopped the worker: a signal, a suspended machine, swapping, or other programs on its core"},
    {"schedule-lag", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_GENERATOR,
     "use more workers, cores or agents, or run with a smaller --scale"},
    {"requests-dropped", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_GENERATOR,
     "lower the rate, or allow more requests in flight (requests.pipeline)"},
    {"late-start", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_CONTROL,
     "check the link between the agent and the coordinator"},
    {"samples-malformed", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_CONTROL,
     "run agents and coordinator of the same version"},
    // The figures stand.
    {"target-saturated", v1::VERDICT_KIND_FAILED, v1::SIDE_TARGET,
     "lower the rate, or give the node more processes and cores"},
    {"listen-overflow", v1::VERDICT_KIND_FAILED, v1::SIDE_TARGET,
     "raise the backlog of the target's listener and net.core.somaxconn, let it accept faster, or ramp more slowly"},
    {"threshold", v1::VERDICT_KIND_FAILED, v1::SIDE_TARGET, ""},
    {"connections-lost", v1::VERDICT_KIND_FAILED, v1::SIDE_TARGET,
     "see the errors by kind and the nodes' logs; a threshold on connections.lost or connections.failed replaces this "
     "rule"},
    {"target-overloaded", v1::VERDICT_KIND_FAILED, v1::SIDE_TARGET,
     "lower the rate, allow more requests in flight (requests.pipeline), or see the errors by kind when connections "
     "were lost or failed"},
    {"stop-requested", v1::VERDICT_KIND_STOPPED, v1::SIDE_UNSPECIFIED, ""},
    // Notes.
    {"ledger-target", v1::VERDICT_KIND_PASSED, v1::SIDE_TARGET,
     "look for other clients of the target, requests that were under way when a connection ended, and proxies between"},
    {"workers-saturated", v1::VERDICT_KIND_PASSED, v1::SIDE_GENERATOR,
     "the figures may be the workers' own: use more of them, on cores that are free, and compare"},
    {"workers-starved", v1::VERDICT_KIND_PASSED, v1::SIDE_HOST, "give the workers cores of their own"},
    {"cores-stolen", v1::VERDICT_KIND_PASSED, v1::SIDE_HOST, ""},
    {"softirq-core", v1::VERDICT_KIND_PASSED, v1::SIDE_HOST, ""},
    {"worker-late", v1::VERDICT_KIND_PASSED, v1::SIDE_GENERATOR, ""},
    {"figures-late", v1::VERDICT_KIND_PASSED, v1::SIDE_HOST, "give workers and agent cores of their own"},
    {"node-saturated", v1::VERDICT_KIND_PASSED, v1::SIDE_TARGET, ""},
    {"accept-queue", v1::VERDICT_KIND_PASSED, v1::SIDE_TARGET, "raise the listener's backlog and net.core.somaxconn"},
    {"conntrack", v1::VERDICT_KIND_PASSED, v1::SIDE_HOST, "raise net.netfilter.nf_conntrack_max"},
    {"socket-memory-short", v1::VERDICT_KIND_PASSED, v1::SIDE_HOST, "raise the third number of net.ipv4.tcp_mem"},
    {"retransmits", v1::VERDICT_KIND_PASSED, v1::SIDE_HOST, ""},
    {"loop-queues", v1::VERDICT_KIND_PASSED, v1::SIDE_GENERATOR, "use more workers"},
};

// The bounds of the rules on figures. What makes a second count as saturated, starved, stolen or bound by interrupts is
// in server/core/strain.h.
//
// Schedule lag: the generator was late by more than 10 ms at p99 and by more than half of what the latency's p99 shows,
// so the tail is more its own than the target's.
inline constexpr uint64_t kScheduleLagFloorUs = 10'000;
// A state of a worker, node or host that lasted for more than a tenth of the seconds of load is one of the run; in
// fewer it is a moment (of a ramp, say) that percentiles of the run show when it matters.
inline constexpr double kShareOfSeconds = 0.1;
// Saturation: a worker's core was full in more than a tenth of its seconds of load, and requests were late by it: p99
// of the lag above 1 ms. Lag does not see all of it (below), so a full core is to blame as well when more than
// kDroppedShare of the requests were never sent, or when what answers waited for it shows. In the closed model a core
// is full whenever the target is not the limit: where none of this shows that is no more than a note. A core is full,
// too, where so much is due that the loop never waits: when its turns take less than 0.1 ms, and less than a quarter of
// p50 of service time (a turn holds no more than is in flight, so with a few connections turns are short in any case),
// it gets to every answer at once, and what was never sent without a lag waited for the target (8 us of a turn, where a
// turn of one that could not keep up took 1 ms).
inline constexpr uint64_t kSaturatedLagUs = 1'000;
inline constexpr double kTurnThatKeepsUpUs = 100;
// Cores that others took (programs, the hypervisor, interrupts): the workers were late by more than 5 ms at p99, and by
// more than a quarter of what latency shows. Lag is part of the latency (it counts from the intended time), so below
// that at least three quarters of the tail are the target's; and a target and its workers that share few cores always
// wait for one another a little: 100,000 connections with four nodes on two cores were late by 1.8 ms of 4.4 ms and
// are worth their figures, compilers beside a small run made it 6 ms of 10. What lag does not see (below) shows in what
// answers waited. And when requests were never sent while it did not idle: one that idles keeps up with its answers.
inline constexpr uint64_t kContendedLagUs = 5'000;
inline constexpr double kContendedLagOfLatency = 0.25;
// Answers that wait for their worker: where every connection is busy, and in all of the closed model, requests wait for
// answers and lag does not see why those are late. What they waited at the least, on average, is known: in a starved
// worker what each of its turns waited for a core, in a saturated one a turn. The result shows it when that is more
// than 1 ms and more than a quarter of p99 of service time. With more in flight than a turn gets to (some thousand
// answers) they wait for several, which nothing counts: that is why a saturated worker is noted in any case.
inline constexpr double kAnswersWaitUs = 1'000;
inline constexpr double kAnswersWaitOfServiceTime = 0.25;
// A worker closed a second this much late: it stood still. The stall has shaped the result when p99.9 of schedule lag
// is above 10 ms and above half of p99.9 of latency: p99 of a long run does not show some seconds.
inline constexpr uint64_t kStallNs = 500'000'000;
// Requests never sent: a few of those due in the last moment always are. Their waits are in the latency, but are less
// than they would have taken: with more than a hundredth of them p99 is only a lower bound. When the generator was not
// late itself (schedule lag below its floor; no worker to blame for a full core or for want of one; where late requests
// are skipped and have no lag, none stalled), they waited for the target's answers or for a connection to it.
inline constexpr double kDroppedShare = 0.01;
// Connections that failed or were lost: a run in which that befell more than one in a thousand is not passed, unless
// the test has a threshold of its own on them, or reconnects and has a rate per connection: then nothing that a
// connection would have asked for is left out of the requests' figures. Without reconnect a connection that is gone is
// no load any more; and what it would have asked for is in no figure when connections are only held, or in the closed
// model, while others take it over when the rate is a total.
inline constexpr double kLostShare = 0.001;
// What a kernel dropped, of the connects of the run: counters of a host are of everything on it, so a few are no proof;
// more than one in a thousand have shaped connect times (a dropped SYN is sent again after a second) or cost
// connections.
inline constexpr double kDroppedByKernelShare = 0.001;
// Connection tracking that is this full is about to drop.
inline constexpr double kConntrackNearlyFull = 0.95;
// Retransmission timers start at 200 ms (TCP_RTO_MIN) and at a second for a SYN: when more of them ran out than one for
// each hundred requests, and p99 of latency is at least one such time, lost packets are what p99 shows. Segments sent
// again are mostly probes of a far side that is slow to acknowledge (tail loss probes) and cost nothing: above a
// hundredth of all segments they are noted.
inline constexpr double kTimeoutsOfRequests = 0.01;
inline constexpr uint64_t kRetransmitTimeUs = 200'000;
inline constexpr double kRetransmittedShare = 0.01;
// A node whose processes' cores were full was the limit when requests had to wait for it: some were never sent, a
// threshold on latency did not hold, or, in a test that has none, p99 is above half a second, which no queue of a
// target that keeps up lasts. In the closed model a target may well be full: it sets the pace.
inline constexpr uint64_t kSufferedLatencyUs = 500'000;
// Queues of the loop that overflowed in more than a hundredth of its turns cost time; nothing is lost by it.
inline constexpr double kOverflowsOfTurns = 0.01;
// A start later than this after the common one.
inline constexpr double kLateStartS = 1.0;

// What a verdict is made from.
struct RunFacts {
  // With totals, endpoint totals, percentiles, thresholds (judged), participants and gaps filled in, and in verdict the
  // reasons that were recorded as they happened.
  const v1::Run& run;
  const Strain& strain;
  uint32_t seconds_without_worker = 0;
  uint32_t planned_s = 0;
};

struct Judgement {
  v1::Verdict verdict;
  std::vector<v1::Reason> notes;
};

Judgement Judge(const RunFacts& facts);

// The rule of a code, nullptr when there is none; and its place in the table, past the end when there is none.
const Rule* FindRule(absl::string_view code);
size_t RankOf(absl::string_view code);

// A reason with the side and remedy that its code's rule gives.
v1::Reason MakeReason(absl::string_view code, absl::string_view message);

}  // namespace loadstar::server
