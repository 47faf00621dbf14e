// One run, from StartTest to its verdict.
//
//   state      trigger           next       what happens
//   PREPARING  all prepared      STARTING   the start instant is fixed, StartRun goes to every agent
//   PREPARING  failure           STOPPING   an agent refused, could not, was lost or too slow: StopRun(abort) to all
//   PREPARING  stop asked for    STOPPING   StopRun(abort) to all
//   STARTING   start reached     RUNNING
//   STARTING   failure           STOPPING   StopRun(abort) to all
//   STARTING   stop asked for    STOPPING   StopRun to all
//   STARTING   all done          FINISHED   every agent is lost or through
//   RUNNING    profile over      STOPPING   nothing is sent: the agents know the profile
//   RUNNING    failure           STOPPING   the target refuses, or no load is left: StopRun to all
//   RUNNING    stop asked for    STOPPING   StopRun to all
//   RUNNING    all done          FINISHED   every agent is lost or through before its time
//   STOPPING   stop asked for    STOPPING   an abort sharpens a graceful stop
//   STOPPING   failure           STOPPING   recorded, the end is on its way already
//   STOPPING   all done          FINISHED   every agent has said RunFinished or is lost
//   STOPPING   drain timeout     FINISHED   StopRun(abort) to the rest
//
// An agent that is lost (out of reach for too long, restarted, or back without the run) leaves the run; the others
// carry it to its end. On FINISHED the totals, the thresholds and the verdict are computed. What led to the verdict is
// recorded in run.verdict.reasons as it happens, so that it survives a restart of the coordinator.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "lib/plan/profile.h"
#include "loadstar/v1/coordinator_service.pb.h"
#include "loadstar/v1/run.pb.h"
#include "server/core/planner.h"
#include "server/core/run_figures.h"
#include "server/core/turn.h"

namespace loadstar::server {

enum class RunTrigger { kAllPrepared, kFailure, kStopAsked, kStartReached, kProfileOver, kAllDone, kDrainTimeout };

struct RunTransition {
  v1::RunState from;
  RunTrigger trigger;
  v1::RunState to;
};

inline constexpr RunTransition kRunTransitions[] = {
    {v1::RUN_STATE_PREPARING, RunTrigger::kAllPrepared, v1::RUN_STATE_STARTING},
    {v1::RUN_STATE_PREPARING, RunTrigger::kFailure, v1::RUN_STATE_STOPPING},
    {v1::RUN_STATE_PREPARING, RunTrigger::kStopAsked, v1::RUN_STATE_STOPPING},
    {v1::RUN_STATE_STARTING, RunTrigger::kStartReached, v1::RUN_STATE_RUNNING},
    {v1::RUN_STATE_STARTING, RunTrigger::kFailure, v1::RUN_STATE_STOPPING},
    {v1::RUN_STATE_STARTING, RunTrigger::kStopAsked, v1::RUN_STATE_STOPPING},
    {v1::RUN_STATE_STARTING, RunTrigger::kAllDone, v1::RUN_STATE_FINISHED},
    {v1::RUN_STATE_RUNNING, RunTrigger::kProfileOver, v1::RUN_STATE_STOPPING},
    {v1::RUN_STATE_RUNNING, RunTrigger::kFailure, v1::RUN_STATE_STOPPING},
    {v1::RUN_STATE_RUNNING, RunTrigger::kStopAsked, v1::RUN_STATE_STOPPING},
    {v1::RUN_STATE_RUNNING, RunTrigger::kAllDone, v1::RUN_STATE_FINISHED},
    {v1::RUN_STATE_STOPPING, RunTrigger::kStopAsked, v1::RUN_STATE_STOPPING},
    {v1::RUN_STATE_STOPPING, RunTrigger::kFailure, v1::RUN_STATE_STOPPING},
    {v1::RUN_STATE_STOPPING, RunTrigger::kAllDone, v1::RUN_STATE_FINISHED},
    {v1::RUN_STATE_STOPPING, RunTrigger::kDrainTimeout, v1::RUN_STATE_FINISHED},
};

// The state that follows, or UNSPECIFIED when the trigger means nothing in that state.
v1::RunState NextRunState(v1::RunState from, RunTrigger trigger);

// What StartTest has settled.
struct RunSetup {
  std::string run_id;
  v1::TestSpec test;  // its seed drawn
  std::vector<std::string> endpoints;
  std::vector<std::string> nodes;
  Plan plan;
  std::string deployment;              // empty: none is observed
  std::vector<std::string> observers;  // agents that run nodes of it
  std::map<std::string, uint32_t> node_processes;
};

class RunMachine {
 public:
  // Of events, so that a run fits a message of 16 MiB with its figures: so many, so many bytes, and of each text so
  // many.
  static constexpr int kMaxEvents = 10'000;
  static constexpr size_t kMaxEventBytes = size_t{4} << 20;
  static constexpr size_t kMaxText = 1024;
  static constexpr int kMaxReasons = 100;
  static constexpr int kMaxUpdates = 1'000;

