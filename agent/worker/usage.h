#pragma once

#include <cstdint>
#include <string>

#include "lib/net/loop.h"
#include "lib/os/fd.h"
#include "loadstar/v1/metrics.pb.h"

namespace loadstar::worker {

// What this process, which has one thread, and its loop spend.
class UsageMeter {
 public:
  // `self`: the folder of this process below /proc; another one in tests.
  explicit UsageMeter(const std::string& self = "/proc/self");

  // An interval begins.
  void Begin(int64_t now_ns, const net::LoopStats& loop);
  // Fills in what was spent since the last call (or Begin), and the memory as it is; what the kernel does not say stays
  // unset. The next interval begins.
  void Take(int64_t now_ns, const net::LoopStats& loop, v1::WorkerUsage* usage);

 private:
  // What counts up.
  struct Reading {
    int64_t now_ns = 0;
    uint64_t cpu_ns = 0;
    uint64_t core_wait_ns = 0;
    bool has_core_wait = false;
    net::LoopStats loop;
  };
  Reading Read(int64_t now_ns, const net::LoopStats& loop) const;

  // Kept open: a process at its descriptor limit can still be measured.
  os::Fd statm_;
  os::Fd schedstat_;
  Reading last_;
};

}  // namespace loadstar::worker
