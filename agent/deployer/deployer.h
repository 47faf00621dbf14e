#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/core/agent_core.h"
#include "agent/inbox.h"
#include "agent/policy.h"
#include "lib/os/proc.h"

namespace loadstar::agent {

// A node's place for the observer.
struct NodeApi {
  std::string node;
  std::string api_address;  // empty: it has none
};

// Brings up and takes down the nodes of `process` stacks, and keeps them up by their restart policy.
//
// A deployment outlives its agent: the destructor, like a crash, leaves nodes running, with their logs open as plain
// files. The next Deployer on the same folder takes over every deployment whose journal is complete (adopted()) and
// ends whatever processes it finds of others; so nothing is ever left without an owner.
//
// One thread owns everything; the methods post to it and do not block (but Apis, which takes a short lock). Results go
// to the sink: NodeChanged at each change of a node, DeployEnded once for each command with an id. A Deploy of nodes
// that stand already is OK when they are the same (those that had failed are started again) and FAILED_PRECONDITION
// when they are not. A Deploy that fails ends every node it had started; their logs stay until a Teardown or the next
// Deploy.
//
// Folder of a deployment: FOLDER/NAME/journal.json and FOLDER/NAME/NODE.log, .log.1, .log.2.
class Deployer {
 public:
  struct Options {
    std::string folder;      // created when missing; symbolic links in it must not change between lives
    std::string agent_name;  // for reports
    Policy policy;           // admits nothing here (the core did): finds programs
    uint64_t log_max_bytes = 10u << 20;
    int logs_kept = 2;
    os::Proc proc{};
  };

  static absl::StatusOr<std::unique_ptr<Deployer>> Create(Options options, Sink sink);
  ~Deployer();

  // Deployments taken over from an earlier life.
  const std::vector<std::string>& adopted() const;

  void Deploy(agent::Deploy order);
  void Teardown(agent::Teardown order);
  // The nodes of a deployment; empty when there is none. Any thread.
  std::vector<NodeApi> Apis(const std::string& deployment) const;

 private:
  class Impl;
  explicit Deployer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace loadstar::agent
