#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace loadstar::worker {

// What a client needs to know of one JSON-RPC 2.0 message.
struct JsonRpcMessage {
  bool has_method = false;  // a request or notification of the server
  bool has_id = false;      // an id that is an unsigned integer, as all of ours are
  bool has_result = false;
  bool has_error = false;
  uint64_t id = 0;
  std::string_view error_code;  // error.code as written (an integer); empty when there is none; points into the text
  bool tool_error = false;      // result.isError is true
};

// Reads one message without building a tree: every byte is looked at once and nothing is allocated. The text must be
// exactly one JSON object (whitespace around it is allowed); nullopt otherwise. Strings are checked for control bytes
// and escapes, not for UTF-8. At most kMaxJsonDepth levels. A key that is repeated counts as its last value does; keys
// that are spelt with escapes are not recognised.
inline constexpr int kMaxJsonDepth = 64;
std::optional<JsonRpcMessage> ParseJsonRpc(std::string_view text);

// True when the text is one JSON object.
bool IsJsonObject(std::string_view text);

// The text as the inside of a JSON string.
std::string JsonEscape(std::string_view text);

}  // namespace loadstar::worker
