#include "agent/worker/protocols/mcp_tcp.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/worker/protocols/json_rpc.h"

namespace loadstar::worker {
namespace {

// Requests carry ids from 1,024 on (see in_flight.h), so 0 is the handshake's.
constexpr uint64_t kInitializeId = 0;
constexpr std::string_view kInitialize =
    R"({"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},)"
    R"("clientInfo":{"name":"loadstar","version":"0.1.0"}}})"
    "\n";
constexpr std::string_view kInitialized = R"({"jsonrpc":"2.0","method":"notifications/initialized"})"
                                          "\n";
constexpr std::string_view kRequestHead = R"({"jsonrpc":"2.0","id":)";
constexpr size_t kMaxArguments = size_t{256} * 1024;

std::span<const std::byte> AsBytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Protocol>> McpTcp::Create(const v1::McpOptions& options, uint32_t connections) {
  if (options.method().empty() || options.method() == "ping") {
    return std::make_unique<McpTcp>(",\"method\":\"ping\"}\n", connections);
  }
  if (options.method() != "tools/call") {
    return absl::InvalidArgumentError(
        absl::StrCat("mcp.method is \"", options.method(), "\": choose ping or tools/call"));
  }
  if (options.tool().empty()) return absl::InvalidArgumentError("mcp.method tools/call needs mcp.tool, a tool's name");
  std::string arguments = options.arguments_json().empty() ? "{}" : options.arguments_json();
  if (arguments.size() > kMaxArguments) {
    return absl::InvalidArgumentError(
        absl::StrCat("mcp.arguments_json has ", arguments.size(), " bytes; at most ", kMaxArguments, " are allowed"));
  }
  if (!IsJsonObject(arguments)) return absl::InvalidArgumentError("mcp.arguments_json is not one JSON object");
  // A raw newline can only stand between tokens (inside a string it would not be JSON), and would end the line here.
  std::replace_if(
      arguments.begin(), arguments.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return std::make_unique<McpTcp>(absl::StrCat(",\"method\":\"tools/call\",\"params\":{\"name\":\"",
                                               JsonEscape(options.tool()), "\",\"arguments\":", arguments, "}}\n"),
                                  connections);
}

McpTcp::McpTcp(std::string request_tail, uint32_t connections)
    : tail_(std::move(request_tail)), ready_(connections), partial_(connections) {}

bool McpTcp::Begin(uint32_t connection, std::string* out) {
  End(connection);
  out->append(kInitialize);
  return false;
}

std::span<const std::byte> McpTcp::Request(uint32_t /*connection*/, uint64_t id) {
  char digits[20];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), id);
  request_.assign(kRequestHead);
  request_.append(digits, end);
  request_.append(tail_);
  return AsBytes(request_);
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
  const std::optional<JsonRpcMessage> message = ParseJsonRpc(line);
  if (!message.has_value()) {
    events->OnBroken("not-json-rpc");
    return false;
  }
  if (message->has_method) return true;
  if (message->has_result == message->has_error) {
    events->OnBroken("neither-result-nor-error");
    return false;
  }
  if (!message->has_id) {
    events->OnBroken("answer-without-id");
    return false;
  }
  if (!ready_[connection]) return OnInitialized(connection, *message, events);
  if (message->has_error) {
    return events->OnErrorAnswer(message->id, {v1::ERROR_KIND_RPC_ERROR, std::string(message->error_code)});
  }
  if (message->tool_error) return events->OnErrorAnswer(message->id, {v1::ERROR_KIND_RPC_ERROR, "isError"});
  return events->OnAnswer(message->id);
}

bool McpTcp::OnInitialized(uint32_t connection, const JsonRpcMessage& message, ProtocolEvents* events) {
  if (message.has_error || message.id != kInitializeId) {
    events->OnBroken(message.has_error ? "initialize-refused" : "answer-before-initialize");
    return false;
  }
  ready_[connection] = true;
  return events->OnSend(AsBytes(kInitialized)) && events->OnReady();
}

void McpTcp::End(uint32_t connection) {
  ready_[connection] = false;
  partial_[connection].reset();
}

}  // namespace loadstar::worker
