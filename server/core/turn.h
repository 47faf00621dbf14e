// One turn of the core: one input, one instant, one list of actions. Handed down to the state machines, so that they
// neither keep time nor hold on to anything of each other.
#pragma once

#include <vector>

#include "absl/time/time.h"
#include "server/core/agent_table.h"
#include "server/core/command_book.h"
#include "server/core/coordinator_core.h"

namespace loadstar::server {

struct Turn {
  absl::Time now;
  const CoordinatorOptions& options;
  AgentTable& agents;
  CommandBook& commands;
  std::vector<Action>* actions;

  void Do(Action action) const { actions->push_back(std::move(action)); }
  void Issue(const std::string& agent, v1::Command command) const {
    commands.Issue(agents.Remember(agent, now), std::move(command), actions);
  }
  // Whether the agent has been silent, connected or not, for so long that it is given up.
  bool GivenUp(const std::string& agent) const {
    const AgentEntry* entry = agents.Find(agent);
    return entry == nullptr || now - entry->silent_since >= options.agent_lost_after;
  }
};

}  // namespace loadstar::server
