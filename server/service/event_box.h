#pragma once

#include <deque>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "lib/rpc/pull_writer.h"

namespace loadstar::server {

// Where the core's answers to a streaming call wait for their reader: bounded, by dropping the oldest (each is one step
// of many; the last, which tells how it ended, is never dropped). Thread-safe.
template <class Response>
class EventBox {
 public:
  static constexpr size_t kMax = 4096;

  void Put(Response message) {
    absl::MutexLock lock(&mutex_);
    if (messages_.size() >= kMax) messages_.pop_front();
    messages_.push_back(std::move(message));
  }
  // Nothing follows.
  void End(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    ended_ = true;
    end_ = status;
  }
  bool ended() {
    absl::MutexLock lock(&mutex_);
    return ended_;
  }
  rpc::Pulled Next(Response* message, absl::Status* end) {
    absl::MutexLock lock(&mutex_);
    if (!messages_.empty()) {
      *message = std::move(messages_.front());
      messages_.pop_front();
      return rpc::Pulled::kMessage;
    }
    *end = end_;
    return ended_ ? rpc::Pulled::kEnd : rpc::Pulled::kNothing;
  }

 private:
  absl::Mutex mutex_;
  std::deque<Response> messages_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace loadstar::server
