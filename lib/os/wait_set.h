#pragma once

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "lib/os/fd.h"

namespace loadstar::os {

// What a thread that owns processes or sockets waits on: descriptors, ends of processes, and other threads that wake
// it. One thread owns it (and may hand it over before it begins); only Wake may be called by others. A descriptor is
// taken out before it is closed, as a child that is just being started may hold a copy of it for a moment.
class WaitSet {
 public:
  static constexpr uint64_t kTagMax = UINT64_MAX - 1;
  struct Event {
    uint64_t tag = 0;
    uint32_t ready = 0;  // EPOLLIN, EPOLLOUT...
  };

  WaitSet();
  // Not OK when it could not be made: it can then not be used.
  absl::Status status() const { return status_; }

  // Tells of it for as long as it is ready. Tags are the owner's, up to kTagMax.
  void Add(const Fd& fd, uint64_t tag, uint32_t events);
  void Change(const Fd& fd, uint64_t tag, uint32_t events);
  // Tells once that the process behind a pidfd has ended; it may then stay unreaped.
  void AddProcess(const Fd& pidfd, uint64_t tag);
  void Remove(const Fd& fd);

  // Waits until something is ready, Wake was called since the last time, or `until_ns` (CLOCK_MONOTONIC) has come;
  // never for more than a minute. Replaces *events by what is ready; a part of it when that is much.
  void Wait(int64_t until_ns, std::vector<Event>* events);
  void Wake();

 private:
  absl::Status status_;
  Fd epoll_;
  Fd wake_;
};

// Orders of other threads to the owner of a wait set. Post may be called by any thread and never blocks.
template <typename Order>
class OrderQueue {
 public:
  // `owner` outlives the queue.
  explicit OrderQueue(WaitSet* owner) : owner_(owner) {}

  void Post(Order order) {
    {
      const std::lock_guard lock(mutex_);
      orders_.push_back(std::move(order));
    }
    owner_->Wake();
  }

  // Everything that was posted, in order; the owner's after each Wait.
  std::vector<Order> Take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(orders_, {});
  }

 private:
  WaitSet* const owner_;
  std::mutex mutex_;
  std::vector<Order> orders_;  // guarded by mutex_
};

}  // namespace loadstar::os
