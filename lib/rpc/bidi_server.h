#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace loadstar::rpc {

// The server's end of a two-way stream: a bounded outgoing queue, one read and one write outstanding, reading that can
// be paused.
//
// Life: Start() is called in the service's method and reactor() returned to gRPC; the object keeps itself alive until
// gRPC is done with it. Every method may be called from any thread at any time, also after the end. on_message comes
// one at a time, in order; on_done exactly once, after the last on_message; both on gRPC's threads without a lock held,
// and neither may block.
//
// Invariants: (1) a gRPC operation is only started with mutex_ held and finished_ false, so none follows Finish (a
// write after the end makes OnDone come twice, grpc#26947); (2) gRPC never runs a reaction of ours inside of a Start
// call, Finish or TryCancel, so holding mutex_ there cannot deadlock; (3) OnCancel always finishes, else
// Server::Shutdown hangs (grpc#39114).
template <class Request, class Response>
class BidiServer final : public grpc::ServerBidiReactor<Request, Response>,
                         public std::enable_shared_from_this<BidiServer<Request, Response>> {
 public:
  struct Callbacks {
    // True: read on. False: not before Resume().
    std::function<bool(BidiServer& stream, Request message)> on_message;
    std::function<void()> on_done;
  };

  // Made, to be made known somewhere before the first message comes; Begin() must follow at once.
  static std::shared_ptr<BidiServer> Create(grpc::CallbackServerContext* context, Callbacks callbacks,
                                            size_t queue_max = 1024) {
    return std::shared_ptr<BidiServer>(new BidiServer(context, std::move(callbacks), queue_max));
  }
  void Begin() {
    absl::MutexLock lock(&mutex_);
    self_ = this->shared_from_this();
    this->StartRead(&incoming_);
  }
  static std::shared_ptr<BidiServer> Start(grpc::CallbackServerContext* context, Callbacks callbacks,
                                           size_t queue_max = 1024) {
    auto stream = Create(context, std::move(callbacks), queue_max);
    stream->Begin();
    return stream;
  }
  grpc::ServerBidiReactor<Request, Response>* reactor() { return this; }

  // Queues a message. False when the stream has ended or is being closed, or the queue is full, which also cancels the
  // call: the peer does not read.
  bool Send(Response message) {
    absl::MutexLock lock(&mutex_);
    if (finished_ || closing_) return false;
    if (outgoing_.size() >= queue_max_) {
      context_->TryCancel();
      return false;
    }
    outgoing_.push_back(std::move(message));
    if (!writing_) WriteNext();
    return true;
  }

  // Ends the call with `status` once what is queued has been written. A peer that does not read never lets that happen:
  // look at WritePendingFor and Cancel.
  void Close(const grpc::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (finished_ || closing_) return;
    closing_ = true;
    close_status_ = status;
    if (!writing_) FinishOnce(status);
  }

  // Ends the call at once; on_done follows soon.
  void Cancel() {
    absl::MutexLock lock(&mutex_);
    if (!done_) context_->TryCancel();
  }

  // Reads on after on_message has returned, or will return, false.
  void Resume() {
    absl::MutexLock lock(&mutex_);
    if (!paused_) {
      resume_asked_ = true;
      return;
    }
    paused_ = false;
    if (!finished_) this->StartRead(&incoming_);
  }

  // How long the outstanding write (or the end of the call) has been pending; zero when there is none.
  absl::Duration WritePendingFor() {
    absl::MutexLock lock(&mutex_);
    return writing_ && !done_ ? absl::Now() - write_began_ : absl::ZeroDuration();
  }

  void OnReadDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      if (finished_) return;
      if (!ok) {  // the peer has said all it had to say
        if (!closing_) FinishOnce(grpc::Status::OK);
        return;
      }
      resume_asked_ = false;
    }
    // Only this reaction touches incoming_ until the next read is started.
    const bool read_on = callbacks_.on_message(*this, std::move(incoming_));
    incoming_ = Request();
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    if (read_on || resume_asked_) {
      this->StartRead(&incoming_);
    } else {
      paused_ = true;
    }
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    outgoing_.pop_front();
    if (finished_) return;
    if (!ok) {
      FinishOnce(grpc::Status(grpc::StatusCode::CANCELLED, "the stream broke"));
    } else if (!outgoing_.empty()) {
      WriteNext();
    } else if (closing_) {
      FinishOnce(close_status_);
    }
  }

  void OnCancel() override {
    absl::MutexLock lock(&mutex_);
    if (!finished_) FinishOnce(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    Callbacks callbacks = std::move(callbacks_);
    callbacks_ = Callbacks();
    {
      absl::MutexLock lock(&mutex_);
      done_ = true;
    }
    if (callbacks.on_done) callbacks.on_done();
    callbacks = Callbacks();
    std::shared_ptr<BidiServer> self;  // outlives the lock
    absl::MutexLock lock(&mutex_);
    outgoing_.clear();
    self = std::move(self_);
  }

 private:
  BidiServer(grpc::CallbackServerContext* context, Callbacks callbacks, size_t queue_max)
      : queue_max_(queue_max), callbacks_(std::move(callbacks)), context_(context) {}

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    writing_ = true;
    write_began_ = absl::Now();
    this->StartWrite(&outgoing_.front());
  }

  void FinishOnce(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    finished_ = true;
    this->Finish(status);
  }

  // Constant after construction.
  const size_t queue_max_;
  // Used by reactions alone, which gRPC does not run at the same time as each other where they touch these.
  Callbacks callbacks_;
  Request incoming_;

  absl::Mutex mutex_;
  grpc::CallbackServerContext* const context_;             // gRPC's, valid until done_
  std::deque<Response> outgoing_ ABSL_GUARDED_BY(mutex_);  // the front is being written while writing_
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool resume_asked_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status close_status_ ABSL_GUARDED_BY(mutex_);
  absl::Time write_began_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<BidiServer> self_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace loadstar::rpc
