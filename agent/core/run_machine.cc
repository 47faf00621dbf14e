#include "agent/core/run_machine.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/plan/profile.h"
#include "lib/plan/split.h"

namespace loadstar::agent {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
// A killed process is waited for so long before its run counts as over.
constexpr int64_t kKillPatienceNs = 5 * kSecondNs;
// The host is read within milliseconds of a second's end unless this agent stands still.
constexpr int64_t kHostPatienceNs = kSecondNs / 2;

void SetTimestamp(int64_t unix_ns, google::protobuf::Timestamp* out) {
  out->set_seconds(unix_ns / kSecondNs);
  out->set_nanos(static_cast<int32_t>(unix_ns % kSecondNs));
}

void SetDuration(int64_t ns, google::protobuf::Duration* out) {
  out->set_seconds(ns / kSecondNs);
  out->set_nanos(static_cast<int32_t>(ns % kSecondNs));
}

RunSeconds::Options SecondsOf(const v1::PrepareRun& prepare, int64_t patience_ns) {
  RunSeconds::Options options;
  options.run_id = prepare.run_id();
  options.first_worker = prepare.first_worker();
  options.worker_count = prepare.worker_count();
  options.endpoints.assign(prepare.endpoints().begin(), prepare.endpoints().end());
  options.nodes.assign(prepare.nodes().begin(), prepare.nodes().end());
  options.observing = !prepare.observe_deployment().empty();
  options.patience_ns = patience_ns;
  options.host_patience_ns = std::min(kHostPatienceNs, patience_ns);
  return options;
}

}  // namespace

absl::Status RunMachine::Check(const v1::PrepareRun& prepare) {
  if (prepare.run_id().empty()) return absl::InvalidArgumentError("PrepareRun without a run_id");
  if (prepare.test().load().connections().empty()) return absl::InvalidArgumentError("the load has no stages");
  if (prepare.worker_count() > kMaxWorkers) {
    return absl::InvalidArgumentError(
        absl::StrCat(prepare.worker_count(), " workers on one agent; the limit is ", kMaxWorkers));
  }
  if (prepare.worker_count() > 0) {
    if (prepare.endpoints().empty()) return absl::InvalidArgumentError("no endpoints");
    const uint64_t end = uint64_t{prepare.first_worker()} + prepare.worker_count();
    if (end > prepare.workers_total()) {
      return absl::InvalidArgumentError(absl::StrCat("workers ", prepare.first_worker(), " to ", end - 1, " of ",
                                                     prepare.workers_total(), " do not exist"));
    }
  }
  return absl::OkStatus();
}

RunMachine::RunMachine(const v1::PrepareRun& prepare, std::string command_id, const Turn& turn)
    : prepare_(prepare),
      prepare_command_(std::move(command_id)),
      length_ns_(plan::ConnectionProfile(prepare.test().load()).EndNs()),
      patience_ns_(turn.options.sample_patience_ns),
      seconds_(SecondsOf(prepare, patience_ns_)),
      end_ns_(length_ns_) {
  for (uint32_t i = 0; i < prepare_.worker_count(); ++i) {
    const WorkerId id = ++turn.last_worker;
    workers_[id].index = i;
    turn.Do(SpawnWorker{id});
    SendToWorker plan{id, {}};
    *plan.message.mutable_plan() = PlanOf(i);
    turn.Do(std::move(plan));
  }
  Advance(turn);
}

v1::WorkerPlan RunMachine::PlanOf(uint32_t index) const {
  const v1::LoadSpec& load = prepare_.test().load();
  v1::WorkerPlan plan;
  plan.set_run_id(prepare_.run_id());
  plan.set_worker_index(prepare_.first_worker() + index);
  plan.set_worker_count(prepare_.workers_total());
  *plan.mutable_load() = load;
  plan.set_protocol(prepare_.test().target().protocol());
  *plan.mutable_tcp() = prepare_.test().target().tcp();
  *plan.mutable_mcp() = prepare_.test().target().mcp();
  *plan.mutable_http() = prepare_.test().target().http();
  *plan.mutable_endpoints() = prepare_.endpoints();
  // Endpoints of a stack have no other names.
  if (prepare_.test().target().endpoints_size() == prepare_.endpoints_size()) {
    *plan.mutable_endpoint_names() = prepare_.test().target().endpoints();
  }
  const plan::Split split(prepare_.workers_total(), static_cast<uint32_t>(prepare_.endpoints_size()),
                          static_cast<uint32_t>(load.source_addresses_size()));
  // The coordinator refuses changes of the load above the peak, so no worker is asked for more.
  plan.set_connections_max(
      split.ShareOf(prepare_.first_worker() + index, plan::ConnectionProfile(prepare_.test().load()).Peak()));
  return plan;
}

