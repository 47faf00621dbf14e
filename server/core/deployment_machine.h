// One deployment, from Deploy to Teardown.
//
//   state      trigger                    next       what happens
//   STARTING   every agent is done, OK    HEALTHY    Deploy is answered (UNHEALTHY when a node has failed again by
//   then) STARTING   an agent failed or is lost STOPPING   TeardownNodes to all: on failure nothing is left behind
//   STARTING   Teardown                   STOPPING   Deploy is answered ABORTED, TeardownNodes to all
//   HEALTHY    a node is not healthy      UNHEALTHY  or FAILED when it ended for good; runs that use it are told
//   UNHEALTHY  every node is healthy      HEALTHY
//   (any up)   Teardown                   STOPPING   TeardownNodes to all
//   STOPPING   every agent is done        (gone)     Deploy is answered with the failure, Teardown with STOPPED
//   STOPPING   an agent could not         FAILED     Teardown is answered with the reason and may be called again
//
// An agent that is lost counts as done with a teardown: when it comes back, its Welcome does not name the deployment
// and it takes the nodes down by itself. What an agent still has to do is told by its pending commands, which are
// durable, so that a deployment goes on after a restart of the coordinator; only its callers are gone then.
//
// That an agent is out of reach changes no state here, as its nodes go on without the coordinator and nobody knows;
// Seen shows them as UNKNOWN meanwhile. When the agent is back, what changed comes in as reports.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "loadstar/v1/coordinator_service.pb.h"
#include "loadstar/v1/run.pb.h"
#include "server/core/turn.h"

namespace loadstar::server {

class DeploymentMachine {
 public:
  // A new deployment: DeployNodes goes out. `placement` names the agent of each node, in the order of the stack.
  // `nonce` makes the ids of its commands unique for ever.
  DeploymentMachine(const v1::StackSpec& stack, const std::vector<std::string>& placement, uint64_t nonce,
                    CallId caller, const Turn& turn);
  // One that the store held.
  explicit DeploymentMachine(v1::Deployment deployment) : deployment_(std::move(deployment)), dirty_(false) {}

  // As the agents last said it stands.
  const v1::Deployment& deployment() const { return deployment_; }
  // As it can be said to stand now: what an agent that is out of reach said is no longer known to be so.
  v1::Deployment Seen(const AgentTable& agents) const;
  // Nothing is left of it: to be forgotten.
  bool gone() const { return gone_; }
  bool busy() const;
  bool RunsOn(const std::string& agent) const;
  std::vector<std::string> Agents() const;

  // Another caller waits for what is under way.
  void AwaitDeploy(CallId caller) { deploy_callers_.insert(caller); }
  void Teardown(CallId caller, uint64_t nonce, const Turn& turn);
  void OnCallerLeft(CallId caller);

  // True when the node's health changed since it was up, which concerns runs.
  bool OnNode(const std::string& agent, const v1::NodeStatus& status, const Turn& turn);
  void OnResult(const std::string& agent, const v1::Command& command, const absl::Status& status, uint64_t nonce,
                const Turn& turn);
  // The agent's session stands; `holds`: it says that it runs nodes of this. Returns the nodes found gone.
  std::vector<v1::NodeStatus> OnHello(const std::string& agent, bool holds, const Turn& turn);
  void OnTick(uint64_t nonce, const Turn& turn);
  // The end of a turn: writes the deployment when it changed.
  void Flush(const Turn& turn);

 private:
  v1::NodeStatus* Find(const std::string& agent, const std::string& node);
  bool Pending(const std::string& agent, const Turn& turn) const;
  void BeginTeardown(uint64_t nonce, const Turn& turn);
  void CheckStarted(uint64_t nonce, const Turn& turn);
  void CheckStopped(const Turn& turn);
  void SetState(v1::DeploymentState state);
  v1::DeploymentState WorstOfNodes() const;
  void Tell(const v1::Event& event, const Turn& turn) const;
  void TellNode(const v1::NodeStatus& status, const Turn& turn) const;

  v1::Deployment deployment_;
  std::set<CallId> deploy_callers_;
  std::set<CallId> teardown_callers_;
  absl::Status failure_;           // why a deploy is being undone
  absl::Status teardown_failure_;  // why a teardown will not come to its end
  bool dirty_ = true;
  bool gone_ = false;
};

// The gravest of the states of nodes.
v1::DeploymentState Worst(v1::DeploymentState a, v1::DeploymentState b);

}  // namespace loadstar::server
