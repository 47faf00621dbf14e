#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace loadstar::server {

// A few threads for what may block (the store's readers, the resolver), with a bounded queue. Thread-safe.
class WorkPool {
 public:
  WorkPool(size_t threads, size_t queue_max);
  // Runs what is queued, then ends.
  ~WorkPool();

  // False: the queue is full or the pool is ending; the task is dropped.
  bool Run(std::function<void()> task);
  // Takes no more tasks, runs those queued, and ends the threads.
  void Stop();

 private:
  void Work();
  bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_ || !queue_.empty(); }

  const size_t queue_max_;
  absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace loadstar::server
