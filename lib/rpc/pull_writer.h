#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "lib/rpc/rpc.h"

namespace loadstar::rpc {

// What a source has for its reader at the moment.
enum class Pulled {
  kMessage,  // *message is filled in
  kNothing,  // nothing now: Wake() when there may be
  kEnd,      // the stream is over, with the status given
};

// The server's end of a stream to a client, by pulling: the source is asked for the next message when the one before
// has been written, so a slow reader holds one message and never grows a queue.
//
// Life: Start() is called in the service's method and reactor() returned to gRPC; the object keeps itself alive until
// gRPC is done with it. Wake() and Cancel() may be called from any thread at any time, also after the end. The source
// runs on the executor (so that it may block), never twice at a time; on_done comes exactly once, after the last pull.
// At most one task per stream waits at the executor.
//
// Invariants: (1) at most one of pull and write is outstanding; (2) a gRPC operation is only started with mutex_ held
// and finished_ false; (3) OnCancel always finishes, else Server::Shutdown hangs.
template <class Response>
class PullWriter final : public grpc::ServerWriteReactor<Response>,
                         public std::enable_shared_from_this<PullWriter<Response>> {
 public:
  using Source = std::function<Pulled(Response* message, absl::Status* end)>;
  // Runs a task soon, on a thread that may block; false when it takes no more.
  using Executor = std::function<bool(std::function<void()> task)>;

  // Made, to be made known somewhere before the first pull; Begin() must follow at once.
  static std::shared_ptr<PullWriter> Create(grpc::CallbackServerContext* context, Executor executor, Source source,
                                            std::function<void()> on_done) {
    return std::shared_ptr<PullWriter>(
        new PullWriter(context, std::move(executor), std::move(source), std::move(on_done)));
  }
  void Begin() {
    {
      absl::MutexLock lock(&mutex_);
      self_ = this->shared_from_this();
    }
    Wake();
  }
  static std::shared_ptr<PullWriter> Start(grpc::CallbackServerContext* context, Executor executor, Source source,
                                           std::function<void()> on_done) {
    auto stream = Create(context, std::move(executor), std::move(source), std::move(on_done));
    stream->Begin();
    return stream;
  }
  grpc::ServerWriteReactor<Response>* reactor() { return this; }

  // The source may have something new.
  void Wake() {
    {
      absl::MutexLock lock(&mutex_);
      if (finished_) return;
      if (pulling_ || writing_) {
        woken_ = true;
        return;
      }
      pulling_ = true;
    }
    SchedulePull();
  }

  // Ends the call at once; on_done follows soon.
  void Cancel() {
    absl::MutexLock lock(&mutex_);
    if (!done_) context_->TryCancel();
  }

  // How long the outstanding write has been pending; zero when there is none.
  absl::Duration WritePendingFor() {
    absl::MutexLock lock(&mutex_);
    return writing_ && !done_ ? absl::Now() - write_began_ : absl::ZeroDuration();
  }

  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      if (finished_) return;
      if (!ok) {
        FinishOnce(grpc::Status(grpc::StatusCode::CANCELLED, "the stream broke"));
        return;
      }
      pulling_ = true;
    }
    SchedulePull();
  }

  void OnCancel() override {
    absl::MutexLock lock(&mutex_);
    if (!finished_) FinishOnce(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    bool last = false;
    {
      absl::MutexLock lock(&mutex_);
      done_ = true;
      last = !pulling_;
    }
    if (last) Release();
  }

 private:
  PullWriter(grpc::CallbackServerContext* context, Executor executor, Source source, std::function<void()> on_done)
      : executor_(std::move(executor)), source_(std::move(source)), on_done_(std::move(on_done)), context_(context) {}

  void SchedulePull() {
    auto self = this->shared_from_this();
    if (executor_([self] { self->Pull(); })) return;
    Settle(Pulled::kEnd, absl::ResourceExhaustedError("the coordinator has too many readers; try again"));
  }

  // Owns message_ while pulling_.
  void Pull() {
    Pulled pulled = Pulled::kEnd;
    absl::Status end;
    {
      absl::MutexLock lock(&mutex_);
      woken_ = false;
    }
    message_.Clear();
    pulled = source_(&message_, &end);
    Settle(pulled, end);
  }

  void Settle(Pulled pulled, const absl::Status& end) {
    bool again = false;
    bool last = false;
    {
      absl::MutexLock lock(&mutex_);
      if (finished_) {
        pulling_ = false;
        last = done_;
      } else if (pulled == Pulled::kMessage) {
        pulling_ = false;
        writing_ = true;
        write_began_ = absl::Now();
        this->StartWrite(&message_);
      } else if (pulled == Pulled::kEnd) {
        pulling_ = false;
        FinishOnce(ToGrpc(end));
      } else if (woken_) {
        again = true;
      } else {
        pulling_ = false;
      }
    }
    if (again) SchedulePull();
    if (last) Release();
  }

  // Called by the later one of OnDone and the last pull.
  void Release() {
    source_ = nullptr;
    if (on_done_) on_done_();
    on_done_ = nullptr;
    std::shared_ptr<PullWriter> self;  // outlives the lock
    absl::MutexLock lock(&mutex_);
    self = std::move(self_);
  }

  void FinishOnce(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    finished_ = true;
    this->Finish(status);
  }

  // Constant after construction, until Release.
  Executor executor_;
  Source source_;
  std::function<void()> on_done_;
  Response message_;  // the pull's while pulling_, gRPC's while writing_

  absl::Mutex mutex_;
  grpc::CallbackServerContext* const context_;  // gRPC's, valid until done_
  bool pulling_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time write_began_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<PullWriter> self_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace loadstar::rpc
