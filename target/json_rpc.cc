#include "target/json_rpc.h"

#include <charconv>
#include <cmath>

namespace loadstar::target {
namespace {

using simdjson::dom::element;
using simdjson::dom::element_type;
using simdjson::dom::object;

constexpr int kParseError = -32700;
constexpr int kInvalidRequest = -32600;
constexpr int kMethodNotFound = -32601;
constexpr int kInvalidParams = -32602;
constexpr int kInjectedFault = -32000;  // the first of the codes that JSON-RPC leaves to servers

constexpr std::string_view kTools =
    R"({"tools":[{"name":"echo","description":"Returns its arguments as text.","inputSchema":{"type":"object"}},)"
    R"({"name":"add","description":"Returns the sum of a and b.","inputSchema":{"type":"object",)"
    R"("properties":{"a":{"type":"number"},"b":{"type":"number"}},"required":["a","b"]}}]})";

template <typename Number>
void AppendNumber(Number number, std::string* out) {
  char text[40];
  const std::to_chars_result result = std::to_chars(text, text + sizeof(text), number);
  out->append(text, result.ptr);
}

bool IsNumber(element value) {
  const element_type type = value.type();
  return type == element_type::INT64 || type == element_type::UINT64 || type == element_type::DOUBLE;
}

}  // namespace

void AppendEscaped(std::string_view text, std::string* out) {
  constexpr std::string_view kHex = "0123456789abcdef";
  size_t plain = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') {
      continue;
    }
    out->append(text.substr(plain, i - plain));
    plain = i + 1;
    if (c >= 0x20) {
      out->push_back('\\');
      out->push_back(static_cast<char>(c));
    } else {
      out->append("\\u00");
      out->push_back(kHex[c >> 4]);
      out->push_back(kHex[c & 15]);
    }
  }
  out->append(text.substr(plain));
}

void CountOutcome(const RpcOutcome& outcome, ProcessCells* cells) {
  if (outcome.request) {
    cells->requests.Add(1);
  }
  if (outcome.handshake) {
    cells->handshakes.Add(1);
  }
  if (outcome.error) {
    cells->CountError(*outcome.error);
  }
}

JsonRpc::JsonRpc(std::string_view name, std::string_view version) {
  server_info_ = R"({"name":")";
  AppendEscaped(name, &server_info_);
  server_info_ += R"(","version":")";
  AppendEscaped(version, &server_info_);
  server_info_ += R"("})";
}

RpcOutcome JsonRpc::Answer(std::string_view message, RequestFaults* faults, std::string* out) {
  id_ = "null";
  element document;
  if (parser_.parse(message.data(), message.size()).get(document) != simdjson::SUCCESS) {
    Fail(kParseError, "the message is not JSON", out);
    return {.answered = true, .error = ErrorKind::kParse};
  }
  object fields;
  if (document.get(fields) != simdjson::SUCCESS) {
    Fail(kInvalidRequest, "a message is one JSON object", out);
    return {.answered = true, .error = ErrorKind::kInvalidRequest};
  }
  element id;
  const bool has_id = fields["id"].get(id) == simdjson::SUCCESS;
  if (has_id && !ReadId(id)) {
    Fail(kInvalidRequest, "id must be a string or a number", out);
    return {.answered = true, .error = ErrorKind::kInvalidRequest};
  }
  std::string_view version;
  std::string_view method;
  if (fields["jsonrpc"].get(version) != simdjson::SUCCESS || version != "2.0" ||
      fields["method"].get(method) != simdjson::SUCCESS) {
    Fail(kInvalidRequest, R"(a request has "jsonrpc":"2.0" and a method)", out);
    return {.answered = true, .error = ErrorKind::kInvalidRequest};
  }
  if (!has_id) {
    return {};  // a notification: JSON-RPC forbids an answer, even to an unknown one
  }
  if (faults != nullptr && method != "initialize") {
    if (faults->close.Hits()) {
      return {.request = true, .close = true, .error = ErrorKind::kInjectedClose};
    }
    if (faults->error.Hits()) {
      Fail(kInjectedFault, "injected fault", out);
      return {.answered = true, .request = true, .error = ErrorKind::kInjectedError};
    }
  }
  return Dispatch(method, fields, out);
}