  // A new run: PrepareRun goes out.
  RunMachine(const RunSetup& setup, const Turn& turn);
  // A run that the store held, with its samples in order of arrival and what is known of its deployment.
  RunMachine(v1::Run run, const std::vector<const PutSample*>& samples,
             const std::map<std::string, uint32_t>& node_processes, absl::Time now, const CoordinatorOptions& options);

  const v1::Run& run() const { return run_; }
  bool finished() const { return run_.state() == v1::RUN_STATE_FINISHED; }
  // Whether the agent should hold the run: it takes part and is neither lost nor through.
  bool Wants(const std::string& agent) const;
  bool Uses(const std::string& deployment) const { return run_.test().target().stack() == deployment; }

  // The agent's session stands; `holds` says whether it knows the run. One that has been prepared must.
  void OnHello(const std::string& agent, bool holds, const Turn& turn);
  void OnResult(const std::string& agent, const v1::Command& command, const absl::Status& status, const Turn& turn);
  // The second's data, to be stored: false when it counts for nothing.
  bool OnSample(const std::string& agent, const v1::AgentSample& sample, const Turn& turn);
  void OnEvent(const std::string& agent, const v1::Event& event, const Turn& turn);
  void OnStarted(const std::string& agent, const v1::RunStarted& started);
  void OnFinished(const std::string& agent, const Turn& turn);
  // A node of the deployment it uses has changed for the worse or back.
  void OnNode(const std::string& agent, const v1::NodeStatus& status, const Turn& turn);
  void OnTick(const Turn& turn);
  // This coordinator stood still for so long: nobody had the time that is left of the deadlines.
  void OnStall(absl::Duration stall, const Turn& turn);

  void Stop(bool abort, const Turn& turn);
  absl::StatusOr<v1::AppliedUpdate> Update(const v1::LoadUpdate& update, const Turn& turn);

  // The end of a turn: writes the run if it changed and the snapshots that are ready, and tells subscribers.
  void Flush(const Turn& turn);
  // When a tick is due for more than the second's beat; InfiniteFuture: for nothing.
  absl::Time NextInstant() const;

 private:
  v1::Participant* Find(const std::string& agent);
  const v1::Participant* Find(const std::string& agent) const;
  bool Move(RunTrigger trigger, const Turn& turn);
  void Fail(absl::string_view code, const std::string& agent, const std::string& message, bool abort, const Turn& turn);
  void Lose(const std::string& agent, const std::string& why, const Turn& turn);
  void SendStop(bool abort, const Turn& turn);
  void CheckPrepared(const Turn& turn);
  void CheckDone(const Turn& turn);
  void Finish(const Turn& turn);
  void AddReason(absl::string_view code, absl::string_view message);
  void AddEvent(v1::Event event, const Turn& turn);
  void AddEvent(absl::string_view code, v1::Severity severity, const std::string& agent, absl::string_view message,
                const Turn& turn);
  std::string CommandId(const std::string& agent, absl::string_view what) const;
  bool Prepared(const std::string& agent, const Turn& turn) const;
  void EmitSnapshots(const Turn& turn, bool all);
  void SetDeadline(absl::Time from, const CoordinatorOptions& options);

  v1::Run run_;
  plan::ConnectionProfile planned_;  // as the test has it
  plan::ConnectionProfile profile_;  // with the updates applied
  RunFigures figures_;
  absl::Duration length_;
  absl::Time deadline_ = absl::InfiniteFuture();  // of PREPARING and STOPPING
  size_t event_bytes_ = 0;
  uint64_t events_left_out_ = 0;
  bool dirty_ = true;
  bool publish_ = false;
};

}  // namespace loadstar::server
