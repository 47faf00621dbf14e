#pragma once

#include "loadstar/v1/agent_service.grpc.pb.h"
#include "server/engine/engine.h"
#include "server/service/switchboard.h"

namespace loadstar::server {

// AgentService over the engine. Made anew for every grpc::Server; what it refers to outlives that server.
class AgentServiceImpl final : public v1::AgentService::CallbackService {
 public:
  AgentServiceImpl(Engine* engine, Switchboard* switchboard) : engine_(engine), switchboard_(switchboard) {}

  grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>* Session(
      grpc::CallbackServerContext* context) override;

 private:
  Engine* const engine_;
  Switchboard* const switchboard_;
};

}  // namespace loadstar::server
