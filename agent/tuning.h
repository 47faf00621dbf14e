#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "agent/core/agent_core.h"
#include "agent/inbox.h"

namespace loadstar::agent {

// Tunes this host (agent/tuner) and its Colima virtual machine (agent/tuner/colima) on a thread of its own, one order
// after the other. Results go to the sink: TuneStepMade for each step, then TuneEnded. A profile that has a virtual
// machine is for that; what is about an applied one goes to whom it is applied to, and what is about all to both.
//
// What was applied outlives the agent: the destructor, like a crash, leaves it, and the next one on the same journal
// knows of it.
class Tuning {
 public:
  struct Options {
    std::string folder;             // for the journals; it is there
    std::set<std::string> allowed;  // see Policy::tunable
    std::string machine;            // as MachineName has it
    // Called after an order that changed something and before its TuneEnded: what was known of the host is old.
    std::function<void()> on_changed;
  };
  static absl::StatusOr<std::unique_ptr<Tuning>> Create(Options options, Sink sink);
  // Waits for the order that is being carried out, whose programs are ended; drops those that wait.
  ~Tuning();

  // Queues an order. Never blocks.
  void Carry(Tune order);

 private:
  class Impl;
  explicit Tuning(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace loadstar::agent
