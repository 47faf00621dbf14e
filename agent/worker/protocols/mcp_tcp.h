#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/worker/protocols/mcp.h"
#include "agent/worker/protocols/protocol.h"

namespace loadstar::worker {

// MCP as newline-delimited JSON-RPC 2.0: initialize, its result, notifications/initialized, then ping or tools/call.
// Answers are matched by id in any order; notifications and requests of the server are ignored. An error answer (or a
// tool result with isError) fails its request; an answer that cannot be read or told apart breaks the connection.
class McpTcp final : public Protocol {
 public:
  // Longest line that is accepted. Only the part of a line that has not ended yet is kept.
  static constexpr size_t kMaxLine = kMcpMaxMessage;

  static absl::StatusOr<std::unique_ptr<Protocol>> Create(const v1::McpOptions& options, uint32_t connections);

  McpTcp(McpRequest request, uint32_t connections);

  bool ordered() const override { return false; }
  bool Begin(uint32_t connection, uint32_t endpoint, std::string* out) override;
  std::span<const std::byte> Request(uint32_t connection, uint64_t id) override;
  std::span<const std::byte> Heartbeat(uint32_t connection, uint64_t id) override;
  void OnReceived(uint32_t connection, std::span<const std::byte> bytes, ProtocolEvents* events) override;
  void End(uint32_t connection) override;

 private:
  // False when the connection has ended.
  bool OnLine(uint32_t connection, std::string_view line, ProtocolEvents* events);
  bool OnInitialized(uint32_t connection, const McpMessage& message, ProtocolEvents* events);

  std::span<const std::byte> Line(const McpRequest& request, uint64_t id);

  const McpRequest request_;
  const McpRequest ping_ = McpRequest::Ping();
  std::string text_;  // of the last request
  std::vector<bool> ready_;
  std::vector<std::unique_ptr<std::string>> partial_;  // null but for connections in the middle of a line
};

}  // namespace loadstar::worker