// ---- Commands

absl::Status RunMachine::Start(int64_t start_unix_ns, const Turn& turn) {
  if (state_ != State::kReady) {
    return absl::FailedPreconditionError(absl::StrCat("run ", run_id(), " is not ready to start here"));
  }
  start_unix_ns_ = start_unix_ns;
  state_ = State::kRunning;
  TellStart(turn);
  return absl::OkStatus();
}

void RunMachine::TellStart(const Turn& turn) {
  if (start_ns_.has_value() || !start_unix_ns_.has_value() || !turn.clock.known()) return;
  start_ns_ = turn.clock.ToMonotonic(*start_unix_ns_);
  for (const auto& [id, worker] : workers_) {
    if (!worker.running) continue;
    SendToWorker start{id, {}};
    start.message.mutable_start()->set_start_monotonic_ns(*start_ns_);
    turn.Do(std::move(start));
  }
  observing_ = true;
  turn.Do(Observe{run_id(), prepare_.observe_deployment(), *start_ns_});
}

absl::Status RunMachine::Update(const v1::UpdateRun& update, const Turn& turn) {
  if (state_ != State::kRunning || !start_ns_.has_value()) {
    return absl::FailedPreconditionError(absl::StrCat("run ", run_id(), " is not running here"));
  }
  for (const auto& [id, worker] : workers_) {
    if (!worker.running || worker.finished) continue;
    SendToWorker send{id, {}};
    send.message.mutable_update()->set_at_elapsed_ns(update.at_elapsed().seconds() * kSecondNs +
                                                     update.at_elapsed().nanos());
    *send.message.mutable_update()->mutable_update() = update.update();
    turn.Do(std::move(send));
  }
  return absl::OkStatus();
}

void RunMachine::Stop(bool abort, const Turn& turn) {
  if (state_ == State::kDone) return;
  if (state_ == State::kPreparing) {
    turn.End(prepare_command_, absl::CancelledError("the run was stopped while it was prepared"));
  }
  const bool loaded = start_ns_.has_value();
  if (abort || !loaded) {
    Abort(turn);
  } else if (state_ == State::kRunning) {
    end_ns_ = std::clamp<int64_t>(turn.now_ns - *start_ns_, 0, length_ns_);
    for (const auto& [id, worker] : workers_) {
      if (!worker.running || worker.finished) continue;
      SendToWorker stop{id, {}};
      stop.message.mutable_stop()->set_at_elapsed_ns(end_ns_);
      turn.Do(std::move(stop));
    }
    state_ = State::kEnding;
  }
  Advance(turn);
}

void RunMachine::Abort(const Turn& turn) {
  state_ = State::kEnding;
  if (start_ns_.has_value()) end_ns_ = std::clamp<int64_t>(turn.now_ns - *start_ns_, 0, length_ns_);
  if (!aborting_) {
    aborting_ = true;
    aborted_ns_ = turn.now_ns;
  }
  KillAll(turn);
}

void RunMachine::KillAll(const Turn& turn) {
  for (const auto& [id, worker] : workers_) {
    if (worker.running) turn.Do(KillWorker{id});
  }
}

void RunMachine::Forget(const Turn& turn) {
  KillAll(turn);
  if (observing_) turn.Do(StopObserving{run_id()});
  observing_ = false;
  // Whoever still asks for the result of the preparation is told that it came to nothing.
  turn.End(prepare_command_, absl::CancelledError("the coordinator does not want the run any more"));
}

void RunMachine::Orphan(const Turn& turn) {
  if (state_ == State::kDone) return;
  Event("orphaned", v1::SEVERITY_ERROR, "",
        absl::StrCat("the coordinator was out of reach for ", turn.options.orphan_after_ns / kSecondNs,
                     " s: the agent ends the run by itself"),
        std::nullopt, turn);
  Stop(state_ == State::kEnding, turn);
}

// ---- Workers

