#include "server/core/agent_table.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/spec/name.h"

namespace loadstar::server {

uint64_t AgentEntry::cursor() const {
  const auto it = cursors.find(hello.instance_id());
  return it == cursors.end() ? 0 : it->second.sequence;
}

void AgentEntry::Take(const v1::Heartbeat& heartbeat) {
  if (heartbeat.has_clock_offset_ns()) {
    clock_offset_ns = heartbeat.clock_offset_ns();
    clock_uncertainty_ns = heartbeat.clock_uncertainty_ns();
  }
  if (heartbeat.has_host()) *hello.mutable_host() = heartbeat.host();
  if (heartbeat.has_capacity()) *hello.mutable_capacity() = heartbeat.capacity();
}

AgentTable::Admission AgentTable::Open(SessionId session, const v1::AgentHello& hello, absl::Time now) {
  if (!spec::IsName(hello.name()) || hello.instance_id().empty() || hello.instance_id().size() > 128) {
    return {
        absl::InvalidArgumentError("hello: an agent's name must be [a-z0-9][a-z0-9-]{0,62} and its instance_id 1 to "
                                   "128 bytes; start the agent with a valid --name"),
        std::nullopt,
        {}};
  }
  if (agents_.find(hello.name()) == agents_.end() && agents_.size() >= kMaxAgents) {
    return {
        absl::ResourceExhaustedError(absl::StrCat("this coordinator already knows ", kMaxAgents, " agents, its limit")),
        std::nullopt,
        {}};
  }
  AgentEntry& entry = Remember(hello.name(), now);
  std::optional<SessionId> replaced;
  if (entry.connected()) {
    if (entry.hello.instance_id() != hello.instance_id()) {
      return {absl::AlreadyExistsError(absl::StrCat("an agent named '", hello.name(),
                                                    "' is already connected; give each agent its own --name")),
              std::nullopt,
              {}};
    }
    replaced = entry.session;
    sessions_.erase(*entry.session);
  }
  entry.hello = hello;
  entry.session = session;
  entry.Heard(now);
  sessions_[session] = hello.name();
  // Instances that are gone for good leave their cursors behind; only the present one matters.
  std::vector<std::string> dropped;
  while (entry.cursors.size() > kMaxInstances) {
    auto oldest = entry.cursors.end();
    for (auto it = entry.cursors.begin(); it != entry.cursors.end(); ++it) {
      if (it->first == hello.instance_id()) continue;
      if (oldest == entry.cursors.end() || it->second.updated < oldest->second.updated) oldest = it;
    }
    dropped.push_back(oldest->first);
    entry.cursors.erase(oldest);
  }
  return {absl::OkStatus(), replaced, std::move(dropped)};
}

AgentEntry* AgentTable::Close(SessionId session) {
  const auto it = sessions_.find(session);
  if (it == sessions_.end()) return nullptr;
  AgentEntry* entry = Find(it->second);
  sessions_.erase(it);
  entry->session.reset();
  return entry;
}

AgentEntry& AgentTable::Remember(const std::string& name, absl::Time now) {
  auto [it, inserted] = agents_.try_emplace(name);
  if (inserted) {
    it->second.hello.set_name(name);
    it->second.silent_since = now;
  }
  return it->second;
}

void AgentTable::Excuse(absl::Duration stall) {
  for (auto& [name, agent] : agents_) agent.silent_since += stall;
}

AgentEntry* AgentTable::Find(const std::string& name) {
  const auto it = agents_.find(name);
  return it == agents_.end() ? nullptr : &it->second;
}

const AgentEntry* AgentTable::Find(const std::string& name) const {
  const auto it = agents_.find(name);
  return it == agents_.end() ? nullptr : &it->second;
}

AgentEntry* AgentTable::BySession(SessionId session) {
  const auto it = sessions_.find(session);
  return it == sessions_.end() ? nullptr : Find(it->second);
}

std::vector<std::string> AgentTable::ConnectedNames() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : agents_) {
    if (entry.connected()) names.push_back(name);
  }
  return names;
}

}  // namespace loadstar::server
