// What clients ask for and how it is checked, planned and answered. Each handler: check, decide, act, answer.
#pragma once

#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/core/deployment_machine.h"
#include "server/core/run_machine.h"
#include "server/core/turn.h"

namespace loadstar::server {

using Runs = std::map<std::string, std::unique_ptr<RunMachine>>;
using Deployments = std::map<std::string, std::unique_ptr<DeploymentMachine>>;

// The target of a test as endpoints, or why there are none.
struct ResolvedTarget {
  std::vector<std::string> endpoints;
  std::vector<std::string> nodes;
  // Where the target is a deployment:
  std::vector<std::string> node_agents;            // by endpoint
  std::map<std::string, uint32_t> node_processes;  // as NodeProcesses
  std::vector<std::string> observers;              // agents that run the nodes
};
absl::StatusOr<ResolvedTarget> ResolveTarget(const v1::TestSpec& test, const std::vector<std::string>& literal,
                                             const Deployments& deployments, const AgentTable& agents);

// Why a deployment in DEPLOYMENT_STATE_UNKNOWN cannot be used, and what to do.
absl::Status NotInSight(const v1::Deployment& seen);

// The agents that a test may use, with what their other runs hold of them; by name, or why there are none.
absl::StatusOr<std::vector<Candidate>> FindCandidates(const v1::TestSpec& test, const ResolvedTarget& target,
                                                      const AgentTable& agents, const Runs& runs);

// The plan, or FAILED_PRECONDITION naming the limit.
absl::StatusOr<Plan> PlanOrRefuse(const v1::TestSpec& test, const std::vector<std::string>& endpoints,
                                  const std::vector<Candidate>& candidates);

// The agents named, or all that are connected when none is; by name, each once. An error says which is not connected.
absl::StatusOr<std::vector<std::string>> ChooseAgents(const std::vector<std::string>& named, const AgentTable& agents);

// The agent for each node of a stack, in its order: the one it names, else the connected ones in turn.
absl::StatusOr<std::vector<std::string>> PlaceNodes(const v1::StackSpec& stack, const AgentTable& agents);

// "<test>-<YYYYMMDD-HHMMSS>" in UTC, with "-2", "-3"... when taken.
std::string MakeRunId(const std::string& test, absl::Time now, const std::set<std::string>& taken);

// Everything about agents that clients may see.
v1::ListAgentsResponse DescribeAgents(const AgentTable& agents, const Runs& runs, const Deployments& deployments);

}  // namespace loadstar::server
