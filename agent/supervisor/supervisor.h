#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/core/agent_core.h"
#include "agent/inbox.h"
#include "loadstar/v1/worker.pb.h"

namespace loadstar::agent {

// Runs worker processes and carries messages between them and the core.
//
// One thread owns every worker; the methods post to it and never block, and may be called from any thread. What a
// worker says goes to the sink as WorkerSaid, and then, exactly once and after everything it said, WorkerExited with a
// cause for people. The sink may block: that only slows the reading of workers. A worker that breaks the protocol, does
// not read what it is sent, or closes its channel without ending is killed, and the cause says so.
//
// A worker's standard error is LOG_FOLDER/worker-ID.log, bounded by copying and cutting (lib/os/files.h); it is removed
// when the worker ends cleanly and left nothing in it. Only the newest logs are kept.
class Supervisor {
 public:
  struct Options {
    std::string program;           // loadstar-worker, absolute
    std::string log_folder;        // created when missing
    std::string backend = "auto";  // of the workers' loops, as net::Loop::Create takes it
    uint64_t log_max_bytes = 4u << 20;
    size_t logs_kept = 64;
    // Bytes queued for a worker that does not read, past which it is killed.
    size_t queue_max_bytes = 16u << 20;
  };

  static absl::StatusOr<std::unique_ptr<Supervisor>> Create(Options options, Sink sink);
  // Kills and reaps every worker; nothing reaches the sink any more.
  ~Supervisor();

  void Spawn(WorkerId worker);
  void Send(WorkerId worker, const v1::AgentToWorker& message);
  void Kill(WorkerId worker);

 private:
  class Impl;
  explicit Supervisor(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace loadstar::agent
