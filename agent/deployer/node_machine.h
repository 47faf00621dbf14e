#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "loadstar/v1/run.pb.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::agent {

enum class NodeState { kStarting, kHealthy, kUnhealthy, kBackoff, kStopping, kStopped, kFailed };
std::string_view ToString(NodeState state);

// What a node machine wants done, in this order. `check` is the number to hand to OnCheck.
struct NodeActions {
  bool spawn = false;      // start the process, then OnStarted or OnStartFailed
  bool terminate = false;  // SIGTERM to its group
  bool kill = false;       // SIGKILL to everything of it
  bool report = false;     // state, process, restarts or message changed
  uint64_t check = 0;      // ask for its health, then OnCheck; 0: do not
};

// One node of a deployment, without I/O: it is told what happened and when, and says what to do.
//
//   state      event                      next
//   STOPPED    begin                      STARTING   (spawn)
//   STARTING   check passed               HEALTHY
//              start failed, process gone BACKOFF when the policy says so, else FAILED [1]
//              start timeout              STOPPING   (kill), then as if gone
//              stop                       STOPPING   (terminate); STOPPED when there is no process yet
//   HEALTHY    3 checks failed in a row   UNHEALTHY
//              process gone               BACKOFF when the policy says so, else FAILED
//              stop                       STOPPING   (terminate)
//   UNHEALTHY  check passed               HEALTHY
//              process gone, stop         as HEALTHY
//   BACKOFF    its time is over           STARTING   (spawn; counts as a restart)
//              stop                       STOPPED
//   STOPPING   process gone               STOPPED, or after a start timeout BACKOFF or FAILED
//              stop timeout               STOPPING   (kill, again and again)
//              given up                   FAILED     (30 s after SIGKILL: the message names what is left)
//              stop                       STOPPING   (will be STOPPED)
//   FAILED     begin                      STARTING   (spawn); nothing while a process is left that was given up
//              stop                       STOPPED; STOPPING (kill) while a process is left
//
// [1] A node that was never healthy is tried again only until its start timeout is over, and not at all when the start
//     itself failed (no such program, port taken): that does not mend itself.
// Backoff: 500 ms, doubling to 30 s; back to 500 ms after 60 s of health. A health check that fails never ends a
// process that runs: a stalled node under test is the user's business.
class NodeMachine {
 public:
  static constexpr int kFailedChecksMax = 3;
  static constexpr int64_t kBackoffFirstNs = 500'000'000;
  static constexpr int64_t kBackoffMaxNs = 30'000'000'000;
  static constexpr int64_t kBackoffResetNs = 60'000'000'000;
  // Until it is healthy it is asked this often, when its interval is longer: readiness is not found late.
  static constexpr int64_t kStartCheckNs = 200'000'000;
  static constexpr int64_t kKillAgainNs = 500'000'000;
  static constexpr int64_t kGiveUpNs = 30'000'000'000;

  // `spec` has its defaults filled in; what is absent is read as spec.proto says.
  explicit NodeMachine(const v1::NodeSpec& spec);

  NodeActions Begin(int64_t now_ns);
  // It runs since before this machine's time; it was healthy then, and its next check decides.
  NodeActions Adopt(pid_t pid, uint32_t restarts, int64_t now_ns);
  // It should run since before this machine's time but does not.
  NodeActions AdoptGone(uint32_t restarts, int64_t now_ns);
  NodeActions OnStarted(pid_t pid, int64_t now_ns);
  NodeActions OnStartFailed(const std::string& cause, int64_t now_ns);
  // The process and everything that it started are gone.
  NodeActions OnGone(const std::string& cause, bool clean, int64_t now_ns);
  // A check that is not the outstanding one is ignored.
  NodeActions OnCheck(uint64_t check, bool passed, const std::string& why, int64_t now_ns);
  NodeActions Stop(int64_t now_ns);
  NodeActions OnTick(int64_t now_ns);
  // When it wants OnTick at the latest; INT64_MAX: never.
  int64_t NextTick() const;

  NodeState state() const { return state_; }
  pid_t pid() const { return pid_; }
  uint32_t restarts() const { return restarts_; }
  const std::string& message() const { return message_; }
  // As the API shows it: BACKOFF, and STARTING again after having been healthy, are UNHEALTHY there.
  v1::DeploymentState api_state() const;

 private:
  enum class Event { kBegin, kCheckPassed, kChecksFailed, kGone, kStartFailed, kStartTimeout, kStop, kTimer, kGivenUp };
  struct Transition {
    NodeState from;
    Event event;
    NodeState to;
  };
  static const std::array<Transition, 30> kTransitions;

  void Move(Event event, NodeState to, std::string message, NodeActions* actions);
  void Spawn(NodeActions* actions);
  // After an end that nobody asked for.
  void BackOffOrFail(Event event, const std::string& cause, bool clean, int64_t now_ns, NodeActions* actions);

  // Constant after construction.
  v1::RestartPolicy policy_;
  int64_t interval_ns_;
  int64_t start_timeout_ns_;
  int64_t stop_timeout_ns_;

  NodeState state_ = NodeState::kStopped;
  pid_t pid_ = 0;
  uint32_t restarts_ = 0;
  std::string message_;
  bool ever_healthy_ = false;
  int64_t healthy_since_ns_ = 0;
  int64_t backoff_ns_ = kBackoffFirstNs;
  int64_t first_deadline_ns_ = 0;   // of a node that was never healthy
  int64_t start_deadline_ns_ = 0;   // STARTING
  int64_t timer_ns_ = INT64_MAX;    // BACKOFF: spawn; STOPPING: kill
  int64_t give_up_ns_ = INT64_MAX;  // STOPPING, after the first kill
  bool stop_asked_ = false;         // STOPPING: ends in STOPPED, else as if gone
  int64_t next_check_ns_ = INT64_MAX;
  uint64_t check_ = 0;  // outstanding; 0: none
  uint64_t checks_begun_ = 0;
  int failed_checks_ = 0;
  std::string last_check_;  // why the last one failed
};

}  // namespace loadstar::agent
