#include "agent/worker/protocols/protocol.h"

#include "absl/strings/str_cat.h"
#include "agent/worker/protocols/http.h"
#include "agent/worker/protocols/mcp_http.h"
#include "agent/worker/protocols/mcp_tcp.h"
#include "agent/worker/protocols/tcp_echo.h"

namespace loadstar::worker {

void Protocol::OnPeerClosed(uint32_t /*connection*/, ProtocolEvents* /*events*/) {}

absl::StatusOr<std::unique_ptr<Protocol>> MakeProtocol(const v1::WorkerPlan& plan, uint32_t connections) {
  switch (plan.protocol()) {
    case v1::PROTOCOL_TCP:
      return TcpEcho::Create(plan.tcp(), connections);
    case v1::PROTOCOL_MCP_TCP:
      return McpTcp::Create(plan.mcp(), connections);
    case v1::PROTOCOL_HTTP:
      return Http::Create(plan, connections);
    case v1::PROTOCOL_MCP_HTTP:
      return McpHttp::Create(plan, connections);
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("protocol ", static_cast<int>(plan.protocol()),
                       " is not one this worker speaks (tcp, mcp-tcp, http, mcp-http): is it older than its agent?"));
  }
}

}  // namespace loadstar::worker
