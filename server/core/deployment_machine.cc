#include "server/core/deployment_machine.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/core/refusal.h"
#include "server/core/wire_time.h"
#include "server/core/words.h"

namespace loadstar::server {
namespace {

std::string CommandId(const std::string& deployment, absl::string_view what, const std::string& agent, uint64_t nonce,
                      absl::Time now) {
  return absl::StrCat(deployment, "/", agent, "/", what, "-", absl::Hex(absl::ToUnixNanos(now)), "-", absl::Hex(nonce));
}

absl::string_view CodeOf(v1::DeploymentState state) {
  switch (state) {
    case v1::DEPLOYMENT_STATE_STARTING:
      return "node-starting";
    case v1::DEPLOYMENT_STATE_HEALTHY:
      return "node-healthy";
    case v1::DEPLOYMENT_STATE_UNHEALTHY:
      return "node-unhealthy";
    case v1::DEPLOYMENT_STATE_STOPPING:
      return "node-stopping";
    case v1::DEPLOYMENT_STATE_STOPPED:
      return "node-stopped";
    default:
      return "node-failed";
  }
}

// From good to grave.
constexpr v1::DeploymentState kGravity[] = {
    v1::DEPLOYMENT_STATE_HEALTHY,  v1::DEPLOYMENT_STATE_STOPPED,   v1::DEPLOYMENT_STATE_STOPPING,
    v1::DEPLOYMENT_STATE_STARTING, v1::DEPLOYMENT_STATE_UNHEALTHY, v1::DEPLOYMENT_STATE_FAILED,
};

bool Up(v1::DeploymentState state) {
  return state == v1::DEPLOYMENT_STATE_HEALTHY || state == v1::DEPLOYMENT_STATE_UNHEALTHY ||
         state == v1::DEPLOYMENT_STATE_FAILED;
}

// What a deployment that was brought up is when this is the worst of its nodes.
v1::DeploymentState WhenUp(v1::DeploymentState worst) {
  if (worst == v1::DEPLOYMENT_STATE_HEALTHY) return worst;
  const bool ended = worst == v1::DEPLOYMENT_STATE_FAILED || worst == v1::DEPLOYMENT_STATE_STOPPED;
  return ended ? v1::DEPLOYMENT_STATE_FAILED : v1::DEPLOYMENT_STATE_UNHEALTHY;
}

}  // namespace

v1::DeploymentState Worst(v1::DeploymentState a, v1::DeploymentState b) {
  const auto rank = [](v1::DeploymentState state) {
    return std::find(std::begin(kGravity), std::end(kGravity), state) - std::begin(kGravity);
  };
  return rank(a) < rank(b) ? b : a;
}

DeploymentMachine::DeploymentMachine(const v1::StackSpec& stack, const std::vector<std::string>& placement,
                                     uint64_t nonce, CallId caller, const Turn& turn) {
  deploy_callers_.insert(caller);
  deployment_.set_name(stack.name());
  *deployment_.mutable_stack() = stack;
  deployment_.set_state(v1::DEPLOYMENT_STATE_STARTING);
  *deployment_.mutable_created_at() = ToWire(turn.now);
  std::map<std::string, v1::Command> commands;
  for (int i = 0; i < stack.nodes_size(); ++i) {
    const std::string& agent = placement[static_cast<size_t>(i)];
    v1::NodeStatus* status = deployment_.add_nodes();
    status->set_node(stack.nodes(i).name());
    status->set_agent(agent);
    status->set_state(v1::DEPLOYMENT_STATE_STARTING);
    v1::Command& command = commands[agent];
    command.set_command_id(CommandId(stack.name(), "deploy", agent, nonce, turn.now));
    command.mutable_deploy_nodes()->set_deployment(stack.name());
    *command.mutable_deploy_nodes()->add_nodes() = stack.nodes(i);
    TellNode(*status, turn);
  }
  for (auto& [agent, command] : commands) turn.Issue(agent, std::move(command));
}

bool DeploymentMachine::busy() const {
  return deployment_.state() == v1::DEPLOYMENT_STATE_STARTING || deployment_.state() == v1::DEPLOYMENT_STATE_STOPPING;
}

std::vector<std::string> DeploymentMachine::Agents() const {
  std::set<std::string> agents;
  for (const v1::NodeStatus& node : deployment_.nodes()) agents.insert(node.agent());
  return {agents.begin(), agents.end()};
}

bool DeploymentMachine::RunsOn(const std::string& agent) const {
  return std::any_of(deployment_.nodes().begin(), deployment_.nodes().end(),
                     [&](const v1::NodeStatus& node) { return node.agent() == agent; });
}

v1::Deployment DeploymentMachine::Seen(const AgentTable& agents) const {
  v1::Deployment seen = deployment_;
  if (!Up(seen.state())) return seen;
  for (v1::NodeStatus& node : *seen.mutable_nodes()) {
    const AgentEntry* agent = agents.Find(node.agent());
    const bool ended = node.state() == v1::DEPLOYMENT_STATE_FAILED || node.state() == v1::DEPLOYMENT_STATE_STOPPED;
    if (ended || (agent != nullptr && agent->connected())) continue;
    node.set_message(absl::StrCat("agent ", node.agent(), " is out of reach; the last it said was that the node ",
                                  Predicate(node.state()), node.message().empty() ? "" : ": ", node.message()));
    node.set_state(v1::DEPLOYMENT_STATE_UNKNOWN);
    if (agent != nullptr && agent->last_seen != absl::InfinitePast()) {
      *node.mutable_unknown_since() = ToWire(agent->last_seen);
      node.set_message(absl::StrCat(node.message(), " (", Instant(agent->last_seen), ")"));
    }
    if (seen.state() != v1::DEPLOYMENT_STATE_FAILED) seen.set_state(v1::DEPLOYMENT_STATE_UNKNOWN);
  }
  return seen;
}

void DeploymentMachine::Teardown(CallId caller, uint64_t nonce, const Turn& turn) {
  teardown_callers_.insert(caller);
  if (deployment_.state() == v1::DEPLOYMENT_STATE_STOPPING) return;
  if (deployment_.state() == v1::DEPLOYMENT_STATE_STARTING) {
    failure_ = absl::AbortedError(absl::StrCat("deployment ", deployment_.name(), " was torn down while it came up"));
  }
  BeginTeardown(nonce, turn);
}

void DeploymentMachine::OnCallerLeft(CallId caller) {
  deploy_callers_.erase(caller);
  teardown_callers_.erase(caller);
}

bool DeploymentMachine::OnNode(const std::string& agent, const v1::NodeStatus& status, const Turn& turn) {
  v1::NodeStatus* known = Find(agent, status.node());
  if (known == nullptr) return false;
  const v1::DeploymentState before = known->state();
  *known = status;
  known->set_agent(agent);
  dirty_ = true;
  if (before != status.state() || !status.message().empty()) TellNode(*known, turn);
  if (!Up(deployment_.state())) return false;
  SetState(WhenUp(WorstOfNodes()));
  return before != status.state();
}

void DeploymentMachine::OnResult(const std::string& agent, const v1::Command& command, const absl::Status& status,
                                 uint64_t nonce, const Turn& turn) {
  if (command.has_deploy_nodes() && deployment_.state() == v1::DEPLOYMENT_STATE_STARTING) {
    if (!status.ok()) {
      failure_ = absl::Status(status.code(), absl::StrCat("agent ", agent, " could not bring up its nodes of ",
                                                          deployment_.name(), ": ", status.message()));
      status.ForEachPayload(
          [this](absl::string_view type, const absl::Cord& payload) { failure_.SetPayload(type, payload); });
      BeginTeardown(nonce, turn);
      return;
    }
    for (v1::NodeStatus& node : *deployment_.mutable_nodes()) {
      // The result says that all are healthy; a report that says otherwise came later than the check.
      if (node.agent() != agent || node.state() != v1::DEPLOYMENT_STATE_STARTING) continue;
      node.set_state(v1::DEPLOYMENT_STATE_HEALTHY);
      dirty_ = true;
      TellNode(node, turn);
    }
    CheckStarted(nonce, turn);
  } else if (command.has_teardown_nodes() && deployment_.state() == v1::DEPLOYMENT_STATE_STOPPING) {
    if (!status.ok()) {
      teardown_failure_ =
          absl::Status(status.code(), absl::StrCat("agent ", agent, " could not take down ", deployment_.name(), ": ",
                                                   status.message(), "; call teardown again when that is mended"));
    } else {
      for (v1::NodeStatus& node : *deployment_.mutable_nodes()) {
        if (node.agent() != agent || node.state() == v1::DEPLOYMENT_STATE_STOPPED) continue;
        node.set_state(v1::DEPLOYMENT_STATE_STOPPED);
        node.set_pid(0);
        dirty_ = true;
        TellNode(node, turn);
      }
    }
    CheckStopped(turn);
  }
}

std::vector<v1::NodeStatus> DeploymentMachine::OnHello(const std::string& agent, bool holds, const Turn& turn) {
  std::vector<v1::NodeStatus> lost;
  if (holds || !Up(deployment_.state()) || Pending(agent, turn)) return lost;
  for (v1::NodeStatus& node : *deployment_.mutable_nodes()) {
    if (node.agent() != agent || node.state() == v1::DEPLOYMENT_STATE_FAILED) continue;
    node.set_state(v1::DEPLOYMENT_STATE_FAILED);
    node.set_pid(0);
    node.set_message("the agent came back without it");
    dirty_ = true;
    lost.push_back(node);
  }
  SetState(WhenUp(WorstOfNodes()));
  return lost;
}

void DeploymentMachine::OnTick(uint64_t nonce, const Turn& turn) {
  if (deployment_.state() == v1::DEPLOYMENT_STATE_STARTING) {
    for (const std::string& agent : Agents()) {
      if (!Pending(agent, turn) || !turn.GivenUp(agent)) continue;
      failure_ = absl::UnavailableError(
          absl::StrCat("agent ", agent, " went out of reach while it brought up ", deployment_.name()));
      BeginTeardown(nonce, turn);
      return;
    }
    CheckStarted(nonce, turn);
  } else if (deployment_.state() == v1::DEPLOYMENT_STATE_STOPPING) {
    CheckStopped(turn);
  }
}

void DeploymentMachine::Flush(const Turn& turn) {
  if (gone_) {
    turn.Do(DeleteDeployment{deployment_.name()});
  } else if (dirty_) {
    turn.Do(PutDeployment{deployment_});
  }
  dirty_ = false;
}

v1::NodeStatus* DeploymentMachine::Find(const std::string& agent, const std::string& node) {
  for (v1::NodeStatus& status : *deployment_.mutable_nodes()) {
    if (status.node() == node && status.agent() == agent) return &status;
  }
  return nullptr;
}

bool DeploymentMachine::Pending(const std::string& agent, const Turn& turn) const {
  return turn.commands.Pending(agent,
                               [&](const v1::Command& command) { return DeploymentOf(command) == deployment_.name(); });
}

void DeploymentMachine::BeginTeardown(uint64_t nonce, const Turn& turn) {
  SetState(v1::DEPLOYMENT_STATE_STOPPING);
  teardown_failure_ = absl::OkStatus();
  for (v1::NodeStatus& node : *deployment_.mutable_nodes()) {
    if (node.state() != v1::DEPLOYMENT_STATE_STOPPED) node.set_state(v1::DEPLOYMENT_STATE_STOPPING);
    dirty_ = true;
  }
  v1::Event event;
  event.set_code("tearing-down");
  event.set_severity(failure_.ok() ? v1::SEVERITY_INFO : v1::SEVERITY_ERROR);
  event.set_message(failure_.ok() ? absl::StrCat("taking down ", deployment_.name())
                                  : absl::StrCat(failure_.message(), "; taking down what came up"));
  Tell(event, turn);
  for (const std::string& agent : Agents()) {
    v1::Command command;
    command.set_command_id(CommandId(deployment_.name(), "teardown", agent, nonce, turn.now));
    command.mutable_teardown_nodes()->set_deployment(deployment_.name());
    turn.Issue(agent, std::move(command));
  }
}

void DeploymentMachine::CheckStarted(uint64_t nonce, const Turn& turn) {
  for (const std::string& agent : Agents()) {
    if (Pending(agent, turn)) return;
  }
  const v1::DeploymentState worst = WhenUp(WorstOfNodes());
  if (worst == v1::DEPLOYMENT_STATE_FAILED) {
    failure_ = absl::FailedPreconditionError(
        absl::StrCat("a node of ", deployment_.name(), " ended again before the others were up"));
    BeginTeardown(nonce, turn);
    return;
  }
  SetState(worst);
  for (const CallId caller : deploy_callers_) {
    v1::DeployResponse response;
    *response.mutable_deployment() = deployment_;
    turn.Do(Reply{caller, absl::OkStatus(), std::move(response), true});
  }
  deploy_callers_.clear();
}

void DeploymentMachine::CheckStopped(const Turn& turn) {
  for (const std::string& agent : Agents()) {
    const bool pending = turn.commands.Pending(agent, [&](const v1::Command& command) {
      return command.has_teardown_nodes() && DeploymentOf(command) == deployment_.name();
    });
    if (pending && !turn.GivenUp(agent)) return;
  }
  turn.commands.Drop(
      "", [&](const v1::Command& command) { return DeploymentOf(command) == deployment_.name(); }, turn.actions);
  const absl::Status deploy_status = failure_.ok() ? absl::AbortedError("torn down") : failure_;
  for (const CallId caller : deploy_callers_) turn.Do(Reply{caller, deploy_status, std::monostate(), true});
  deploy_callers_.clear();
  if (!teardown_failure_.ok()) {
    SetState(v1::DEPLOYMENT_STATE_FAILED);
    for (const CallId caller : teardown_callers_) turn.Do(Reply{caller, teardown_failure_, std::monostate(), true});
  } else {
    SetState(v1::DEPLOYMENT_STATE_STOPPED);
    gone_ = true;
    for (const CallId caller : teardown_callers_) {
      v1::TeardownResponse response;
      *response.mutable_deployment() = deployment_;
      turn.Do(Reply{caller, absl::OkStatus(), std::move(response), true});
    }
  }
  teardown_callers_.clear();
}

void DeploymentMachine::SetState(v1::DeploymentState state) {
  dirty_ = dirty_ || deployment_.state() != state;
  deployment_.set_state(state);
}

v1::DeploymentState DeploymentMachine::WorstOfNodes() const {
  v1::DeploymentState worst = v1::DEPLOYMENT_STATE_HEALTHY;
  for (const v1::NodeStatus& node : deployment_.nodes()) worst = Worst(worst, node.state());
  return worst;
}

void DeploymentMachine::Tell(const v1::Event& event, const Turn& turn) const {
  v1::Event timed = event;
  *timed.mutable_time() = ToWire(turn.now);
  for (const CallId caller : deploy_callers_) {
    v1::DeployResponse response;
    *response.mutable_event() = timed;
    turn.Do(Reply{caller, absl::OkStatus(), std::move(response), false});
  }
  for (const CallId caller : teardown_callers_) {
    v1::TeardownResponse response;
    *response.mutable_event() = timed;
    turn.Do(Reply{caller, absl::OkStatus(), std::move(response), false});
  }
}

void DeploymentMachine::TellNode(const v1::NodeStatus& status, const Turn& turn) const {
  v1::Event event;
  event.set_agent(status.agent());
  event.set_subject(status.node());
  event.set_code(std::string(CodeOf(status.state())));
  const bool bad = status.state() == v1::DEPLOYMENT_STATE_UNHEALTHY || status.state() == v1::DEPLOYMENT_STATE_FAILED;
  event.set_severity(bad ? v1::SEVERITY_ERROR : v1::SEVERITY_INFO);
  event.set_message(absl::StrCat(status.node(), " on ", status.agent(), " ", Predicate(status.state()),
                                 status.message().empty() ? "" : ": ", status.message()));
  Tell(event, turn);
}

}  // namespace loadstar::server
