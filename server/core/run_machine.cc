#include "server/core/run_machine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/core/refusal.h"
#include "server/core/thresholds.h"
#include "server/core/verdict.h"
#include "server/core/wire_time.h"
#include "server/core/words.h"

namespace loadstar::server {
namespace {

uint32_t Seconds(absl::Duration length) {
  return static_cast<uint32_t>(absl::ToInt64Seconds(absl::Ceil(length, absl::Seconds(1))));
}

constexpr absl::string_view kEventsLeftOut = "events-left-out";

// Cut between characters: proto's strings are UTF-8.
void Clip(size_t max, std::string* text) {
  if (text->size() <= max) return;
  size_t end = max - 3;
  while (end > 0 && (static_cast<unsigned char>((*text)[end]) & 0xC0) == 0x80) --end;
  text->resize(end);
  text->append("...");
}

std::vector<std::string> ToVector(const google::protobuf::RepeatedPtrField<std::string>& field) {
  return {field.begin(), field.end()};
}

}  // namespace

v1::RunState NextRunState(v1::RunState from, RunTrigger trigger) {
  for (const RunTransition& transition : kRunTransitions) {
    if (transition.from == from && transition.trigger == trigger) return transition.to;
  }
  return v1::RUN_STATE_UNSPECIFIED;
}

// ---- Birth

RunMachine::RunMachine(const RunSetup& setup, const Turn& turn)
    : planned_(setup.test.load()),
      profile_(setup.test.load()),
      figures_(setup.endpoints, setup.nodes, Seconds(absl::Nanoseconds(planned_.EndNs())), setup.node_processes),
      length_(absl::Nanoseconds(planned_.EndNs())) {
  run_.set_run_id(setup.run_id);
  *run_.mutable_test() = setup.test;
  run_.set_state(v1::RUN_STATE_PREPARING);
  for (const std::string& endpoint : setup.endpoints) run_.add_endpoints(endpoint);
  for (const std::string& node : setup.nodes) run_.add_nodes(node);
  *run_.mutable_created_at() = ToWire(turn.now);
  *run_.mutable_planned_duration() = ToWire(length_);
  deadline_ = turn.now + turn.options.prepare_timeout;
  std::string memory;
  for (const Assigned& assigned : setup.plan.assignment) {
    v1::Participant* participant = run_.add_participants();
    participant->set_agent(assigned.agent);
    participant->set_first_worker(assigned.first_worker);
    participant->set_worker_count(assigned.worker_count);
    if (!assigned.memory.has_value()) continue;
    *participant->mutable_memory_need() = *assigned.memory;
    absl::StrAppend(&memory, memory.empty() ? "; memory expected: " : ", ",
                    (assigned.memory->kernel_bytes() + assigned.memory->user_bytes()) >> 20, " MiB on the host of ",
                    assigned.agent);
  }
  for (const std::string& observer : setup.observers) {
    if (Find(observer) == nullptr) run_.add_participants()->set_agent(observer);
  }
  AddEvent(
      "run-created", v1::SEVERITY_INFO, "",
      absl::StrCat(Counted(planned_.Peak(), "connection"), " at the peak on ",
                   Counted(setup.plan.workers_total, "worker"), " of ", Counted(setup.plan.assignment.size(), "agent"),
                   ", ", Counted(setup.endpoints.size(), "endpoint"), memory),
      turn);
  for (const v1::Participant& participant : run_.participants()) {
    figures_.Join(participant.agent(), participant.worker_count() > 0);
    v1::Command command;
    command.set_command_id(CommandId(participant.agent(), "prepare"));
    v1::PrepareRun* prepare = command.mutable_prepare_run();
    prepare->set_run_id(setup.run_id);
    *prepare->mutable_test() = setup.test;
    *prepare->mutable_endpoints() = run_.endpoints();
    *prepare->mutable_nodes() = run_.nodes();
    prepare->set_first_worker(participant.first_worker());
    prepare->set_worker_count(participant.worker_count());
    prepare->set_workers_total(setup.plan.workers_total);
    const bool observes =
        std::find(setup.observers.begin(), setup.observers.end(), participant.agent()) != setup.observers.end();
    if (observes) prepare->set_observe_deployment(setup.deployment);
    turn.Issue(participant.agent(), std::move(command));
  }
}

RunMachine::RunMachine(v1::Run run, const std::vector<const PutSample*>& samples,
                       const std::map<std::string, uint32_t>& node_processes, absl::Time now,
                       const CoordinatorOptions& options)
    : run_(std::move(run)),
      planned_(run_.test().load()),
      profile_(run_.test().load()),
      figures_(ToVector(run_.endpoints()), ToVector(run_.nodes()), Seconds(absl::Nanoseconds(planned_.EndNs())),
               node_processes),
      length_(absl::Nanoseconds(planned_.EndNs())),
      dirty_(false) {
  for (const v1::AppliedUpdate& update : run_.updates()) {
    profile_.Update(absl::ToInt64Nanoseconds(FromWire(update.at_elapsed())), update.update());
  }
  for (const v1::Participant& participant : run_.participants()) {
    figures_.Join(participant.agent(), participant.worker_count() > 0);
  }
  for (const PutSample* sample : samples) figures_.Add(sample->agent, sample->sample);
  for (const v1::Participant& participant : run_.participants()) {
    if (participant.finished() || participant.lost()) figures_.Close(participant.agent(), participant.finished());
  }
  for (const v1::Event& event : run_.events()) event_bytes_ += event.ByteSizeLong();
  if (run_.events_size() > 0 && run_.events().rbegin()->code() == kEventsLeftOut) {
    const std::string& message = run_.events().rbegin()->message();
    if (!absl::SimpleAtoi(message.substr(0, message.find(' ')), &events_left_out_)) events_left_out_ = 1;
  }
  // The snapshot of a final second was written with the sample that made it so.
  figures_.Publish(0, [](v1::Snapshot*) {});
  // Agents need time to come back, however long this coordinator was away.
  if (run_.state() == v1::RUN_STATE_PREPARING) deadline_ = now + options.prepare_timeout;
  if (run_.state() == v1::RUN_STATE_STOPPING) SetDeadline(now, options);
}

// ---- What agents say

bool RunMachine::Wants(const std::string& agent) const {
  const v1::Participant* participant = Find(agent);
  return participant != nullptr && !participant->lost() && !participant->finished() && !finished();
}

bool RunMachine::Prepared(const std::string& agent, const Turn& turn) const {
  // The command is forgotten in the same transaction that takes its result, so this survives a restart.
  const std::string id = CommandId(agent, "prepare");
  return !turn.commands.Pending(agent, [&](const v1::Command& command) { return command.command_id() == id; });
}

void RunMachine::OnHello(const std::string& agent, bool holds, const Turn& turn) {
  if (!Wants(agent) || holds || !Prepared(agent, turn)) return;
  Lose(agent, "it restarted and its workers are gone", turn);
}

void RunMachine::OnResult(const std::string& agent, const v1::Command& command, const absl::Status& status,
                          const Turn& turn) {
  if (!Wants(agent)) return;
  switch (command.command_case()) {
    case v1::Command::kPrepareRun:
      if (!status.ok()) {
        // Nothing of the run is left there.
        Find(agent)->set_finished(true);
        figures_.Close(agent, true);
        // An agent that was told to stop while it prepared has not failed.
        if (run_.state() == v1::RUN_STATE_STOPPING && absl::IsCancelled(status)) {
          CheckDone(turn);
          break;
        }
        Fail("prepare-failed", agent, std::string(status.message()), true, turn);
      }
      CheckPrepared(turn);
      break;
    case v1::Command::kStartRun:
      if (!status.ok()) Fail("start-failed", agent, std::string(status.message()), true, turn);
      break;
    case v1::Command::kUpdateRun:
      if (!status.ok()) {
        AddReason("update-failed", absl::StrCat("agent ", agent, ": ", status.message()));
        AddEvent("update-failed", v1::SEVERITY_ERROR, agent, status.message(), turn);
      }
      break;
    default:
      break;
  }
  CheckDone(turn);
}

bool RunMachine::OnSample(const std::string& agent, const v1::AgentSample& sample, const Turn& turn) {
  if (!Wants(agent)) return false;
  const bool had_endpoint_latency = !figures_.endpoint_latency_left_out();
  switch (figures_.Add(agent, sample)) {
    case RunFigures::Taken::kMerged:
      publish_ = true;
      if (had_endpoint_latency && figures_.endpoint_latency_left_out()) {
        AddEvent("endpoint-latency-left-out", v1::SEVERITY_WARNING, agent,
                 absl::StrCat("from second ", sample.elapsed_s(),
                              " on the latency by endpoint is more than a message can carry and is left out, for the "
                              "whole run as well; the latency over all endpoints is complete"),
                 turn);
      }
      return true;
    case RunFigures::Taken::kRepeat:
      return false;
    case RunFigures::Taken::kMalformed:
      AddReason("samples-malformed", absl::StrCat("agent ", agent, " sent a second that cannot be read"));
      AddEvent("sample-malformed", v1::SEVERITY_ERROR, agent,
               absl::StrCat("second ", sample.elapsed_s(), " cannot be read and is left out"), turn);
      return false;
  }
  return false;
}

void RunMachine::OnEvent(const std::string& agent, const v1::Event& event, const Turn& turn) {
  if (finished() || Find(agent) == nullptr) return;
  v1::Event recorded = event;
  recorded.set_agent(agent);
  AddEvent(std::move(recorded), turn);
  if (event.code() == "worker-died") {
    AddReason("worker-lost", absl::StrCat("agent ", agent, ": ", event.message()));
  } else if (event.code() == "target-refuses") {
    Fail("target-refuses", agent, event.message(), false, turn);
  }
  CheckDone(turn);
}

void RunMachine::OnStarted(const std::string& agent, const v1::RunStarted& started) {
  v1::Participant* participant = Find(agent);
  if (participant == nullptr || finished()) return;
  dirty_ = true;
  *participant->mutable_started_at() = started.started_at();
  *participant->mutable_clock_uncertainty() = started.clock_uncertainty();
  absl::Time first = absl::InfiniteFuture();
  absl::Time last = absl::InfinitePast();
  for (const v1::Participant& each : run_.participants()) {
    if (!each.has_started_at() || each.worker_count() == 0) continue;
    first = std::min(first, FromWire(each.started_at()));
    last = std::max(last, FromWire(each.started_at()));
  }
  if (first <= last) *run_.mutable_start_skew() = ToWire(last - first);
}

void RunMachine::OnFinished(const std::string& agent, const Turn& turn) {
  if (!Wants(agent)) return;
  Find(agent)->set_finished(true);
  figures_.Close(agent, true);
  publish_ = true;
  AddEvent("agent-finished", v1::SEVERITY_INFO, agent, "its part is over and every second of it is in", turn);
  if (run_.state() == v1::RUN_STATE_PREPARING) {
    Fail("prepare-failed", agent, "it ended the run before the start", true, turn);
  }
  CheckDone(turn);
}

void RunMachine::OnNode(const std::string& agent, const v1::NodeStatus& status, const Turn& turn) {
  const bool healthy = status.state() == v1::DEPLOYMENT_STATE_HEALTHY;
  v1::Event event;
  event.set_agent(agent);
  event.set_subject(status.node());
  event.set_code(healthy ? "node-healthy" : "node-unhealthy");
  event.set_severity(healthy ? v1::SEVERITY_INFO : v1::SEVERITY_ERROR);
  event.set_message(absl::StrCat("node ", status.node(), healthy ? " is healthy again" : " is not healthy",
                                 status.message().empty() ? "" : ": ", status.message()));
  AddEvent(std::move(event), turn);
}

// ---- What time and people say

void RunMachine::OnStall(absl::Duration stall, const Turn& turn) {
  if (finished()) return;
  deadline_ += stall;
  AddEvent(
      "coordinator-stalled", v1::SEVERITY_WARNING, "",
      absl::StrFormat("the coordinator itself stood still for %.1f s (stopped, suspended, or waiting for its disk); "
                      "that agents were not heard meanwhile does not count against them",
                      absl::ToDoubleSeconds(stall)),
      turn);
}

void RunMachine::OnTick(const Turn& turn) {
  for (const v1::Participant& participant : run_.participants()) {
    if (Wants(participant.agent()) && turn.GivenUp(participant.agent())) {
      Lose(participant.agent(), absl::StrCat("out of reach for ", absl::FormatDuration(turn.options.agent_lost_after)),
           turn);
    }
  }
  if (run_.state() == v1::RUN_STATE_PREPARING && turn.now >= deadline_) {
    for (const v1::Participant& participant : run_.participants()) {
      if (Prepared(participant.agent(), turn)) continue;
      Fail("prepare-failed", participant.agent(),
           absl::StrCat("not ready after ", absl::FormatDuration(turn.options.prepare_timeout)), true, turn);
      break;
    }
  }
  if (run_.state() == v1::RUN_STATE_STARTING && turn.now >= FromWire(run_.start_at())) {
    Move(RunTrigger::kStartReached, turn);
  }
  if (run_.state() == v1::RUN_STATE_RUNNING && turn.now >= FromWire(run_.start_at()) + length_) {
    // From now and not from the profile's end: after an outage that outlasted it the agents still hold samples.
    SetDeadline(turn.now, turn.options);
    Move(RunTrigger::kProfileOver, turn);
  }
  if (run_.state() == v1::RUN_STATE_STOPPING && turn.now >= deadline_) {
    for (const v1::Participant& participant : run_.participants()) {
      if (!Wants(participant.agent())) continue;
      const std::string late = absl::StrCat("agent ", participant.agent(), " did not end its part in time");
      AddReason("drain-timeout", late);
      AddEvent("drain-timeout", v1::SEVERITY_ERROR, participant.agent(), late, turn);
    }
    SendStop(true, turn);
    Move(RunTrigger::kDrainTimeout, turn);
    Finish(turn);
  }
}

void RunMachine::Stop(bool abort, const Turn& turn) {
  if (finished()) return;
  const bool never_started = run_.state() == v1::RUN_STATE_PREPARING;
  if (run_.state() != v1::RUN_STATE_STOPPING) {
    const std::string when =
        run_.state() == v1::RUN_STATE_RUNNING
            ? absl::StrFormat("%.1f s after its start", absl::ToDoubleSeconds(turn.now - FromWire(run_.start_at())))
            : "before its start";
    AddReason("stop-requested", absl::StrCat("stopped by request ", when));
    AddEvent("stop-requested", v1::SEVERITY_INFO, "", abort ? "abort" : "graceful", turn);
    SetDeadline(turn.now, turn.options);
    Move(RunTrigger::kStopAsked, turn);
    SendStop(abort || never_started, turn);
  } else if (abort) {
    Move(RunTrigger::kStopAsked, turn);
    SendStop(true, turn);
  }
  CheckDone(turn);
}

absl::StatusOr<v1::AppliedUpdate> RunMachine::Update(const v1::LoadUpdate& update, const Turn& turn) {
  if (run_.state() != v1::RUN_STATE_RUNNING) {
    return Precondition("RUN_NOT_RUNNING", run_.run_id(),
                        absl::StrCat("run ", run_.run_id(), " is not running (it is ", Words(run_.state()),
                                     "): its load can be changed only while it is on"));
  }
  if (!update.has_connections() && !update.has_rate_per_s()) {
    return BadField("update", "nothing to change: set connections or rate_per_s");
  }
  if (FromWire(update.ramp()) < absl::ZeroDuration()) return BadField("update.ramp", "must not be negative");
  if (update.has_connections() && update.connections() > planned_.Peak()) {
    return Precondition("ABOVE_PLAN", run_.run_id(),
                        absl::StrCat("the run was planned, and its workers were sized, for at most ", planned_.Peak(),
                                     " connections; start a test with a higher peak to go to ", update.connections()));
  }
  if (update.has_rate_per_s()) {
    const bool open =
        run_.test().load().has_requests() && run_.test().load().requests().model() == v1::REQUEST_MODEL_OPEN;
    if (!open) {
      return Precondition("NO_RATE", run_.run_id(), "only a test with the open model has a rate that can be changed");
    }
    if (!std::isfinite(update.rate_per_s()) || update.rate_per_s() < 0 || update.rate_per_s() > 1e9) {
      return BadField("update.rate_per_s", "must be between 0 and 1e9");
    }
  }
  if (run_.updates_size() >= kMaxUpdates) {
    return absl::ResourceExhaustedError(absl::StrCat("the run was changed ", kMaxUpdates, " times, the limit"));
  }
  // A second ahead, so that every agent has it in time and all change at one instant.
  const absl::Duration at = turn.now - FromWire(run_.start_at()) + absl::Seconds(1);
  if (at >= length_) return Precondition("RUN_ENDING", run_.run_id(), "the run ends within a second");

  v1::AppliedUpdate* applied = run_.add_updates();
  *applied->mutable_at_elapsed() = ToWire(at);
  *applied->mutable_update() = update;
  profile_.Update(absl::ToInt64Nanoseconds(at), update);
  std::string message = "from ";
  absl::StrAppend(&message, absl::FormatDuration(absl::Trunc(at, absl::Milliseconds(1))), " on:");
  if (update.has_connections()) absl::StrAppend(&message, " connections ", update.connections());
  if (update.has_rate_per_s()) absl::StrAppend(&message, " rate ", update.rate_per_s(), "/s");
  AddEvent("load-updated", v1::SEVERITY_INFO, "", message, turn);
  for (const v1::Participant& participant : run_.participants()) {
    if (!Wants(participant.agent())) continue;
    v1::Command command;
    command.set_command_id(CommandId(participant.agent(), absl::StrCat("update-", run_.updates_size())));
    command.mutable_update_run()->set_run_id(run_.run_id());
    *command.mutable_update_run()->mutable_at_elapsed() = applied->at_elapsed();
    *command.mutable_update_run()->mutable_update() = update;
    turn.Issue(participant.agent(), std::move(command));
  }
  return *applied;
}

// ---- The machine

bool RunMachine::Move(RunTrigger trigger, const Turn& turn) {
  const v1::RunState next = NextRunState(run_.state(), trigger);
  if (next == v1::RUN_STATE_UNSPECIFIED) return false;
  dirty_ = true;
  if (next == run_.state()) return true;
  run_.set_state(next);
  AddEvent("state", v1::SEVERITY_INFO, "", absl::StrCat("the run is ", Words(next)), turn);
  return true;
}

void RunMachine::Fail(absl::string_view code, const std::string& agent, const std::string& message, bool abort,
                      const Turn& turn) {
  if (finished()) return;
  AddReason(code, agent.empty() ? message : absl::StrCat("agent ", agent, ": ", message));
  AddEvent(code, v1::SEVERITY_ERROR, agent, message, turn);
  if (run_.state() == v1::RUN_STATE_STOPPING) return;
  SetDeadline(turn.now, turn.options);
  Move(RunTrigger::kFailure, turn);
  SendStop(abort, turn);
  CheckDone(turn);
}

void RunMachine::Lose(const std::string& agent, const std::string& why, const Turn& turn) {
  v1::Participant* participant = Find(agent);
  participant->set_lost(true);
  figures_.Close(agent, false);
  publish_ = true;
  turn.commands.Drop(
      agent, [&](const v1::Command& c) { return RunOf(c) == run_.run_id(); }, turn.actions);
  const std::string message = absl::StrCat("agent ", agent, " is lost to the run: ", why);
  AddEvent("agent-lost", v1::SEVERITY_ERROR, agent, message, turn);
  if (run_.state() == v1::RUN_STATE_PREPARING) {
    Fail("agent-lost", "", message, true, turn);
  } else {
    AddReason("agent-lost", message);
  }
  CheckDone(turn);
}

void RunMachine::SendStop(bool abort, const Turn& turn) {
  for (const v1::Participant& participant : run_.participants()) {
    if (!Wants(participant.agent())) continue;
    v1::Command command;
    command.set_command_id(CommandId(participant.agent(), abort ? "abort" : "stop"));
    command.mutable_stop_run()->set_run_id(run_.run_id());
    command.mutable_stop_run()->set_abort(abort);
    turn.Issue(participant.agent(), std::move(command));
  }
}

void RunMachine::CheckPrepared(const Turn& turn) {
  if (run_.state() != v1::RUN_STATE_PREPARING) return;
  for (const v1::Participant& participant : run_.participants()) {
    if (!Prepared(participant.agent(), turn)) return;
  }
  const absl::Time start = absl::FromUnixNanos(absl::ToUnixNanos(turn.now + turn.options.start_delay));
  *run_.mutable_start_at() = ToWire(start);
  deadline_ = absl::InfiniteFuture();
  Move(RunTrigger::kAllPrepared, turn);
  for (const v1::Participant& participant : run_.participants()) {
    v1::Command command;
    command.set_command_id(CommandId(participant.agent(), "start"));
    command.mutable_start_run()->set_run_id(run_.run_id());
    command.mutable_start_run()->set_start_unix_ns(absl::ToUnixNanos(start));
    turn.Issue(participant.agent(), std::move(command));
  }
}

void RunMachine::CheckDone(const Turn& turn) {
  if (finished() || run_.state() == v1::RUN_STATE_PREPARING) return;
  bool all = true;
  bool load_left = false;
  for (const v1::Participant& participant : run_.participants()) {
    const bool wanted = Wants(participant.agent());
    all = all && !wanted;
    load_left = load_left || (wanted && participant.worker_count() > 0);
  }
  if (all) {
    Move(RunTrigger::kAllDone, turn);
    Finish(turn);
  } else if (!load_left && run_.state() != v1::RUN_STATE_STOPPING) {
    // Agents that only watch nodes have nothing left to watch them under.
    SetDeadline(turn.now, turn.options);
    Move(RunTrigger::kFailure, turn);
    SendStop(false, turn);
  }
}

void RunMachine::Finish(const Turn& turn) {
  EmitSnapshots(turn, true);
  *run_.mutable_ended_at() = ToWire(turn.now);
  figures_.Totals(run_.mutable_totals());
  const bool had_endpoint_latency = !figures_.endpoint_latency_left_out();
  run_.set_endpoint_latency_left_out(figures_.EndpointTotals(run_.mutable_endpoint_totals()));
  if (had_endpoint_latency && run_.endpoint_latency_left_out()) {
    AddEvent(
        "endpoint-latency-left-out", v1::SEVERITY_WARNING, "",
        "the latency by endpoint over the whole run is more than a message can carry and is left out of its totals; "
        "its seconds have it, and the latency over all endpoints is complete",
        turn);
  }
  run_.set_peak_connections(figures_.peak_connections());
  run_.set_recorded_s(figures_.recorded_s());
  *run_.mutable_latency() = figures_.totals().latency().ToPercentiles();
  *run_.mutable_service_time() = figures_.totals().service_time().ToPercentiles();
  *run_.mutable_schedule_lag() = figures_.totals().schedule_lag().ToPercentiles();
  *run_.mutable_connect_time() = figures_.totals().connect_time().ToPercentiles();
  *run_.mutable_handshake_time() = figures_.totals().handshake_time().ToPercentiles();
  for (std::string& gap : figures_.Gaps()) run_.add_gaps(std::move(gap));
  const double load_s = std::min<double>(figures_.recorded_s(), absl::ToDoubleSeconds(length_));
  JudgeThresholds(load_s, &run_);
  for (v1::Participant& participant : *run_.mutable_participants()) {
    const auto found = figures_.strain().hosts.find(participant.agent());
    if (found == figures_.strain().hosts.end() || found->second.figures.seconds() == 0) continue;
    const HostLoad& host = found->second;
    *participant.mutable_host() = host.figures;
    participant.mutable_host()->set_agent(participant.agent());
    if (host.memory_before_bytes && host.memory_least_bytes) {
      const uint64_t before = *host.memory_before_bytes;
      participant.set_memory_taken_bytes(before - std::min(before, *host.memory_least_bytes));
    }
  }
  Judgement judgement = Judge({run_, figures_.strain(), figures_.seconds_without_worker(), Seconds(length_)});
  *run_.mutable_verdict() = std::move(judgement.verdict);
  for (const v1::Reason& note : judgement.notes) {
    AddEvent(note.code(), v1::SEVERITY_WARNING, "",
             absl::StrCat(note.message(), note.remedy().empty() ? "" : "; ", note.remedy()), turn);
  }
  // What is left to say to an agent is said by the next Welcome; only the stop is still of use to one that is
  // connected.
  turn.commands.Drop(
      "", [&](const v1::Command& c) { return RunOf(c) == run_.run_id() && !c.has_stop_run(); }, turn.actions);
  dirty_ = true;
}

void RunMachine::EmitSnapshots(const Turn& turn, bool all) {
  if (!run_.has_start_at()) return;
  const absl::Time start = FromWire(run_.start_at());
  const absl::Duration past = turn.now - start - turn.options.snapshot_patience;
  const auto due = static_cast<uint32_t>(std::max<int64_t>(0, absl::ToInt64Seconds(past)));
  const auto receive = [&](v1::Snapshot* snapshot) {
    const uint32_t k = snapshot->to_elapsed_s();
    snapshot->set_run_id(run_.run_id());
    *snapshot->mutable_time() = ToWire(start + absl::Seconds(k + 1));
    snapshot->set_stage_index(profile_.StageAt(absl::ToInt64Nanoseconds(absl::Seconds(k + 1)) - 1));
    snapshot->set_planned_s(Seconds(length_));
    turn.Do(PutSnapshot{std::move(*snapshot)});
    publish_ = true;
  };
  if (all) {
    figures_.PublishAll(receive);
  } else {
    figures_.Publish(due, receive);
  }
}

void RunMachine::Flush(const Turn& turn) {
  if (!finished()) EmitSnapshots(turn, false);
  if (dirty_) turn.Do(PutRun{run_});
  if (dirty_ || publish_) turn.Do(Publish{run_.run_id()});
  dirty_ = false;
  publish_ = false;
}

absl::Time RunMachine::NextInstant() const {
  switch (run_.state()) {
    case v1::RUN_STATE_STARTING:
      return FromWire(run_.start_at());
    case v1::RUN_STATE_RUNNING:
      return FromWire(run_.start_at()) + length_;
    case v1::RUN_STATE_PREPARING:
    case v1::RUN_STATE_STOPPING:
      return deadline_;
    default:
      return absl::InfiniteFuture();
  }
}

// ---- Small things

v1::Participant* RunMachine::Find(const std::string& agent) {
  for (v1::Participant& participant : *run_.mutable_participants()) {
    if (participant.agent() == agent) return &participant;
  }
  return nullptr;
}

const v1::Participant* RunMachine::Find(const std::string& agent) const {
  for (const v1::Participant& participant : run_.participants()) {
    if (participant.agent() == agent) return &participant;
  }
  return nullptr;
}

std::string RunMachine::CommandId(const std::string& agent, absl::string_view what) const {
  // Run ids are unique for ever, so these are.
  return absl::StrCat(run_.run_id(), "/", agent, "/", what);
}

void RunMachine::SetDeadline(absl::Time from, const CoordinatorOptions& options) {
  // Requests in flight are waited for as long as they may take.
  const absl::Duration answers = FromWire(run_.test().load().requests().timeout()) + absl::Seconds(10);
  deadline_ = from + std::max(options.drain_timeout, answers);
}

void RunMachine::AddReason(absl::string_view code, absl::string_view message) {
  dirty_ = true;
  for (const v1::Reason& reason : run_.verdict().reasons()) {
    if (reason.code() == code && reason.message() == message) return;
  }
  if (run_.verdict().reasons_size() >= kMaxReasons) return;
  v1::Reason reason = MakeReason(code, message);
  Clip(kMaxText, reason.mutable_message());
  *run_.mutable_verdict()->add_reasons() = std::move(reason);
}

void RunMachine::AddEvent(absl::string_view code, v1::Severity severity, const std::string& agent,
                          absl::string_view message, const Turn& turn) {
  v1::Event event;
  event.set_code(std::string(code));
  event.set_severity(severity);
  event.set_agent(agent);
  event.set_message(std::string(message));
  AddEvent(std::move(event), turn);
}

void RunMachine::AddEvent(v1::Event event, const Turn& turn) {
  dirty_ = true;
  if (!event.has_time()) *event.mutable_time() = ToWire(turn.now);
  if (!event.has_elapsed_s() && run_.has_start_at()) {
    const double elapsed_s = absl::ToDoubleSeconds(turn.now - FromWire(run_.start_at()));
    if (elapsed_s >= 0) event.set_elapsed_s(elapsed_s);
  }
  // Some come from agents, and they from workers and nodes.
  Clip(kMaxText, event.mutable_message());
  Clip(128, event.mutable_subject());
  Clip(64, event.mutable_code());
  const size_t bytes = event.ByteSizeLong();
  if (events_left_out_ == 0 && run_.events_size() < kMaxEvents && event_bytes_ + bytes <= kMaxEventBytes) {
    event_bytes_ += bytes;
    *run_.add_events() = std::move(event);
    return;
  }
  if (events_left_out_ == 0) {
    run_.add_events()->set_code(std::string(kEventsLeftOut));
    run_.mutable_events()->rbegin()->set_severity(v1::SEVERITY_WARNING);
  }
  v1::Event* last = &*run_.mutable_events()->rbegin();
  *last->mutable_time() = event.time();
  last->set_message(absl::StrCat(++events_left_out_, " more events were left out"));
}

}  // namespace loadstar::server
