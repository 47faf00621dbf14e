// How a run came out: one table of rules, from facts and figures to reasons, and from reasons to the verdict.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "loadstar/v1/run.pb.h"
#include "server/core/run_figures.h"

namespace loadstar::server {

// What a reason's code makes of a run.
struct Rule {
  absl::string_view code;
  v1::VerdictKind kind;
  v1::Side side;
  absl::string_view remedy;
};

// Gravest first: a run's verdict is the kind of the first rule that has a reason, except that a run that was stopped by
// request is STOPPED whatever else is said of it. Within a kind the order is that of the table.
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
    {"generator-errors", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_GENERATOR,
     "raise the limit that is named, use more source addresses or agents, or run with a smaller --scale"},
    {"generator-saturated", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_GENERATOR,
     "use more workers, cores or agents, or run with a smaller --scale"},
    {"schedule-lag", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_GENERATOR,
     "use more workers, cores or agents, or run with a smaller --scale"},
    {"requests-dropped", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_GENERATOR,
     "lower the rate, or allow more requests in flight (requests.pipeline)"},
    {"late-start", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_CONTROL,
     "check the link between the agent and the coordinator"},
    {"samples-malformed", v1::VERDICT_KIND_NOT_TRUSTWORTHY, v1::SIDE_CONTROL,
     "run agents and coordinator of the same version"},
    // The figures stand.
    {"threshold", v1::VERDICT_KIND_FAILED, v1::SIDE_TARGET, ""},
    {"connections-lost", v1::VERDICT_KIND_FAILED, v1::SIDE_TARGET,
     "see the errors by kind and the nodes' logs; a threshold on connections.lost or connections.failed replaces this "
     "rule"},
    {"target-overloaded", v1::VERDICT_KIND_FAILED, v1::SIDE_TARGET,
     "lower the rate, allow more requests in flight (requests.pipeline), or see the errors by kind when connections "
     "were "
     "lost or failed"},
    {"stop-requested", v1::VERDICT_KIND_STOPPED, v1::SIDE_UNSPECIFIED, ""},
};

// The bounds of the rules on figures.
//
// Schedule lag: the generator was late by more than 10 ms at p99 and by more than half of what the latency's p99 shows,
// so the tail is more its own than the target's.
inline constexpr uint64_t kScheduleLagFloorUs = 10'000;
// Saturation: a worker used more than 95 % of a core in more than a tenth of its seconds of load, and requests were
// late by it: p99 of the lag above 1 ms. A busy core that is never late has shaped nothing.
inline constexpr double kSaturatedShare = 0.1;
inline constexpr uint64_t kSaturatedLagUs = 1'000;
// Requests never sent: a few of those due in the last moment always are. Their waits are in the latency, but are less
// than they would have taken: with more than a hundredth of them p99 is only a lower bound. When the generator was not
// late itself (schedule lag below its floor), they waited for the target's answers or for a connection to it.
inline constexpr double kDroppedShare = 0.01;
// Connections that failed or were lost: a run in which that befell more than one in a thousand is not passed, unless
// the test has a threshold of its own on them, or reconnects and has a rate per connection: then nothing that a
// connection would have asked for is left out of the requests' figures. Without reconnect a connection that is gone is
// no load any more; and what it would have asked for is in no figure when connections are only held, or in the closed
// model, while others take it over when the rate is a total.
inline constexpr double kLostShare = 0.001;
// A start later than this after the common one.
inline constexpr double kLateStartS = 1.0;

// What a verdict is made from.
struct RunFacts {
  // With totals, endpoint totals, percentiles, thresholds (judged), participants and gaps filled in, and in verdict the
  // reasons that were recorded as they happened.
  const v1::Run& run;
  const std::map<uint32_t, WorkerLoad>& worker_loads;
  uint32_t seconds_without_worker = 0;
  uint32_t planned_s = 0;
};

v1::Verdict Judge(const RunFacts& facts);

// A reason with the side and remedy that its code's rule gives.
v1::Reason MakeReason(absl::string_view code, absl::string_view message);

}  // namespace loadstar::server
