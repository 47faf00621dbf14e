// Commands whose result is outstanding. A command is durable before it is sent, sent again on every new session of its
// agent, and forgotten only with its result, or when nobody waits for it any more.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "loadstar/v1/agent_service.pb.h"
#include "server/core/agent_table.h"
#include "server/core/coordinator_core.h"

namespace loadstar::server {

class CommandBook {
 public:
  explicit CommandBook(std::vector<PutCommand> restored);

  // Records and, when the agent is connected, sends it. A command_id that is already pending is not issued again.
  void Issue(const AgentEntry& agent, v1::Command command, std::vector<Action>* actions);
  // Sends everything pending for the agent, in order of issue.
  void Resend(const AgentEntry& agent, std::vector<Action>* actions) const;
  // The result of a command of that agent is in: returns it and forgets it; nothing when it was not pending.
  std::optional<v1::Command> Take(const std::string& agent, const std::string& command_id,
                                  std::vector<Action>* actions);
  // Forgets the agent's commands (or, with an empty name, everyone's) for which `unwanted` holds.
  void Drop(const std::string& agent, const std::function<bool(const v1::Command&)>& unwanted,
            std::vector<Action>* actions);
  // Whether a command for which `wanted` holds is pending for the agent.
  bool Pending(const std::string& agent, const std::function<bool(const v1::Command&)>& wanted) const;

 private:
  std::map<std::string, std::vector<v1::Command>> pending_;  // by agent
};

// The run a command is about; empty when it is about none.
std::string RunOf(const v1::Command& command);
// The deployment a command is about; empty when it is about none.
std::string DeploymentOf(const v1::Command& command);

}  // namespace loadstar::server
