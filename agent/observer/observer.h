#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/core/agent_core.h"
#include "agent/deployer/deployer.h"
#include "agent/inbox.h"
#include "lib/os/proc.h"

namespace loadstar::agent {

// During runs, at the end of each second, and once ahead of the run's start when it was told of in time:
//
// Reads what the host's kernel counts and hands the core one HostObserved per run and second with what has happened
// since the reading before. When several seconds ended at once (this process stood still) one reading covers them and
// says so: nothing that was counted is lost. The first reading is taken at the run's start; of a run that is told of
// later, at the end of the second that is on. Ahead of the start only the gauges are of use.
//
// Asks every node of the run's deployment on this host for /metrics, all at once, and hands the core one NodesObserved
// per run and second, in order, at most kTimeoutNs after the second's end. A node that does not answer in time is there
// with reachable=false; a second that was missed is there without nodes, because nobody looked.
//
// One thread owns the runs; the methods post to it and may be called from any thread.
class Observer {
 public:
  static constexpr int64_t kTimeoutNs = 500'000'000;

  // `apis` is asked at each second, on the observer's thread.
  Observer(std::function<std::vector<NodeApi>(const std::string& deployment)> apis, os::Proc proc, Sink sink);
  ~Observer();

  void Start(const Observe& order);
  void Stop(const StopObserving& order);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace loadstar::agent
