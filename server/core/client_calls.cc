#include "server/core/client_calls.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "server/core/refusal.h"
#include "server/core/wire_time.h"
#include "server/core/words.h"

namespace loadstar::server {
namespace {

absl::Status NoAgent() {
  return Precondition(
      "NO_AGENT", "agents",
      "no agent is connected; start one with: loadstar-agent --coordinator ADDRESS --name NAME --state DIR");
}

absl::Status NotConnected(const std::string& agent, const AgentTable& agents) {
  const std::vector<std::string> names = agents.ConnectedNames();
  return Precondition("AGENT_NOT_CONNECTED", agent,
                      absl::StrCat("agent '", agent, "' is not connected; connected are: ",
                                   names.empty() ? "none" : absl::StrJoin(names, ", ")));
}

// Workers take numbers only.
std::string Numeric(const std::string& address) {
  absl::string_view port = address;
  if (absl::ConsumePrefix(&port, "localhost:")) return absl::StrCat("127.0.0.1:", port);
  return address;
}

// The run's test, with the highest rate that it or an update asks for.
v1::TestSpec AtItsHighestRate(const v1::Run& run) {
  v1::TestSpec test = run.test();
  for (const v1::AppliedUpdate& update : run.updates()) {
    if (!update.update().has_rate_per_s()) continue;
    v1::RequestsSpec* requests = test.mutable_load()->mutable_requests();
    requests->set_rate_per_s(std::max(requests->rate_per_s(), update.update().rate_per_s()));
  }
  return test;
}

// What of the target is on the candidate's host. Loopback is, wherever that is.
void CountTargetHere(const ResolvedTarget& target, const AgentTable& agents, Candidate* candidate) {
  for (size_t i = 0; i < target.endpoints.size(); ++i) {
    bool here = OnLoopback(target.endpoints[i]);
    if (i < target.node_agents.size()) {
      const std::string& agent = target.node_agents[i];
      const AgentEntry* runs_it = agents.Find(agent);
      const bool same_host =
          runs_it != nullptr && !candidate->host.empty() && runs_it->hello.host().hostname() == candidate->host;
      here = agent == candidate->name || same_host;
    }
    if (!here) continue;
    ++candidate->endpoints_here;
    const auto processes = target.node_processes.find(target.nodes[i]);
    if (processes != target.node_processes.end()) candidate->node_processes_here += processes->second;
  }
}

}  // namespace

absl::StatusOr<ResolvedTarget> ResolveTarget(const v1::TestSpec& test, const std::vector<std::string>& literal,
                                             const Deployments& deployments, const AgentTable& agents) {
  ResolvedTarget target;
  const std::string& stack = test.target().stack();
  if (stack.empty()) {
    target.endpoints = literal;
    target.nodes.resize(literal.size());
    if (literal.empty()) return BadField("target", "neither a stack nor endpoints are given");
    return target;
  }
  const auto found = deployments.find(stack);
  if (found == deployments.end()) {
    return Missing("DEPLOYMENT_NOT_FOUND", absl::StrCat("target.stack: no deployment '", stack,
                                                        "' stands; bring it up with: loadstar deploy ", stack));
  }
  const v1::Deployment deployment = found->second->Seen(agents);
  if (deployment.state() == v1::DEPLOYMENT_STATE_UNKNOWN) return NotInSight(deployment);
  if (deployment.state() != v1::DEPLOYMENT_STATE_HEALTHY) {
    std::vector<std::string> bad;
    for (const v1::NodeStatus& node : deployment.nodes()) {
      if (node.state() == v1::DEPLOYMENT_STATE_HEALTHY) continue;
      bad.push_back(absl::StrCat(node.node(), " ", Predicate(node.state()),
                                 node.message().empty() ? "" : absl::StrCat(" (", node.message(), ")")));
    }
    return Precondition("DEPLOYMENT_NOT_HEALTHY", stack,
                        absl::StrCat("target.stack: deployment '", stack, "' is not healthy: ",
                                     absl::StrJoin(bad, ", "), "; take it down with: loadstar teardown ", stack,
                                     " and bring it up again with: loadstar deploy ", stack));
  }
  std::map<std::string, std::string> agent_of;
  for (const v1::NodeStatus& node : deployment.nodes()) agent_of[node.node()] = node.agent();
  for (const v1::NodeSpec& node : deployment.stack().nodes()) {
    target.endpoints.push_back(Numeric(node.listen_address()));
    target.nodes.push_back(node.name());
    target.node_agents.push_back(agent_of[node.name()]);
  }
  target.node_processes = NodeProcesses(deployment.stack());
  target.observers = found->second->Agents();
  return target;
}

absl::Status NotInSight(const v1::Deployment& seen) {
  std::map<std::string, std::pair<std::string, std::vector<std::string>>> unseen;  // by agent: since when, its nodes
  for (const v1::NodeStatus& node : seen.nodes()) {
    if (node.state() != v1::DEPLOYMENT_STATE_UNKNOWN) continue;
    auto& [since, nodes] = unseen[node.agent()];
    if (node.has_unknown_since()) since = absl::StrCat(" since ", Instant(FromWire(node.unknown_since())));
    nodes.push_back(node.node());
  }
  std::vector<std::string> parts;
  parts.reserve(unseen.size());
  for (const auto& [agent, part] : unseen) {
    parts.push_back(
        absl::StrCat("agent ", agent, " (", absl::StrJoin(part.second, ", "), ") is out of reach", part.first));
  }
  return Precondition(
      "DEPLOYMENT_UNKNOWN", seen.name(),
      absl::StrCat(
          "how deployment '", seen.name(), "' stands is not known: ", absl::StrJoin(parts, "; "),
          "; start the agent again or mend the way to it, or take the deployment down with: loadstar teardown ",
          seen.name(), " and bring it up again with: loadstar deploy ", seen.name()));
}

absl::StatusOr<std::vector<std::string>> ChooseAgents(const std::vector<std::string>& named, const AgentTable& agents) {
  std::vector<std::string> connected = agents.ConnectedNames();
  if (named.empty()) {
    if (connected.empty()) return NoAgent();
    return connected;
  }
  const std::set<std::string> names(named.begin(), named.end());
  for (const std::string& name : names) {
    const AgentEntry* entry = agents.Find(name);
    if (entry == nullptr || !entry->connected()) return NotConnected(name, agents);
  }
  return std::vector<std::string>(names.begin(), names.end());
}

absl::StatusOr<std::vector<Candidate>> FindCandidates(const v1::TestSpec& test, const ResolvedTarget& target,
                                                      const AgentTable& agents, const Runs& runs) {
  const absl::StatusOr<std::vector<std::string>> names =
      ChooseAgents({test.load().agents().begin(), test.load().agents().end()}, agents);
  if (!names.ok()) return names.status();
  const std::set<std::string> wanted(target.endpoints.begin(), target.endpoints.end());
  std::vector<Candidate> candidates;
  for (const std::string& name : *names) {
    const AgentEntry* entry = agents.Find(name);
    Candidate candidate;
    candidate.name = name;
    candidate.host = entry->hello.host().hostname();
    candidate.cores = std::max<uint32_t>(entry->hello.host().cores(), 1);
    candidate.capacity = entry->hello.capacity();
    CountTargetHere(target, agents, &candidate);
    for (const auto& [id, run] : runs) {
      if (!run->Wants(name)) continue;
      uint32_t workers = 0;
      uint32_t total = 0;
      for (const v1::Participant& participant : run->run().participants()) {
        total += participant.worker_count();
        if (participant.agent() == name) workers = participant.worker_count();
      }
      const uint64_t reserved = Reserved(run->run().test(), workers, total);
      candidate.held += reserved;
      candidate.held_in_flight += MostInFlight(AtItsHighestRate(run->run()), workers, total);
      const bool shares = std::any_of(run->run().endpoints().begin(), run->run().endpoints().end(),
                                      [&](const std::string& endpoint) { return wanted.count(endpoint) > 0; });
      if (shares) candidate.held_to_endpoints += reserved;
    }
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

absl::StatusOr<Plan> PlanOrRefuse(const v1::TestSpec& test, const std::vector<std::string>& endpoints,
                                  const std::vector<Candidate>& candidates) {
  Plan plan = MakePlan(test, endpoints, candidates);
  if (plan.ok()) return plan;
  return Precondition("CAPACITY", plan.misfit.limit, absl::StrCat(plan.misfit.message, "; ", plan.misfit.remedy));
}

absl::StatusOr<std::vector<std::string>> PlaceNodes(const v1::StackSpec& stack, const AgentTable& agents) {
  const std::vector<std::string> connected = agents.ConnectedNames();
  if (connected.empty()) return NoAgent();
  std::vector<std::string> placement;
  size_t next = 0;
  for (const v1::NodeSpec& node : stack.nodes()) {
    if (node.agent().empty()) {
      placement.push_back(connected[next++ % connected.size()]);
      continue;
    }
    const AgentEntry* entry = agents.Find(node.agent());
    if (entry == nullptr || !entry->connected()) return NotConnected(node.agent(), agents);
    placement.push_back(node.agent());
  }
  return placement;
}

std::string MakeRunId(const std::string& test, absl::Time now, const std::set<std::string>& taken) {
  std::string base = absl::StrCat(test, "-", absl::FormatTime("%Y%m%d-%H%M%S", now, absl::UTCTimeZone()));
  if (taken.count(base) == 0) return base;
  for (int i = 2;; ++i) {
    std::string id = absl::StrCat(base, "-", i);
    if (taken.count(id) == 0) return id;
  }
}

v1::ListAgentsResponse DescribeAgents(const AgentTable& agents, const Runs& runs, const Deployments& deployments) {
  v1::ListAgentsResponse response;
  for (const auto& [name, entry] : agents.all()) {
    v1::Agent* agent = response.add_agents();
    agent->set_name(name);
    agent->set_connected(entry.connected());
    agent->set_version(entry.hello.version());
    *agent->mutable_host() = entry.hello.host();
    *agent->mutable_capacity() = entry.hello.capacity();
    if (entry.last_seen != absl::InfinitePast()) *agent->mutable_last_seen() = ToWire(entry.last_seen);
    if (entry.clock_offset_ns.has_value()) {
      *agent->mutable_clock_offset() = ToWire(absl::Nanoseconds(*entry.clock_offset_ns));
      *agent->mutable_clock_uncertainty() = ToWire(absl::Nanoseconds(entry.clock_uncertainty_ns));
    }
    for (const auto& [id, run] : runs) {
      if (run->Wants(name)) agent->add_active_runs(id);
    }
    for (const auto& [id, deployment] : deployments) {
      if (deployment->RunsOn(name)) agent->add_deployments(id);
    }
  }
  return response;
}

}  // namespace loadstar::server
