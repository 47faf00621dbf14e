#pragma once

#include <cstdint>

#include "loadstar/v1/metrics.pb.h"

namespace loadstar::worker {

// What this process spends.
class UsageMeter {
 public:
  UsageMeter();
  ~UsageMeter();
  UsageMeter(const UsageMeter&) = delete;
  UsageMeter& operator=(const UsageMeter&) = delete;

  // Fills in CPU time since the last call (or construction) and resident memory; what cannot be read stays unset.
  void Take(v1::WorkerUsage* usage);

 private:
  int statm_fd_;  // kept open: a process at its descriptor limit can still be measured
  uint64_t cpu_ns_;
};

}  // namespace loadstar::worker
