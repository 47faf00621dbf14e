#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "lib/os/fd.h"
#include "target/options.h"
#include "target/process_usage.h"
#include "target/shared_state.h"

namespace loadstar::target {

// The parent's side of the serving processes: starts them, starts a dead one again (counted, with a growing pause when
// it keeps dying), ends them all.
//
// Processes are spawned, not forked, so that the API's threads may exist meanwhile. They are spawned by the thread that
// calls Start and Run, which has to be the one that outlives everything: a serving process dies with that thread.
class Supervisor {
 public:
  // `state` outlives this. SIGTERM, SIGINT and SIGCHLD must be blocked in every thread: Run waits for them.
  Supervisor(Options options, const SharedState* state);
  // Ends what still runs.
  ~Supervisor();

  // Starts all and waits until each of them listens. On failure all are ended again.
  absl::Status Start();
  // Supervises until SIGTERM or SIGINT, whose number is returned.
  int Run();
  // Ends all: asked, then killed. Returns within a second.
  void Stop();

  // The rest may be called by any thread.

  // Tells the serving processes that the faults in the shared state have changed.
  void AnnounceFaults();
  // What a place's processes spent, those that died included.
  ProcessUsage Usage(uint32_t index) const;

 private:
  struct Place {
    // Constant between the supervising thread's own changes, which it makes under the mutex.
    pid_t pid = 0;
    os::Fd control;               // closed: none runs
    double cpu_seconds_gone = 0;  // of processes that died
    // The supervising thread's alone.
    int64_t started_ns = 0;
    int64_t restart_ns = INT64_MAX;  // when to start the next one
    int64_t pause_ns = 0;            // before the last restart
  };

  absl::Status Spawn(uint32_t index);
  // Takes in what has ended; true when something had.
  bool Reap();
  bool AllServing() const;
  int64_t RestartDue();

  const Options options_;
  const SharedState* const state_;
  mutable absl::Mutex mutex_;
  std::vector<Place> places_;
  bool stopping_ = false;  // the supervising thread's: an end is expected now
};

}  // namespace loadstar::target
