// Who the coordinator knows: agents by name, their sessions, and how far their reports have been taken.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "loadstar/v1/agent_service.pb.h"
#include "server/core/coordinator_core.h"

namespace loadstar::server {

// One agent. It is connected while `session` is set.
struct AgentEntry {
  // Of the newest session, with the host and its capacity as last told; only the name is set when it was not seen since
  // the coordinator began.
  v1::AgentHello hello;
  std::optional<SessionId> session;
  // When its session last said anything; from an earlier life of the coordinator: when its last report was stored. The
  // infinite past: neither is known.
  absl::Time last_seen = absl::InfinitePast();
  // From when on its silence counts: last_seen, and later by what this coordinator could not hear, because it was not
  // there or stood still.
  absl::Time silent_since;
  std::optional<int64_t> clock_offset_ns;
  int64_t clock_uncertainty_ns = 0;
  struct Cursor {
    uint64_t sequence = 0;  // highest report taken
    absl::Time updated;
  };
  // By instance. More than one only when the agent restarted.
  std::map<std::string, Cursor> cursors;

  bool connected() const { return session.has_value(); }
  void Heard(absl::Time now) { last_seen = silent_since = now; }
  uint64_t cursor() const;
  // What it says of its clock and its host replaces what was known.
  void Take(const v1::Heartbeat& heartbeat);
};

// Bounded: kMaxAgents names, kMaxInstances cursors of each.
class AgentTable {
 public:
  static constexpr size_t kMaxAgents = 1024;
  static constexpr size_t kMaxInstances = 16;

  // What an agent must be told apart from the newcomer: which session it replaces.
  struct Admission {
    absl::Status status;                // not OK: the session is to be closed with it
    std::optional<SessionId> replaced;  // to be closed: the same instance dialled again
    std::vector<std::string> dropped;   // instances whose cursors are forgotten
  };
  Admission Open(SessionId session, const v1::AgentHello& hello, absl::Time now);
  // Ends the session, if it is still the agent's. Returns the agent, or null.
  AgentEntry* Close(SessionId session);
  // Makes sure that an agent is known; one that was not is silent from `now` on.
  AgentEntry& Remember(const std::string& name, absl::Time now);
  // Nobody was listening for so long: no agent's silence counts for that time.
  void Excuse(absl::Duration stall);
  // Forgets an agent that is not connected.
  void Forget(const std::string& name) { agents_.erase(name); }

  AgentEntry* Find(const std::string& name);
  const AgentEntry* Find(const std::string& name) const;
  // The agent whose current session this is, or null (a session that was replaced).
  AgentEntry* BySession(SessionId session);
  const std::map<std::string, AgentEntry>& all() const { return agents_; }
  std::map<std::string, AgentEntry>& all() { return agents_; }
  std::vector<std::string> ConnectedNames() const;

 private:
  std::map<std::string, AgentEntry> agents_;
  std::map<SessionId, std::string> sessions_;
};

}  // namespace loadstar::server
