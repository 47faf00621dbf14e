#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "agent/inbox.h"
#include "lib/os/limits.h"
#include "lib/os/proc.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::agent {

// Reads the host's figures on a thread of its own and hands each reading to the sink: a plan is never made with figures
// that are older than `every` and a heartbeat. The first reading is taken by the constructor and is the caller's to
// use.
class HostMonitor {
 public:
  HostMonitor(os::Proc proc, os::DescriptorLimit limit, Sink sink,
              std::chrono::milliseconds every = std::chrono::seconds(5));
  ~HostMonitor();

  const v1::HostFacts& first_host() const { return first_host_; }
  const v1::Capacity& first_capacity() const { return first_capacity_; }

  // A reading at once, besides; it is in the sink when this returns. Any thread.
  void ReadNow() const;

 private:
  void Run();

  // Constant after construction.
  const os::Proc proc_;
  const os::DescriptorLimit limit_;
  const Sink sink_;
  const std::chrono::milliseconds every_;
  v1::HostFacts first_host_;
  v1::Capacity first_capacity_;

  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace loadstar::agent
