#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/policy.h"

namespace loadstar::agent {

struct AgentConfig {
  std::string coordinator;   // may be used (rpc::CheckAddress)
  std::string name;          // spec::IsName
  std::string state_folder;  // this agent's alone; created when missing
  Policy policy;             // policy.bin_folder has loadstar-worker in it
  std::string version;
  std::string colima_machine = "loadstar";  // the host's virtual machine, if it has one (MachineName)
  std::string worker_backend = "auto";      // as net::Loop::Create takes it
};

// The whole agent: the core, the parts that act for it, and the loop between them.
//
// Run's thread owns the core. The parts (session, supervisor, deployer, observer, host monitor) have threads of their
// own and meet it at one bounded inbox; what the core wants done it posts to them without waiting.
//
// Its end takes the workers with it, and so the load. Deployed nodes stay: a deployment outlives its agent, and the
// next agent on the same state folder takes it over (agent/deployer).
class Agent {
 public:
  // Takes the state folder, raises the descriptor limit, takes over deployments and starts every part. An error says
  // what is in the way; nothing runs then.
  static absl::StatusOr<std::unique_ptr<Agent>> Create(const AgentConfig& config);
  ~Agent();

  // Runs the core until Stop. Once.
  void Run();
  // Any thread.
  void Stop();

 private:
  class Impl;
  explicit Agent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace loadstar::agent
