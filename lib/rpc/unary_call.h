#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "lib/rpc/rpc.h"

namespace loadstar::rpc {

// A unary call that is answered later and from another thread. Start() is called in the service's method and reactor()
// returned to gRPC; the object keeps itself alive until gRPC is done with it. The first answer counts. A call that the
// client has given up is finished at once (else Server::Shutdown hangs) and its answer, when it comes, is dropped.
template <class Response>
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  // `response` is gRPC's, and only touched while the call stands.
  static std::shared_ptr<UnaryCall> Start(Response* response) {
    auto call = std::shared_ptr<UnaryCall>(new UnaryCall(response));
    absl::MutexLock lock(&call->mutex_);
    call->self_ = call;
    return call;
  }
  grpc::ServerUnaryReactor* reactor() { return this; }

  void Answer(Response response) {
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    *response_ = std::move(response);
    FinishOnce(grpc::Status::OK);
  }
  void Fail(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (!finished_) FinishOnce(ToGrpc(status));
  }
  bool finished() {
    absl::MutexLock lock(&mutex_);
    return finished_;
  }

  void OnCancel() override {
    absl::MutexLock lock(&mutex_);
    if (!finished_) FinishOnce(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    std::shared_ptr<UnaryCall> self;  // outlives the lock
    absl::MutexLock lock(&mutex_);
    self = std::move(self_);
  }

 private:
  explicit UnaryCall(Response* response) : response_(response) {}

  void FinishOnce(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    finished_ = true;
    Finish(status);
  }

  absl::Mutex mutex_;
  Response* const response_ ABSL_PT_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<UnaryCall> self_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace loadstar::rpc
