#include "agent/worker/protocols/mcp_tcp.h"

#include <algorithm>
#include <utility>

namespace loadstar::worker {

absl::StatusOr<std::unique_ptr<Protocol>> McpTcp::Create(const v1::McpOptions& options, uint32_t connections) {
  absl::StatusOr<McpRequest> request = McpRequest::Create(options);
  if (!request.ok()) return request.status();
  return std::make_unique<McpTcp>(*std::move(request), connections);
}

McpTcp::McpTcp(McpRequest request, uint32_t connections)
    : request_(std::move(request)), ready_(connections), partial_(connections) {}

bool McpTcp::Begin(uint32_t connection, uint32_t /*endpoint*/, std::string* out) {
  End(connection);
  out->append(kMcpInitialize).append("\n");
  return false;
}

std::span<const std::byte> McpTcp::Request(uint32_t /*connection*/, uint64_t id) { return Line(request_, id); }

std::span<const std::byte> McpTcp::Heartbeat(uint32_t /*connection*/, uint64_t id) { return Line(ping_, id); }

std::span<const std::byte> McpTcp::Line(const McpRequest& request, uint64_t id) {
  text_.clear();
  request.AppendTo(id, &text_);
  text_.push_back('\n');
  return AsBytes(text_);
}

void McpTcp::OnReceived(uint32_t connection, std::span<const std::byte> bytes, ProtocolEvents* events) {
  std::string_view text = AsText(bytes);
  if (partial_[connection] != nullptr) {
    const size_t newline = text.find('\n');
    std::string& partial = *partial_[connection];
    if (partial.size() + std::min(newline, text.size()) > kMaxLine) return events->OnBroken("line-too-long");
    partial.append(text.substr(0, newline));
    if (newline == std::string_view::npos) return;
    text.remove_prefix(newline + 1);
    const std::unique_ptr<std::string> line = std::move(partial_[connection]);
    if (!OnLine(connection, *line, events)) return;
  }
  for (size_t newline = text.find('\n'); newline != std::string_view::npos; newline = text.find('\n')) {
    if (newline > kMaxLine) return events->OnBroken("line-too-long");
    if (!OnLine(connection, text.substr(0, newline), events)) return;
    text.remove_prefix(newline + 1);
  }
  if (text.empty()) return;
  if (text.size() > kMaxLine) return events->OnBroken("line-too-long");
  partial_[connection] = std::make_unique<std::string>(text);
}

bool McpTcp::OnLine(uint32_t connection, std::string_view line, ProtocolEvents* events) {
  if (line.empty() || line == "\r") return true;
  const McpMessage message = ReadMcpMessage(line);
  switch (message.kind) {
    case McpMessage::Kind::kBroken:
      events->OnBroken(message.broken);
      return false;
    case McpMessage::Kind::kNotOurs:
      return true;
    case McpMessage::Kind::kError:
      return ready_[connection] ? events->OnErrorAnswer(message.id, message.failure)
                                : OnInitialized(connection, message, events);
    case McpMessage::Kind::kResult:
      return ready_[connection] ? events->OnAnswer(message.id) : OnInitialized(connection, message, events);
  }
  return true;
}

bool McpTcp::OnInitialized(uint32_t connection, const McpMessage& message, ProtocolEvents* events) {
  const bool refused = message.kind == McpMessage::Kind::kError;
  if (refused || message.id != kMcpInitializeId) {
    events->OnBroken(refused ? "initialize-refused" : "answer-before-initialize");
    return false;
  }
  ready_[connection] = true;
  text_.assign(kMcpInitialized).push_back('\n');
  return events->OnSend(AsBytes(text_)) && events->OnReady();
}

void McpTcp::End(uint32_t connection) {
  ready_[connection] = false;
  partial_[connection].reset();
}

}  // namespace loadstar::worker
