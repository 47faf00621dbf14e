#pragma once

#include <simdjson.h>

#include <optional>
#include <string>
#include <string_view>

#include "target/faults.h"
#include "target/shared_state.h"

namespace loadstar::target {

// What became of one JSON-RPC message.
struct RpcOutcome {
  bool answered = false;   // an answer was appended
  bool request = false;    // it was a request other than initialize
  bool handshake = false;  // it was initialize
  bool close = false;      // an injected fault: nothing was appended, the connection is to be closed
  std::optional<ErrorKind> error = std::nullopt;
};

// Counts it among what the process has served.
void CountOutcome(const RpcOutcome& outcome, ProcessCells* cells);

// Faults that hit single requests.
struct RequestFaults {
  RatioDice error;
  RatioDice close;
  bool idle() const { return error.idle() && close.idle(); }
};

// The server's side of MCP's JSON-RPC 2.0, without any transport: a message in, an answer out. Knows initialize, ping,
// tools/list, tools/call (echo, add) and takes every notification in silence. Holds no state of a connection: a client
// may call in any order. One thread; memory is taken for the largest message once it comes and kept.
class JsonRpc {
 public:
  JsonRpc(std::string_view name, std::string_view version);

  // Appends the answer of one message (without newline) to *out, if it has one.
  RpcOutcome Answer(std::string_view message, RequestFaults* faults, std::string* out);

 private:
  // The id of a request as JSON text.
  bool ReadId(simdjson::dom::element id);
  void Fail(int code, std::string_view text, std::string* out) const;
  void Succeed(std::string_view result, std::string* out) const;
  RpcOutcome Dispatch(std::string_view method, simdjson::dom::object message, std::string* out);
  RpcOutcome Initialize(simdjson::dom::object message, std::string* out);
  RpcOutcome CallTool(simdjson::dom::object message, std::string* out);
  std::optional<std::string> Add(simdjson::dom::object arguments) const;

  simdjson::dom::parser parser_;
  std::string server_info_;  // as JSON
  std::string id_;
  std::string scratch_;
};

// Appends text as the inside of a JSON string. The text is UTF-8.
void AppendEscaped(std::string_view text, std::string* out);

}  // namespace loadstar::target