RpcOutcome JsonRpc::Dispatch(std::string_view method, object message, std::string* out) {
  if (method == "ping") {
    Succeed("{}", out);
    return {.answered = true, .request = true};
  }
  if (method == "tools/call") {
    return CallTool(message, out);
  }
  if (method == "initialize") {
    return Initialize(message, out);
  }
  if (method == "tools/list") {
    Succeed(kTools, out);
    return {.answered = true, .request = true};
  }
  Fail(kMethodNotFound, "unknown method; there are initialize, ping, tools/list, tools/call", out);
  return {.answered = true, .request = true, .error = ErrorKind::kUnknownMethod};
}

RpcOutcome JsonRpc::Initialize(object message, std::string* out) {
  std::string_view version;
  if (message["params"]["protocolVersion"].get(version) != simdjson::SUCCESS) {
    Fail(kInvalidParams, "initialize needs params.protocolVersion, a string", out);
    return {.answered = true, .handshake = true, .error = ErrorKind::kInvalidParams};
  }
  scratch_ = R"({"protocolVersion":")";
  AppendEscaped(version, &scratch_);
  scratch_ += R"(","capabilities":{"tools":{}},"serverInfo":)";
  scratch_ += server_info_;
  scratch_ += '}';
  Succeed(scratch_, out);
  return {.answered = true, .handshake = true};
}

RpcOutcome JsonRpc::CallTool(object message, std::string* out) {
  const auto refuse = [&](std::string_view why) {
    Fail(kInvalidParams, why, out);
    return RpcOutcome{.answered = true, .request = true, .error = ErrorKind::kInvalidParams};
  };
  std::string_view tool;
  if (message["params"]["name"].get(tool) != simdjson::SUCCESS) {
    return refuse("tools/call needs params.name, a string");
  }
  object arguments;
  const simdjson::error_code found = message["params"]["arguments"].get(arguments);
  if (found != simdjson::SUCCESS && found != simdjson::NO_SUCH_FIELD) {
    return refuse("params.arguments must be an object");
  }
  scratch_ = R"({"content":[{"type":"text","text":")";
  if (tool == "echo") {
    AppendEscaped(found == simdjson::SUCCESS ? simdjson::minify(arguments) : "{}", &scratch_);
  } else if (tool == "add") {
    const std::optional<std::string> sum = found == simdjson::SUCCESS ? Add(arguments) : std::optional<std::string>();
    if (!sum) {
      return refuse("add needs the arguments a and b, numbers whose sum is one");
    }
    scratch_ += *sum;
  } else {
    return refuse("unknown tool; there are echo and add");
  }
  scratch_ += R"("}],"isError":false})";
  Succeed(scratch_, out);
  return {.answered = true, .request = true};
}

std::optional<std::string> JsonRpc::Add(object arguments) const {
  element a;
  element b;
  if (arguments["a"].get(a) != simdjson::SUCCESS || arguments["b"].get(b) != simdjson::SUCCESS || !IsNumber(a) ||
      !IsNumber(b)) {
    return std::nullopt;
  }
  std::string text;
  int64_t left = 0;
  int64_t right = 0;
  int64_t exact = 0;
  if (a.get(left) == simdjson::SUCCESS && b.get(right) == simdjson::SUCCESS &&
      !__builtin_add_overflow(left, right, &exact)) {
    AppendNumber(exact, &text);
    return text;
  }
  const double sum = double(a) + double(b);
  if (!std::isfinite(sum)) {
    return std::nullopt;  // JSON has no infinity
  }
  AppendNumber(sum, &text);
  return text;
}

bool JsonRpc::ReadId(element id) {
  id_.clear();
  switch (id.type()) {
    case element_type::INT64:
      AppendNumber(int64_t(id), &id_);
      return true;
    case element_type::UINT64:
      AppendNumber(uint64_t(id), &id_);
      return true;
    case element_type::DOUBLE:
      AppendNumber(double(id), &id_);
      return true;
    case element_type::STRING:
      id_ = '"';
      AppendEscaped(std::string_view(id), &id_);
      id_ += '"';
      return true;
    default:
      id_ = "null";
      return id.is_null();
  }
}

void JsonRpc::Succeed(std::string_view result, std::string* out) const {
  out->append(R"({"jsonrpc":"2.0","id":)").append(id_).append(R"(,"result":)").append(result).push_back('}');
}

void JsonRpc::Fail(int code, std::string_view text, std::string* out) const {
  out->append(R"({"jsonrpc":"2.0","id":)").append(id_).append(R"(,"error":{"code":)");
  AppendNumber(code, out);
  out->append(R"(,"message":")");
  AppendEscaped(text, out);
  out->append("\"}}");
}

}  // namespace loadstar::target