void RunMachine::OnWorker(WorkerId id, const v1::WorkerToAgent& message, const Turn& turn) {
  Worker& worker = workers_.at(id);
  const std::string subject = absl::StrCat("worker ", prepare_.first_worker() + worker.index);
  switch (message.message_case()) {
    case v1::WorkerToAgent::kReady:
      worker.ready = true;
      worker.backend = absl::StrCat(message.ready().backend(), message.ready().backend_reason().empty() ? "" : ": ",
                                    message.ready().backend_reason());
      if (state_ == State::kPreparing && !message.ready().error().empty()) {
        FailPreparation(absl::FailedPreconditionError(absl::StrCat(subject, ": ", message.ready().error())), turn);
        return;
      }
      break;
    case v1::WorkerToAgent::kStarted:
      worker.started_ns = message.started().started_monotonic_ns();
      break;
    case v1::WorkerToAgent::kSample:
      (void)seconds_.Add(worker.index, message.sample());
      break;
    case v1::WorkerToAgent::kEvent: {
      const v1::WorkerEvent& event = message.event();
      if (++worker.events > kMaxEventsOfWorker) break;
      Event(event.code(), static_cast<v1::Severity>(std::min<uint32_t>(event.severity(), v1::SEVERITY_ERROR)), subject,
            event.message(), static_cast<double>(event.at_elapsed_ns()) / 1e9, turn);
      if (worker.events == kMaxEventsOfWorker) {
        Event("events-left-out", v1::SEVERITY_WARNING, subject,
              absl::StrCat("it has reported ", kMaxEventsOfWorker, " events; further ones are left out"), std::nullopt,
              turn);
      }
      break;
    }
    case v1::WorkerToAgent::kFinished:
      worker.finished = true;
      seconds_.End(worker.index, RunSeconds::Ending::kFinished);
      break;
    case v1::WorkerToAgent::MESSAGE_NOT_SET:
      break;
  }
  Advance(turn);
}

void RunMachine::OnWorkerExit(WorkerId id, bool clean, const std::string& cause, const Turn& turn) {
  Worker& worker = workers_.at(id);
  if (!worker.running) return;
  worker.running = false;
  const std::string subject = absl::StrCat("worker ", prepare_.first_worker() + worker.index);
  const std::string how =
      absl::StrCat(subject, " ended: ", cause.empty() ? (clean ? "exit 0" : "no cause known") : cause);
  if (state_ == State::kPreparing) {
    FailPreparation(absl::InternalError(how), turn);
    return;
  }
  if (aborting_) {
    seconds_.End(worker.index, RunSeconds::Ending::kAborted);
  } else if (!worker.finished && state_ != State::kDone) {
    std::optional<double> elapsed_s;
    if (start_ns_.has_value()) elapsed_s = static_cast<double>(turn.now_ns - *start_ns_) / 1e9;
    Event("worker-died", v1::SEVERITY_ERROR, subject, how, elapsed_s, turn);
    seconds_.End(worker.index, RunSeconds::Ending::kDied);
  }
  Advance(turn);
}

void RunMachine::FailPreparation(const absl::Status& status, const Turn& turn) {
  KillAll(turn);
  turn.End(prepare_command_, status);
  state_ = State::kDone;
}

// Whether what was observed of a second is of this part. Watching alone has no worker to say what the last second is,
// and must not begin another one for as long as there is something to observe.
bool RunMachine::Awaits(uint32_t second) const {
  if (state_ != State::kRunning && state_ != State::kEnding) return false;
  return !workers_.empty() || std::max(second, seconds_.next_second()) < WatchedSeconds();
}

void RunMachine::OnNodes(NodesObserved observed) {
  if (!Awaits(observed.elapsed_s)) return;
  if (observed.before) {
    seconds_.AddNodesBefore(std::move(observed.nodes));
  } else {
    seconds_.AddNodes(observed.elapsed_s, std::move(observed.nodes));
  }
}

void RunMachine::OnHost(const HostObserved& observed, const Turn& turn) {
  if (!Awaits(observed.elapsed_s)) return;
  const v1::HostFigures& host = observed.host;
  if (observed.before) {
    if (host.has_memory_unused_bytes()) seconds_.AddMemoryBefore(host.memory_unused_bytes());
    return;
  }
  if (host.seconds() > 1) {
    Event("agent-stalled", v1::SEVERITY_WARNING, "",
          absl::StrCat("the agent stood still (stopped, suspended, or without a core) and read its host ",
                       host.seconds() - 1, host.seconds() == 2 ? " second" : " seconds",
                       " late; what the workers measured meanwhile is kept"),
          observed.elapsed_s, turn);
  }
  seconds_.AddHost(observed.elapsed_s, host);
}

// ---- What follows

// How the workers talk to the kernel belongs to the conditions of the result.
void RunMachine::TellBackends(const Turn& turn) {
  std::map<std::string, uint32_t> workers;
  for (const auto& [id, worker] : workers_) {
    if (!worker.backend.empty()) ++workers[worker.backend];
  }
  for (const auto& [backend, count] : workers) {
    Event("worker-backend", v1::SEVERITY_INFO, "",
          absl::StrCat(count, count == 1 ? " worker uses " : " workers use ", backend), std::nullopt, turn);
  }
}

bool RunMachine::AnyRunning() const {
  return std::any_of(workers_.begin(), workers_.end(), [](const auto& entry) { return entry.second.running; });
}

