// The coordinator as the verbs see it: one method for each call, a deadline on every one, errors as absl::Status with
// the details of google.rpc as payloads. The only file of the client that knows gRPC is coordinator_client.cc.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "loadstar/v1/coordinator_service.pb.h"

namespace loadstar::client {

// A server's stream in the background. A thread reads ahead by a few messages and then waits, so that a slow taker
// slows the stream and not the memory. Used by one thread; the destructor cancels the call.
template <typename Message>
class MessageStream {
 public:
  virtual ~MessageStream() = default;
  // Readable while there is a message to take or the end to see.
  virtual int fd() const = 0;
  // The next message; nullopt when none is waiting.
  virtual std::optional<Message> Next() = 0;
  // How the stream ended, once it has and every message was taken.
  virtual std::optional<absl::Status> End() = 0;
};
using MetricsStream = MessageStream<v1::StreamMetricsResponse>;
using ExportStream = MessageStream<v1::ExportRunResponse>;

// A call in the background. The destructor cancels it.
template <typename Response>
class PendingCall {
 public:
  virtual ~PendingCall() = default;
  // The answer or how it failed, once it has ended.
  virtual std::optional<absl::StatusOr<Response>> End() = 0;
};
using PendingStart = PendingCall<v1::StartTestResponse>;
using PendingStop = PendingCall<v1::StopTestResponse>;

class CoordinatorClient {
 public:
  // Refuses an address that may not be used; never waits, so a coordinator that is down shows in the first call, whose
  // error says which address was tried and how to start one.
  static absl::StatusOr<std::unique_ptr<CoordinatorClient>> Create(const std::string& address, bool insecure);
  virtual ~CoordinatorClient() = default;

  virtual absl::StatusOr<v1::ListAgentsResponse> ListAgents(const v1::ListAgentsRequest& request) = 0;
  virtual absl::StatusOr<v1::ListDeploymentsResponse> ListDeployments(const v1::ListDeploymentsRequest& request) = 0;
  virtual absl::StatusOr<v1::UpdateLoadResponse> UpdateLoad(const v1::UpdateLoadRequest& request) = 0;
  virtual absl::StatusOr<v1::StopTestResponse> StopTest(const v1::StopTestRequest& request) = 0;
  virtual absl::StatusOr<v1::GetRunResponse> GetRun(const v1::GetRunRequest& request) = 0;
  virtual absl::StatusOr<v1::ListRunsResponse> ListRuns(const v1::ListRunsRequest& request) = 0;

  // `take` is given each message in order.
  virtual absl::Status Deploy(const v1::DeployRequest& request,
                              const std::function<void(const v1::DeployResponse&)>& take) = 0;
  virtual absl::Status Teardown(const v1::TeardownRequest& request,
                                const std::function<void(const v1::TeardownResponse&)>& take) = 0;
  virtual absl::Status Tune(const v1::TuneRequest& request,
                            const std::function<void(const v1::TuneResponse&)>& take) = 0;

  virtual std::unique_ptr<MetricsStream> StreamMetrics(const v1::StreamMetricsRequest& request) = 0;
  virtual std::unique_ptr<ExportStream> ExportRun(const v1::ExportRunRequest& request) = 0;
  // Both call `done` from another thread when they have ended.
  virtual std::unique_ptr<PendingStart> StartTestAsync(const v1::StartTestRequest& request,
                                                       std::function<void()> done) = 0;
  virtual std::unique_ptr<PendingStop> StopTestAsync(const v1::StopTestRequest& request,
                                                     std::function<void()> done) = 0;
};

}  // namespace loadstar::client
