#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/core/agent_core.h"
#include "agent/deployer/deployer.h"
#include "agent/inbox.h"

namespace loadstar::agent {

// During runs, asks every node of the run's deployment on this host for /metrics at the end of each second, all at
// once, and hands the core one NodesObserved per run and second, in order, at most kTimeoutNs after the second's end. A
// node that does not answer in time is there with reachable=false; a second that was missed (the machine stood still)
// is there without nodes, because nobody looked.
//
// One thread owns the runs; the methods post to it and may be called from any thread.
class Observer {
 public:
  static constexpr int64_t kTimeoutNs = 500'000'000;

  // `apis` is asked at each second, on the observer's thread.
  Observer(std::function<std::vector<NodeApi>(const std::string& deployment)> apis, Sink sink);
  ~Observer();

  void Start(const Observe& order);
  void Stop(const StopObserving& order);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace loadstar::agent
