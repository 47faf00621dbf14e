#include "server/core/command_book.h"

#include <utility>

namespace loadstar::server {
namespace {

SendToAgent ToSession(SessionId session, const v1::Command& command) {
  SendToAgent send{session, {}};
  *send.message.mutable_command() = command;
  return send;
}

}  // namespace

CommandBook::CommandBook(std::vector<PutCommand> restored) {
  for (PutCommand& put : restored) pending_[put.agent].push_back(std::move(put.command));
}

void CommandBook::Issue(const AgentEntry& agent, v1::Command command, std::vector<Action>* actions) {
  const std::string& name = agent.hello.name();
  if (Pending(name, [&](const v1::Command& c) { return c.command_id() == command.command_id(); })) return;
  actions->push_back(PutCommand{name, command});
  if (agent.connected()) actions->push_back(ToSession(*agent.session, command));
  pending_[name].push_back(std::move(command));
}

void CommandBook::Resend(const AgentEntry& agent, std::vector<Action>* actions) const {
  const auto it = pending_.find(agent.hello.name());
  if (it == pending_.end() || !agent.connected()) return;
  for (const v1::Command& command : it->second) actions->push_back(ToSession(*agent.session, command));
}

std::optional<v1::Command> CommandBook::Take(const std::string& agent, const std::string& command_id,
                                             std::vector<Action>* actions) {
  const auto it = pending_.find(agent);
  if (it == pending_.end()) return std::nullopt;
  for (auto command = it->second.begin(); command != it->second.end(); ++command) {
    if (command->command_id() != command_id) continue;
    v1::Command taken = std::move(*command);
    it->second.erase(command);
    if (it->second.empty()) pending_.erase(it);
    actions->push_back(DeleteCommand{command_id});
    return taken;
  }
  return std::nullopt;
}

void CommandBook::Drop(const std::string& agent, const std::function<bool(const v1::Command&)>& unwanted,
                       std::vector<Action>* actions) {
  for (auto it = pending_.begin(); it != pending_.end();) {
    if (agent.empty() || it->first == agent) {
      std::erase_if(it->second, [&](const v1::Command& command) {
        if (!unwanted(command)) return false;
        actions->push_back(DeleteCommand{command.command_id()});
        return true;
      });
    }
    it = it->second.empty() ? pending_.erase(it) : std::next(it);
  }
}

bool CommandBook::Pending(const std::string& agent, const std::function<bool(const v1::Command&)>& wanted) const {
  const auto it = pending_.find(agent);
  if (it == pending_.end()) return false;
  for (const v1::Command& command : it->second) {
    if (wanted(command)) return true;
  }
  return false;
}

std::string RunOf(const v1::Command& command) {
  switch (command.command_case()) {
    case v1::Command::kPrepareRun:
      return command.prepare_run().run_id();
    case v1::Command::kStartRun:
      return command.start_run().run_id();
    case v1::Command::kUpdateRun:
      return command.update_run().run_id();
    case v1::Command::kStopRun:
      return command.stop_run().run_id();
    default:
      return "";
  }
}

std::string DeploymentOf(const v1::Command& command) {
  switch (command.command_case()) {
    case v1::Command::kDeployNodes:
      return command.deploy_nodes().deployment();
    case v1::Command::kTeardownNodes:
      return command.teardown_nodes().deployment();
    default:
      return "";
  }
}

}  // namespace loadstar::server
