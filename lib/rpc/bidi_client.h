#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_callback.h>

#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace loadstar::rpc {

// The client's end of a two-way stream: a bounded outgoing queue, one read and one write outstanding.
//
// Life: Start() begins the call and the object keeps itself alive until gRPC is done with it. Every method may be
// called from any thread at any time, also after the end. on_message comes one at a time, in order; on_done comes
// exactly once, after the last on_message, with the call's status; both on gRPC's threads without a lock held, so they
// may call Send, Close and Cancel, and must not block. After on_done both are destroyed. What they refer to, and the
// channel, must outlive the call: keep the shared_ptr and the channel until Wait() has returned true. The call holds
// its channel, and when the last channel of a process dies on a thread of gRPC's, gRPC 1.51 frees the completion queue
// that this very thread serves, and aborts ("ref_counted.h: assertion failed: prior > 0").
//
// Invariants: (1) a gRPC operation is only started with mutex_ held and ended_ false, so none follows the end; (2) gRPC
// never runs a reaction inside of a Start call, so holding mutex_ there cannot deadlock; (3) the hold is removed
// exactly once, when the last read has failed: until then OnDone cannot come and operations from outside are safe.
template <class Out, class In>
class BidiClient final : public grpc::ClientBidiReactor<Out, In> {
 public:
  struct Callbacks {
    std::function<void(In message)> on_message;
    std::function<void(const grpc::Status& status)> on_done;
  };
  // Begins the call on the stub: `stub->async()->Session(context, reactor)`. May set the context up first.
  using Begin = std::function<void(grpc::ClientContext* context, grpc::ClientBidiReactor<Out, In>* reactor)>;

  static std::shared_ptr<BidiClient> Start(const Begin& begin, Callbacks callbacks, size_t queue_max = 1024) {
    auto stream = std::shared_ptr<BidiClient>(new BidiClient(std::move(callbacks), queue_max));
    absl::MutexLock lock(&stream->mutex_);
    stream->self_ = stream;
    begin(&stream->context_, stream.get());
    stream->AddHold();
    stream->StartRead(&stream->incoming_);
    stream->StartCall();
    return stream;
  }

  // Queues a message. False when the stream has ended or is being closed, or the queue is full, which also cancels the
  // call: the peer does not read.
  bool Send(Out message) {
    absl::MutexLock lock(&mutex_);
    if (ended_ || closing_ || write_failed_) return false;
    if (outgoing_.size() >= queue_max_) {
      context_.TryCancel();
      return false;
    }
    outgoing_.push_back(std::move(message));
    if (!writing_) WriteNext();
    return true;
  }

  // Says that nothing more will be sent, after what is queued. The call ends when the server ends it.
  void Close() {
    absl::MutexLock lock(&mutex_);
    if (ended_ || closing_) return;
    closing_ = true;
    if (!writing_ && !write_failed_) this->StartWritesDone();
  }

  // Ends the call at once; on_done follows soon.
  void Cancel() {
    absl::MutexLock lock(&mutex_);
    if (!ended_) context_.TryCancel();
  }

  // Blocks until on_done has returned and no thread of gRPC's holds the object any more. False when that has not come
  // within `timeout`. Never call it from a callback.
  bool Wait(absl::Duration timeout) {
    absl::MutexLock lock(&release_->mutex);
    return release_->mutex.AwaitWithTimeout(absl::Condition(&release_->released), timeout);
  }

  // How long the outstanding write has been pending; zero when there is none.
  absl::Duration WritePendingFor() {
    absl::MutexLock lock(&mutex_);
    return writing_ ? absl::Now() - write_began_ : absl::ZeroDuration();
  }

  void OnReadDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      if (!ok) {
        ended_ = true;
        this->RemoveHold();
        return;
      }
    }
    // Only this reaction touches incoming_ until the next read is started.
    if (callbacks_.on_message) callbacks_.on_message(std::move(incoming_));
    incoming_ = In();
    absl::MutexLock lock(&mutex_);
    this->StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    outgoing_.pop_front();
    if (!ok) {
      write_failed_ = true;  // the read fails as well and ends the stream
      outgoing_.clear();
    } else if (!ended_ && !outgoing_.empty()) {
      WriteNext();
    } else if (!ended_ && closing_) {
      this->StartWritesDone();
    }
  }

  void OnDone(const grpc::Status& status) override {
    Callbacks callbacks = std::move(callbacks_);
    callbacks_ = Callbacks();
    if (callbacks.on_done) callbacks.on_done(status);
    callbacks = Callbacks();
    const std::shared_ptr<Release> release = release_;
    std::shared_ptr<BidiClient> self;
    {
      absl::MutexLock lock(&mutex_);
      outgoing_.clear();
      self = std::move(self_);
    }
    self.reset();  // `this` may be gone now
    absl::MutexLock lock(&release->mutex);
    release->released = true;
  }

 private:
  // Outlives the object, so that gRPC's thread can say that it holds it no more.
  struct Release {
    absl::Mutex mutex;
    bool released ABSL_GUARDED_BY(mutex) = false;
  };

  BidiClient(Callbacks callbacks, size_t queue_max) : queue_max_(queue_max), callbacks_(std::move(callbacks)) {}

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    writing_ = true;
    write_began_ = absl::Now();
    this->StartWrite(&outgoing_.front());
  }

  // Constant after construction.
  const size_t queue_max_;
  const std::shared_ptr<Release> release_ = std::make_shared<Release>();
  // Used by reactions alone, which gRPC does not run at the same time as each other where they touch these.
  Callbacks callbacks_;
  In incoming_;
  // Thread-safe itself.
  grpc::ClientContext context_;

  absl::Mutex mutex_;
  std::deque<Out> outgoing_ ABSL_GUARDED_BY(mutex_);  // the front is being written while writing_
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool write_failed_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time write_began_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<BidiClient> self_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace loadstar::rpc
