#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "agent/core/agent_core.h"

namespace loadstar::agent {

// Takes what a part of the shell has for the core.
using Sink = std::function<void(Input)>;

// The one place where the agent's threads meet the core's: a bounded queue. Producers that may wait use Push, so that a
// busy core slows its workers' readers instead of growing memory; those that may not (gRPC's threads) use TryPush.
// Thread-safe.
class Inbox {
 public:
  explicit Inbox(size_t capacity) : capacity_(capacity) {}

  // Waits while full. False when closed: the input is dropped.
  bool Push(Input input) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return closed_ || inputs_.size() < capacity_; });
    return Add(std::move(input));
  }

  // False when full or closed.
  bool TryPush(Input input) {
    std::unique_lock lock(mutex_);
    return inputs_.size() < capacity_ && Add(std::move(input));
  }

  // Replaces *inputs by everything queued; waits until there is something, `until_ns` (CLOCK_MONOTONIC) has come, or it
  // is closed. False when closed.
  bool Take(int64_t until_ns, std::vector<Input>* inputs) {
    inputs->clear();
    std::unique_lock lock(mutex_);
    const std::chrono::steady_clock::time_point until{std::chrono::nanoseconds(until_ns)};
    filled_.wait_until(lock, until, [&] { return closed_ || !inputs_.empty(); });
    inputs->swap(inputs_);
    room_.notify_all();
    return !closed_;
  }

  // Ends every wait, now and later.
  void Close() {
    const std::unique_lock lock(mutex_);
    closed_ = true;
    filled_.notify_all();
    room_.notify_all();
  }

 private:
  // With mutex_ held.
  bool Add(Input input) {
    if (closed_) return false;
    inputs_.push_back(std::move(input));
    filled_.notify_one();
    return true;
  }

  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable filled_;
  std::condition_variable room_;
  std::vector<Input> inputs_;  // guarded by mutex_
  bool closed_ = false;        // guarded by mutex_
};

}  // namespace loadstar::agent
