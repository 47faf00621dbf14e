#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/worker/protocols/mcp.h"
#include "agent/worker/protocols/protocol.h"
#include "lib/http/response_reader.h"

namespace loadstar::worker {

// MCP over HTTP/1.1 ("Streamable HTTP") with answers as JSON: POST of initialize, whose answer names the session; POST
// of notifications/initialized; then ping or tools/call, one POST each. Each connection has its own session. A status
// outside 200 to 299 and an error in JSON-RPC fail their request; an answer that cannot be read, or that is another
// request's, breaks the connection, and so does one that comes as an event stream, which is not supported yet.
class McpHttp final : public Protocol {
 public:
  static constexpr size_t kMaxSessionId = 1024;

  static absl::StatusOr<std::unique_ptr<Protocol>> Create(const v1::WorkerPlan& plan, uint32_t connections);

  bool ordered() const override { return true; }
  bool Begin(uint32_t connection, uint32_t endpoint, std::string* out) override;
  std::span<const std::byte> Request(uint32_t connection, uint64_t id) override;
  std::span<const std::byte> Heartbeat(uint32_t connection, uint64_t id) override;
  void OnReceived(uint32_t connection, std::span<const std::byte> bytes, ProtocolEvents* events) override;
  void OnPeerClosed(uint32_t connection, ProtocolEvents* events) override;
  void End(uint32_t connection) override;
  void Prefetch(uint32_t connection) const override { __builtin_prefetch(&states_[connection], 1); }

 private:
  // What the next answer is the answer to.
  enum class Phase : uint8_t { kInitialize, kInitialized, kRequests };
  struct State {
    http::ResponseReader reader;
    std::unique_ptr<std::string> session;
    std::unique_ptr<std::string> body;  // of an answer that comes in pieces
    uint32_t endpoint = 0;
    Phase phase = Phase::kInitialize;
  };

  McpHttp(const v1::WorkerPlan& plan, McpRequest request, uint32_t connections);

  // These are false when the connection has ended.
  bool OnHeader(State* state, const http::Piece& piece, ProtocolEvents* events) const;
  bool OnEnd(State* state, std::string_view body, ProtocolEvents* events);
  bool OnInitializeAnswer(State* state, std::string_view body, ProtocolEvents* events);
  bool OnRequestAnswer(const State& state, std::string_view body, ProtocolEvents* events) const;
  std::span<const std::byte> Post(uint32_t connection, const McpRequest& request, uint64_t id);
  // The head of a POST in the session, up to the length of its body.
  void AppendHead(const State& state, size_t body_bytes, std::string* out) const;

  const std::vector<std::string> heads_;  // by endpoint
  const McpRequest request_;
  const McpRequest ping_ = McpRequest::Ping();
  const bool close_;  // the test asks for "Connection: close"
  std::string text_;  // of the last request
  std::vector<State> states_;
};

}  // namespace loadstar::worker
