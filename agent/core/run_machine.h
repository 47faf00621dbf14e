// One run on this agent, from PrepareRun to the acknowledged RunFinished.
//
//   state      event                        next       what happens
//   PREPARING  every worker is ready        READY      the command's result is OK
//   PREPARING  a worker cannot or ends      DONE       the others are killed; the result says why; nothing is left
//   PREPARING  StopRun                      ENDING     workers are killed, the command's result is CANCELLED
//   READY      StartRun                     RUNNING    the workers are told the start (once this host knows how its
//   clock
//                                                      stands against the coordinator's)
//   READY      StopRun                      ENDING     workers are killed
//   READY      every worker has ended       ENDING     each death is an event
//   RUNNING    every worker has ended       ENDING     by themselves at the end of the profile, or by dying
//   RUNNING    StopRun                      ENDING     workers wind down, or are killed when it is an abort
//   RUNNING    the profile is over          ENDING     only where there are no workers: nodes are watched to the end
//   ENDING     StopRun(abort)               ENDING     workers are killed
//   ENDING     everything is reported       DONE       RunFinished is reported
//   (any)      orphaned                     as StopRun; as StopRun(abort) when it is ENDING already
//
// A worker that dies is an event; its connections are lost from that second on and the others go on. DONE is kept until
// the coordinator has RunFinished, so that a reconnecting agent still names the run. A run that the coordinator does
// not want any more (Welcome) is killed and forgotten without a word.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/core/run_seconds.h"
#include "agent/core/turn.h"
#include "loadstar/v1/agent_service.pb.h"
#include "loadstar/v1/worker.pb.h"

namespace loadstar::agent {

class RunMachine {
 public:
  enum class State { kPreparing, kReady, kRunning, kEnding, kDone };
  static constexpr uint32_t kMaxWorkers = 1024;
  static constexpr uint32_t kMaxEventsOfWorker = 100;

  // Whether the command can be understood; to be asked before one is made.
  static absl::Status Check(const v1::PrepareRun& prepare);
  RunMachine(const v1::PrepareRun& prepare, std::string command_id, const Turn& turn);

  State state() const { return state_; }
  const std::string& run_id() const { return prepare_.run_id(); }
  bool Has(WorkerId worker) const { return workers_.count(worker) > 0; }
  // The number of the report of RunFinished; only in DONE. None when the preparation failed: its result said it.
  std::optional<uint64_t> finished_report() const { return finished_report_; }
  // What its workers hold by their last samples.
  uint64_t ConnectionsHeld() const { return seconds_.ConnectionsHeld(); }

  absl::Status Start(int64_t start_unix_ns, const Turn& turn);
  absl::Status Update(const v1::UpdateRun& update, const Turn& turn);
  void Stop(bool abort, const Turn& turn);
  // Kills what is left, says nothing.
  void Forget(const Turn& turn);
  void Orphan(const Turn& turn);

  void OnWorker(WorkerId worker, const v1::WorkerToAgent& message, const Turn& turn);
  void OnWorkerExit(WorkerId worker, bool clean, const std::string& cause, const Turn& turn);
  void OnNodes(NodesObserved observed);
  void OnHost(const HostObserved& observed, const Turn& turn);
  // After every input and at NextInstant.
  void Advance(const Turn& turn);
  int64_t NextInstant() const;

 private:
  struct Worker {
    uint32_t index = 0;  // on this agent
    bool ready = false;
    bool running = true;  // its process has not ended
    bool finished = false;
    std::optional<int64_t> started_ns;
    uint32_t events = 0;
    std::string backend;  // of its loop, and why not a better one
  };

  v1::WorkerPlan PlanOf(uint32_t index) const;
  void FailPreparation(const absl::Status& status, const Turn& turn);
  void TellStart(const Turn& turn);
  void TellBackends(const Turn& turn);
  void KillAll(const Turn& turn);
  void Abort(const Turn& turn);
  void End(const Turn& turn);
  void Event(const std::string& code, v1::Severity severity, const std::string& subject, const std::string& message,
             std::optional<double> elapsed_s, const Turn& turn);
  bool AnyRunning() const;
  bool Awaits(uint32_t second) const;
  // Seconds of a run that only watches nodes: one more than the load has, in which its connections end, so that what
  // the nodes say at last is all that they saw of it.
  int64_t WatchedSeconds() const { return (end_ns_ + 999'999'999) / 1'000'000'000 + 1; }

  const v1::PrepareRun prepare_;
  const std::string prepare_command_;
  const int64_t length_ns_;
  const int64_t patience_ns_;
  State state_ = State::kPreparing;
  std::map<WorkerId, Worker> workers_;
  RunSeconds seconds_;
  std::optional<int64_t> start_unix_ns_;  // told, perhaps not yet passed on
  std::optional<int64_t> start_ns_;       // monotonic; passed on to the workers
  int64_t end_ns_;                        // of the load, since the start: the profile's, or when it was stopped
  bool aborting_ = false;
  bool started_reported_ = false;
  bool observing_ = false;
  int64_t aborted_ns_ = 0;
  std::optional<uint64_t> finished_report_;
};

}  // namespace loadstar::agent
