#include "agent/worker/protocols/mcp.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/worker/protocols/json_rpc.h"

namespace loadstar::worker {
namespace {

constexpr std::string_view kRequestHead = R"({"jsonrpc":"2.0","id":)";
constexpr size_t kMaxArguments = size_t{256} * 1024;
constexpr size_t kMaxDigits = 20;

}  // namespace

absl::StatusOr<McpRequest> McpRequest::Create(const v1::McpOptions& options) {
  if (options.method().empty() || options.method() == "ping") return Ping();
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
  // A raw newline can only stand between tokens (inside a string it would not be JSON), and would end a line.
  std::replace_if(
      arguments.begin(), arguments.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return McpRequest(absl::StrCat(R"(,"method":"tools/call","params":{"name":")", JsonEscape(options.tool()),
                                 R"(","arguments":)", arguments, "}}"));
}

void McpRequest::AppendTo(uint64_t id, std::string* out) const {
  char digits[kMaxDigits];
  const auto [end, error] = std::to_chars(digits, digits + kMaxDigits, id);
  out->append(kRequestHead).append(digits, end).append(tail_);
}

size_t McpRequest::SizeOf(uint64_t id) const {
  char digits[kMaxDigits];
  const auto [end, error] = std::to_chars(digits, digits + kMaxDigits, id);
  return kRequestHead.size() + static_cast<size_t>(end - digits) + tail_.size();
}

McpMessage ReadMcpMessage(std::string_view text) {
  using Kind = McpMessage::Kind;
  const std::optional<JsonRpcMessage> message = ParseJsonRpc(text);
  if (!message.has_value()) return {.kind = Kind::kBroken, .broken = "not-json-rpc"};
  if (message->has_method) return {.kind = Kind::kNotOurs};
  if (message->has_result == message->has_error) return {.kind = Kind::kBroken, .broken = "neither-result-nor-error"};
  if (!message->has_id) return {.kind = Kind::kBroken, .broken = "answer-without-id"};
  if (message->has_error) {
    return {.kind = Kind::kError,
            .id = message->id,
            .failure = {v1::ERROR_KIND_RPC_ERROR, std::string(message->error_code)}};
  }
  if (message->tool_error) {
    return {.kind = Kind::kError, .id = message->id, .failure = {v1::ERROR_KIND_RPC_ERROR, "isError"}};
  }
  return {.kind = Kind::kResult, .id = message->id};
}

}  // namespace loadstar::worker