void RunMachine::Advance(const Turn& turn) {
  if (state_ == State::kPreparing) {
    const bool ready =
        std::all_of(workers_.begin(), workers_.end(), [](const auto& entry) { return entry.second.ready; });
    if (!ready) return;
    state_ = State::kReady;
    TellBackends(turn);
    turn.End(prepare_command_, absl::OkStatus());
  }
  if (state_ == State::kReady && !workers_.empty() && !AnyRunning()) state_ = State::kEnding;
  if (state_ != State::kRunning && state_ != State::kEnding) return;
  TellStart(turn);

  if (!started_reported_ && !workers_.empty() && turn.clock.known()) {
    int64_t latest_ns = INT64_MIN;
    bool all = true;
    for (const auto& [id, worker] : workers_) {
      if (worker.started_ns.has_value()) latest_ns = std::max(latest_ns, *worker.started_ns);
      all = all && (worker.started_ns.has_value() || !worker.running);
    }
    if (all && latest_ns != INT64_MIN) {
      started_reported_ = true;
      v1::Report report;
      report.mutable_run_started()->set_run_id(run_id());
      SetTimestamp(turn.clock.ToCoordinator(latest_ns), report.mutable_run_started()->mutable_started_at());
      SetDuration(turn.clock.uncertainty_ns(), report.mutable_run_started()->mutable_clock_uncertainty());
      turn.Report(std::move(report));
    }
  }

  if (aborting_ && turn.now_ns - aborted_ns_ >= kKillPatienceNs) {
    // A process that cannot even be killed must not hold the run up.
    for (auto& [id, worker] : workers_) {
      seconds_.End(worker.index, RunSeconds::Ending::kAborted);
      worker.running = false;
    }
  }
  const int64_t elapsed_ns = start_ns_.has_value() ? turn.now_ns - *start_ns_ : 0;
  seconds_.Report(elapsed_ns, [&](v1::AgentSample sample) {
    v1::Report report;
    *report.mutable_sample() = std::move(sample);
    turn.Report(std::move(report));
  });
  if (state_ == State::kRunning) {
    const bool ended = workers_.empty() ? start_ns_.has_value() && elapsed_ns >= end_ns_
                                        : std::all_of(workers_.begin(), workers_.end(), [](const auto& entry) {
                                            return entry.second.finished || !entry.second.running;
                                          });
    if (ended) state_ = State::kEnding;
  }
  if (state_ == State::kEnding && seconds_.Through()) End(turn);
}

void RunMachine::End(const Turn& turn) {
  if (aborting_ && AnyRunning()) return;
  if (workers_.empty() && start_ns_.has_value() && !aborting_) {
    // The nodes' last second is waited for as long as any second is.
    const int64_t last = WatchedSeconds();
    if (seconds_.next_second() < last && turn.now_ns - *start_ns_ < last * kSecondNs + patience_ns_) return;
  }
  if (observing_) turn.Do(StopObserving{run_id()});
  observing_ = false;
  v1::Report report;
  report.mutable_run_finished()->set_run_id(run_id());
  finished_report_ = turn.Report(std::move(report));
  state_ = State::kDone;
}

int64_t RunMachine::NextInstant() const {
  int64_t next = INT64_MAX;
  if (state_ == State::kDone) return next;
  if (aborting_) next = aborted_ns_ + kKillPatienceNs;
  if ((state_ != State::kRunning && state_ != State::kEnding) || !start_ns_.has_value()) return next;
  const int64_t second = seconds_.NextInstant();
  if (second != INT64_MAX) next = std::min(next, *start_ns_ + second);
  if (workers_.empty()) {
    // Watching alone has nobody to say that it is over.
    const int64_t last_ns = WatchedSeconds() * kSecondNs;
    next = std::min(next, *start_ns_ + (state_ == State::kRunning ? end_ns_ : last_ns + patience_ns_));
  }
  return next;
}

void RunMachine::Event(const std::string& code, v1::Severity severity, const std::string& subject,
                       const std::string& message, std::optional<double> elapsed_s, const Turn& turn) {
  v1::Report report;
  report.mutable_run_event()->set_run_id(run_id());
  v1::Event* event = report.mutable_run_event()->mutable_event();
  event->set_code(code);
  event->set_severity(severity);
  event->set_subject(subject);
  event->set_message(message);
  if (elapsed_s.has_value()) event->set_elapsed_s(*elapsed_s);
  if (turn.clock.known()) SetTimestamp(turn.clock.ToCoordinator(turn.now_ns), event->mutable_time());
  turn.Report(std::move(report));
}

}  // namespace loadstar::agent
