// One tuning, from the call of Tune to its verdict.
//
//   state     trigger                                     next      what happens
//   PLANNING  every host is done, none met an obstacle    ACTING    TuneHost apply to all
//   PLANNING  every host is done, one failed              (over)    verdict: nothing was changed anywhere
//   ACTING    every host is done                          (over)    verdict
//   ACTING    every host is done, all-or-nothing, one     UNDOING   TuneHost rollback of what this call may have
//             failed                                                changed, to all hosts
//   UNDOING   every host is done                          (over)    verdict
//
// Only an apply that is all-or-nothing begins with PLANNING. A host that is out of reach for too long, or that takes
// too long, counts as one that failed; what it did meanwhile is not known, and the verdict says so. The caller may
// leave: what was begun goes on.
//
// A tuning is not durable, other than what it does on the hosts, which have their journals: after a restart of the
// coordinator nobody waits for it, and orders that are still outstanding are withdrawn. But those of UNDOING are not,
// neither then nor when their agent is given up: it carries them out when it is back.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "loadstar/v1/coordinator_service.pb.h"
#include "loadstar/v1/tuning.pb.h"
#include "server/core/turn.h"

namespace loadstar::server {

class TuningMachine {
 public:
  // `agents` are connected. `id` (no "/" in it) is unique for ever.
  TuningMachine(const std::string& id, const v1::TuneRequest& request, const std::vector<std::string>& agents,
                CallId caller, const Turn& turn);

  // As TuningOf has it.
  const std::string& id() const { return id_; }
  bool over() const { return over_; }
  // Whether settings of the agent's host may change until it is over.
  bool Changes(const std::string& agent) const;
  void OnCallerLeft(CallId caller);
  void OnStep(const std::string& agent, const v1::TuneReport& report, const Turn& turn);
  void OnResult(const std::string& agent, const v1::Command& command, const absl::Status& status, const Turn& turn);
  void OnTick(const Turn& turn);

 private:
  enum class State : uint8_t { kPlanning, kActing, kUndoing };

  struct Host {
    bool pending = false;
    bool ok = true;
    bool put_back = true;  // kUndoing: as far as it is known
    bool any_step = false;
    std::string message = {};
    // Sets, because an agent that ends in between begins anew. Profile and key of each:
    std::set<std::pair<std::string, std::string>> changed = {};
    std::set<std::pair<std::string, std::string>> obstacles = {};
    // Keys that the profile had no claim to when the host planned. From the plan and not from what was applied, because
    // an agent that dies in between may not have told of all.
    std::set<std::string> to_undo = {};
  };

  void Begin(State state, const Turn& turn);
  void Order(const std::string& agent, Host* host, v1::TuneHost order, const Turn& turn);
  void Finish(const std::string& agent, Host* host, const absl::Status& status, const Turn& turn);
  void Advance(const Turn& turn);
  void End(const Turn& turn);
  bool AllOk() const;
  static v1::TuneHostResult ResultOf(const std::string& agent, const Host& host);
  void Tell(v1::TuneResponse response, bool last, const Turn& turn) const;
  std::string CommandId(const std::string& agent) const;

  const std::string id_;
  const v1::TuneRequest request_;
  std::optional<CallId> caller_;
  State state_ = State::kActing;
  absl::Time began_;  // this state
  std::map<std::string, Host> hosts_;
  bool undone_ = false;
  bool over_ = false;
};

// The tuning that a command of that id is of; empty when it is of none.
std::string TuningOf(const std::string& command_id);
// Whether the command puts back what a tuning changed, and so is to be carried out whoever waits for it.
bool IsUndo(const v1::Command& command);

}  // namespace loadstar::server
