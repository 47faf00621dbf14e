#pragma once

#include <string>

#include "loadstar/v1/coordinator_service.grpc.pb.h"
#include "server/engine/engine.h"
#include "server/service/switchboard.h"
#include "server/service/work_pool.h"
#include "server/store/reader.h"

namespace loadstar::server {

// What the handlers hand over to. Outlives every service and stream.
struct Backend {
  Engine* engine;
  Switchboard* switchboard;
  Readers* readers;
  WorkPool* read_pool;     // as many threads as there are readers
  WorkPool* prepare_pool;  // documents and the resolver
  std::string version;
};

// CoordinatorService over the engine and the store. Made anew for every grpc::Server. Handlers run on gRPC's threads
// and never block: what may block goes to a pool.
class CoordinatorServiceImpl final : public v1::CoordinatorService::CallbackService {
 public:
  explicit CoordinatorServiceImpl(const Backend& backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* ListAgents(grpc::CallbackServerContext* context, const v1::ListAgentsRequest* request,
                                       v1::ListAgentsResponse* response) override;
  grpc::ServerUnaryReactor* Validate(grpc::CallbackServerContext* context, const v1::ValidateRequest* request,
                                     v1::ValidateResponse* response) override;
  grpc::ServerWriteReactor<v1::DeployResponse>* Deploy(grpc::CallbackServerContext* context,
                                                       const v1::DeployRequest* request) override;
  grpc::ServerWriteReactor<v1::TeardownResponse>* Teardown(grpc::CallbackServerContext* context,
                                                           const v1::TeardownRequest* request) override;
  grpc::ServerUnaryReactor* ListDeployments(grpc::CallbackServerContext* context,
                                            const v1::ListDeploymentsRequest* request,
                                            v1::ListDeploymentsResponse* response) override;
  grpc::ServerWriteReactor<v1::TuneResponse>* Tune(grpc::CallbackServerContext* context,
                                                   const v1::TuneRequest* request) override;
  grpc::ServerUnaryReactor* StartTest(grpc::CallbackServerContext* context, const v1::StartTestRequest* request,
                                      v1::StartTestResponse* response) override;
  grpc::ServerUnaryReactor* UpdateLoad(grpc::CallbackServerContext* context, const v1::UpdateLoadRequest* request,
                                       v1::UpdateLoadResponse* response) override;
  grpc::ServerUnaryReactor* StopTest(grpc::CallbackServerContext* context, const v1::StopTestRequest* request,
                                     v1::StopTestResponse* response) override;
  grpc::ServerWriteReactor<v1::StreamMetricsResponse>* StreamMetrics(grpc::CallbackServerContext* context,
                                                                     const v1::StreamMetricsRequest* request) override;
  grpc::ServerUnaryReactor* GetRun(grpc::CallbackServerContext* context, const v1::GetRunRequest* request,
                                   v1::GetRunResponse* response) override;
  grpc::ServerUnaryReactor* ListRuns(grpc::CallbackServerContext* context, const v1::ListRunsRequest* request,
                                     v1::ListRunsResponse* response) override;
  grpc::ServerWriteReactor<v1::ExportRunResponse>* ExportRun(grpc::CallbackServerContext* context,
                                                             const v1::ExportRunRequest* request) override;

 private:
  const Backend backend_;
};

}  // namespace loadstar::server
