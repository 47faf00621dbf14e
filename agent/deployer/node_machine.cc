#include "agent/deployer/node_machine.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"

namespace loadstar::agent {
namespace {

int64_t ToNs(bool present, const google::protobuf::Duration& duration, int64_t otherwise_ns) {
  return present ? duration.seconds() * 1'000'000'000 + duration.nanos() : otherwise_ns;
}

std::string Seconds(int64_t ns) {
  const int64_t ms = ns / 1'000'000;
  return absl::StrCat(static_cast<double>(ms) / 1e3, " s");
}

}  // namespace

std::string_view ToString(NodeState state) {
  switch (state) {
    case NodeState::kStarting:
      return "starting";
    case NodeState::kHealthy:
      return "healthy";
    case NodeState::kUnhealthy:
      return "unhealthy";
    case NodeState::kBackoff:
      return "backoff";
    case NodeState::kStopping:
      return "stopping";
    case NodeState::kStopped:
      return "stopped";
    case NodeState::kFailed:
      return "failed";
  }
  return "?";
}

// Rows as in the header's table.
const std::array<NodeMachine::Transition, 30> NodeMachine::kTransitions = {{
    {NodeState::kStopped, Event::kBegin, NodeState::kStarting},
    {NodeState::kStopped, Event::kBegin, NodeState::kUnhealthy},  // adopted
    {NodeState::kStopped, Event::kGone, NodeState::kBackoff},     // adopted, but gone
    {NodeState::kStopped, Event::kGone, NodeState::kFailed},
    {NodeState::kStarting, Event::kCheckPassed, NodeState::kHealthy},
    {NodeState::kStarting, Event::kStartFailed, NodeState::kBackoff},
    {NodeState::kStarting, Event::kStartFailed, NodeState::kFailed},
    {NodeState::kStarting, Event::kGone, NodeState::kBackoff},
    {NodeState::kStarting, Event::kGone, NodeState::kFailed},
    {NodeState::kStarting, Event::kStartTimeout, NodeState::kStopping},
    {NodeState::kStarting, Event::kStop, NodeState::kStopping},
    {NodeState::kStarting, Event::kStop, NodeState::kStopped},
    {NodeState::kHealthy, Event::kChecksFailed, NodeState::kUnhealthy},
    {NodeState::kHealthy, Event::kGone, NodeState::kBackoff},
    {NodeState::kHealthy, Event::kGone, NodeState::kFailed},
    {NodeState::kHealthy, Event::kStop, NodeState::kStopping},
    {NodeState::kUnhealthy, Event::kCheckPassed, NodeState::kHealthy},
    {NodeState::kUnhealthy, Event::kGone, NodeState::kBackoff},
    {NodeState::kUnhealthy, Event::kGone, NodeState::kFailed},
    {NodeState::kUnhealthy, Event::kStop, NodeState::kStopping},
    {NodeState::kBackoff, Event::kTimer, NodeState::kStarting},
    {NodeState::kBackoff, Event::kStop, NodeState::kStopped},
    {NodeState::kStopping, Event::kGone, NodeState::kStopped},
    {NodeState::kStopping, Event::kGone, NodeState::kBackoff},
    {NodeState::kStopping, Event::kGone, NodeState::kFailed},
    {NodeState::kStopping, Event::kStop, NodeState::kStopping},
    {NodeState::kStopping, Event::kGivenUp, NodeState::kFailed},
    {NodeState::kFailed, Event::kBegin, NodeState::kStarting},
    {NodeState::kFailed, Event::kStop, NodeState::kStopped},
    {NodeState::kFailed, Event::kStop, NodeState::kStopping},
}};

NodeMachine::NodeMachine(const v1::NodeSpec& spec)
    : policy_(spec.restart()),
      interval_ns_(
          std::max<int64_t>(ToNs(spec.health().has_interval(), spec.health().interval(), 1'000'000'000), 10'000'000)),
      start_timeout_ns_(ToNs(spec.health().has_start_timeout(), spec.health().start_timeout(), 30'000'000'000)),
      stop_timeout_ns_(ToNs(spec.has_stop_timeout(), spec.stop_timeout(), 10'000'000'000)) {}

void NodeMachine::Move(Event event, NodeState to, std::string message, NodeActions* actions) {
  assert(std::any_of(kTransitions.begin(), kTransitions.end(),
                     [&](const Transition& row) { return row.from == state_ && row.event == event && row.to == to; }));
  static_cast<void>(event);
  actions->report = actions->report || state_ != to || message_ != message;
  state_ = to;
  message_ = std::move(message);
  timer_ns_ = INT64_MAX;
  give_up_ns_ = INT64_MAX;
}

void NodeMachine::Spawn(NodeActions* actions) {
  pid_ = 0;
  check_ = 0;
  failed_checks_ = 0;
  last_check_.clear();
  next_check_ns_ = INT64_MAX;
  actions->spawn = true;
}

NodeActions NodeMachine::Begin(int64_t now_ns) {
  NodeActions actions;
  if ((state_ != NodeState::kStopped && state_ != NodeState::kFailed) || pid_ != 0) return actions;
  Move(Event::kBegin, NodeState::kStarting, "", &actions);
  ever_healthy_ = false;
  stop_asked_ = false;
  backoff_ns_ = kBackoffFirstNs;
  first_deadline_ns_ = now_ns + start_timeout_ns_;
  start_deadline_ns_ = first_deadline_ns_;
  Spawn(&actions);
  return actions;
}

NodeActions NodeMachine::Adopt(pid_t pid, uint32_t restarts, int64_t now_ns) {
  NodeActions actions;
  assert(state_ == NodeState::kStopped);
  Move(Event::kBegin, NodeState::kUnhealthy, "taken over from an earlier life of the agent; not yet checked", &actions);
  pid_ = pid;
  restarts_ = restarts;
  ever_healthy_ = true;
  healthy_since_ns_ = now_ns;
  next_check_ns_ = now_ns;
  actions.report = false;  // its first check says more
  return actions;
}

NodeActions NodeMachine::AdoptGone(uint32_t restarts, int64_t now_ns) {
  NodeActions actions;
  assert(state_ == NodeState::kStopped);
  restarts_ = restarts;
  ever_healthy_ = true;
  BackOffOrFail(Event::kGone, "ended while no agent was watching", false, now_ns, &actions);
  return actions;
}

NodeActions NodeMachine::OnStarted(pid_t pid, int64_t now_ns) {
  NodeActions actions;
  if (state_ != NodeState::kStarting) return actions;
  pid_ = pid;
  next_check_ns_ = now_ns + std::min(interval_ns_, kStartCheckNs) / 4;
  actions.report = true;
  return actions;
}

NodeActions NodeMachine::OnStartFailed(const std::string& cause, int64_t now_ns) {
  NodeActions actions;
  if (state_ != NodeState::kStarting) return actions;
  if (!ever_healthy_) {
    Move(Event::kStartFailed, NodeState::kFailed, cause, &actions);
  } else {
    BackOffOrFail(Event::kStartFailed, cause, false, now_ns, &actions);
  }
  return actions;
}

void NodeMachine::BackOffOrFail(Event event, const std::string& cause, bool clean, int64_t now_ns,
                                NodeActions* actions) {
  if (state_ == NodeState::kHealthy && now_ns - healthy_since_ns_ >= kBackoffResetNs) backoff_ns_ = kBackoffFirstNs;
  const bool wanted = policy_ == v1::RESTART_POLICY_ALWAYS || (policy_ == v1::RESTART_POLICY_ON_FAILURE && !clean);
  const bool in_time = ever_healthy_ || now_ns + backoff_ns_ < first_deadline_ns_;
  pid_ = 0;
  check_ = 0;
  next_check_ns_ = INT64_MAX;
  if (wanted && in_time) {
    Move(event, NodeState::kBackoff, absl::StrCat(cause, "; started again in ", Seconds(backoff_ns_)), actions);
    timer_ns_ = now_ns + backoff_ns_;
    backoff_ns_ = std::min(backoff_ns_ * 2, kBackoffMaxNs);
  } else {
    Move(event, NodeState::kFailed, cause, actions);
  }
}

NodeActions NodeMachine::OnGone(const std::string& cause, bool clean, int64_t now_ns) {
  NodeActions actions;
  switch (state_) {
    case NodeState::kStarting:
    case NodeState::kHealthy:
    case NodeState::kUnhealthy:
      BackOffOrFail(Event::kGone, cause, clean, now_ns, &actions);
      break;
    case NodeState::kStopping:
      if (stop_asked_) {
        pid_ = 0;
        Move(Event::kGone, NodeState::kStopped, "", &actions);
      } else {
        BackOffOrFail(Event::kGone, message_, false, now_ns, &actions);
      }
      break;
    case NodeState::kFailed:
      pid_ = 0;  // given up, and gone after all
      break;
    case NodeState::kBackoff:
    case NodeState::kStopped:
      break;  // nothing was there
  }
  return actions;
}

NodeActions NodeMachine::OnCheck(uint64_t check, bool passed, const std::string& why, int64_t now_ns) {
  NodeActions actions;
  const bool up = state_ == NodeState::kStarting || state_ == NodeState::kHealthy || state_ == NodeState::kUnhealthy;
  if (check == 0 || check != check_ || !up) return actions;
  check_ = 0;
  if (passed) {
    failed_checks_ = 0;
    last_check_.clear();
    if (state_ != NodeState::kHealthy) {
      Move(Event::kCheckPassed, NodeState::kHealthy, "", &actions);
      ever_healthy_ = true;
      healthy_since_ns_ = now_ns;
    } else if (now_ns - healthy_since_ns_ >= kBackoffResetNs) {
      backoff_ns_ = kBackoffFirstNs;
    }
  } else {
    last_check_ = why;
    ++failed_checks_;
    if (state_ == NodeState::kHealthy && failed_checks_ >= kFailedChecksMax) {
      Move(Event::kChecksFailed, NodeState::kUnhealthy, absl::StrCat("health check fails: ", why), &actions);
    } else if (state_ == NodeState::kUnhealthy && failed_checks_ == kFailedChecksMax) {
      message_ = absl::StrCat("health check fails: ", why);  // adopted, and never well since
      actions.report = true;
    }
  }
  next_check_ns_ = now_ns + (state_ == NodeState::kStarting ? std::min(interval_ns_, kStartCheckNs) : interval_ns_);
  return actions;
}

NodeActions NodeMachine::Stop(int64_t now_ns) {
  NodeActions actions;
  switch (state_) {
    case NodeState::kStopped:
      break;
    case NodeState::kBackoff:
      Move(Event::kStop, NodeState::kStopped, "", &actions);
      break;
    case NodeState::kFailed:
      if (pid_ == 0) {
        Move(Event::kStop, NodeState::kStopped, "", &actions);
      } else {
        stop_asked_ = true;
        Move(Event::kStop, NodeState::kStopping, "", &actions);
        actions.kill = true;
        give_up_ns_ = now_ns + kGiveUpNs;
        timer_ns_ = now_ns + kKillAgainNs;
      }
      break;
    case NodeState::kStarting:
    case NodeState::kHealthy:
    case NodeState::kUnhealthy:
      stop_asked_ = true;
      check_ = 0;
      next_check_ns_ = INT64_MAX;
      if (pid_ == 0) {
        Move(Event::kStop, NodeState::kStopped, "", &actions);
      } else {
        Move(Event::kStop, NodeState::kStopping, "", &actions);
        actions.terminate = true;
        timer_ns_ = now_ns + stop_timeout_ns_;
      }
      break;
    case NodeState::kStopping:
      stop_asked_ = true;  // the timers of the stop in progress stand
      break;
  }
  return actions;
}

NodeActions NodeMachine::OnTick(int64_t now_ns) {
  NodeActions actions;
  switch (state_) {
    case NodeState::kBackoff:
      if (now_ns >= timer_ns_) {
        Move(Event::kTimer, NodeState::kStarting, message_, &actions);
        ++restarts_;
        start_deadline_ns_ = ever_healthy_ ? now_ns + start_timeout_ns_ : first_deadline_ns_;
        Spawn(&actions);
      }
      break;
    case NodeState::kStarting:
      if (now_ns >= start_deadline_ns_ && pid_ != 0) {
        Move(Event::kStartTimeout, NodeState::kStopping,
             absl::StrCat("not healthy within ", Seconds(start_timeout_ns_),
                          " of its start; last health check: ", last_check_.empty() ? "no answer yet" : last_check_),
             &actions);
        stop_asked_ = false;
        check_ = 0;
        next_check_ns_ = INT64_MAX;
        timer_ns_ = now_ns;
      }
      break;
    default:
      break;
  }
  if (state_ == NodeState::kStopping && now_ns >= timer_ns_) {
    if (give_up_ns_ == INT64_MAX) give_up_ns_ = now_ns + kGiveUpNs;
    if (now_ns >= give_up_ns_) {
      Move(Event::kGivenUp, NodeState::kFailed,
           absl::StrCat("process ", pid_, " or a child of it is still there ", Seconds(kGiveUpNs), " after SIGKILL"),
           &actions);
    } else {
      actions.kill = true;
      timer_ns_ = now_ns + kKillAgainNs;
    }
  }
  if (next_check_ns_ <= now_ns && check_ == 0) {
    check_ = ++checks_begun_;
    actions.check = check_;
    next_check_ns_ = INT64_MAX;  // until its result
  }
  return actions;
}

int64_t NodeMachine::NextTick() const {
  int64_t next = std::min(timer_ns_, check_ == 0 ? next_check_ns_ : INT64_MAX);
  if (state_ == NodeState::kStarting && pid_ != 0) next = std::min(next, start_deadline_ns_);
  return next;
}

v1::DeploymentState NodeMachine::api_state() const {
  switch (state_) {
    case NodeState::kStarting:
      return ever_healthy_ ? v1::DEPLOYMENT_STATE_UNHEALTHY : v1::DEPLOYMENT_STATE_STARTING;
    case NodeState::kHealthy:
      return v1::DEPLOYMENT_STATE_HEALTHY;
    case NodeState::kUnhealthy:
      return v1::DEPLOYMENT_STATE_UNHEALTHY;
    case NodeState::kBackoff:
      return ever_healthy_ ? v1::DEPLOYMENT_STATE_UNHEALTHY : v1::DEPLOYMENT_STATE_STARTING;
    case NodeState::kStopping:
      return v1::DEPLOYMENT_STATE_STOPPING;
    case NodeState::kStopped:
      return v1::DEPLOYMENT_STATE_STOPPED;
    case NodeState::kFailed:
      return v1::DEPLOYMENT_STATE_FAILED;
  }
  return v1::DEPLOYMENT_STATE_UNSPECIFIED;
}

}  // namespace loadstar::agent
