#include "agent/worker/protocols/mcp_http.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/worker/protocols/http_head.h"
#include "lib/http/text.h"

namespace loadstar::worker {
namespace {

constexpr const char* kEventStream = "event-stream-is-not-supported-yet";

bool IsGood(uint16_t status) { return status >= 200 && status < 300; }

// Whether a Content-Type is that type, with or without parameters.
bool IsType(std::string_view value, std::string_view type) {
  return http::EqualsIgnoringCase(http::Trim(value.substr(0, value.find(';'))), type);
}

void AppendLength(size_t body_bytes, std::string* out) {
  absl::StrAppend(out, "Content-Length: ", body_bytes, "\r\n\r\n");
}

bool Break(const char* detail, ProtocolEvents* events) {
  events->OnBroken(detail);
  return false;
}

bool BreakHandshake(const char* message, uint16_t status, ProtocolEvents* events) {
  return Break(absl::StrCat(message, "-http-", status).c_str(), events);
}

std::vector<std::string> RenderHeads(const v1::WorkerPlan& plan) {
  std::vector<std::string> heads = RenderHttpHeads(plan, "POST");
  for (std::string& head : heads) {
    head += "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n";
  }
  return heads;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Protocol>> McpHttp::Create(const v1::WorkerPlan& plan, uint32_t connections) {
  if (plan.http().path().empty()) {
    return absl::InvalidArgumentError("http.path is missing: the agent sends plans with it");
  }
  absl::StatusOr<McpRequest> request = McpRequest::Create(plan.mcp());
  if (!request.ok()) return request.status();
  return std::unique_ptr<Protocol>(new McpHttp(plan, *std::move(request), connections));
}

McpHttp::McpHttp(const v1::WorkerPlan& plan, McpRequest request, uint32_t connections)
    : heads_(RenderHeads(plan)),
      request_(std::move(request)),
      close_(AsksForClose(plan.http())),
      states_(connections) {}

bool McpHttp::Begin(uint32_t connection, uint32_t endpoint, std::string* out) {
  states_[connection] = State();
  states_[connection].endpoint = endpoint;
  out->append(heads_[endpoint]);
  AppendLength(kMcpInitialize.size(), out);
  out->append(kMcpInitialize);
  return false;
}

void McpHttp::AppendHead(const State& state, size_t body_bytes, std::string* out) const {
  out->append(heads_[state.endpoint]).append("MCP-Protocol-Version: ").append(kMcpRevision).append("\r\n");
  if (state.session != nullptr) absl::StrAppend(out, "Mcp-Session-Id: ", *state.session, "\r\n");
  AppendLength(body_bytes, out);
}

std::span<const std::byte> McpHttp::Request(uint32_t connection, uint64_t id) { return Post(connection, request_, id); }

std::span<const std::byte> McpHttp::Heartbeat(uint32_t connection, uint64_t id) { return Post(connection, ping_, id); }

std::span<const std::byte> McpHttp::Post(uint32_t connection, const McpRequest& request, uint64_t id) {
  text_.clear();
  AppendHead(states_[connection], request.SizeOf(id), &text_);
  request.AppendTo(id, &text_);
  return AsBytes(text_);
}

void McpHttp::OnReceived(uint32_t connection, std::span<const std::byte> bytes, ProtocolEvents* events) {
  State& state = states_[connection];
  std::string_view text = AsText(bytes);
  std::string_view whole;  // a body that came in one piece so far: nothing of it is copied
  http::Piece piece;
  while (true) {
    switch (state.reader.Next(&text, /*head_request=*/false, &piece)) {
      case http::Event::kMore:
        if (!whole.empty()) state.body = std::make_unique<std::string>(whole);
        return;
      case http::Event::kStart:
        if (state.phase == Phase::kRequests && events->OldestInFlight() == 0) return events->OnBroken("unasked-answer");
        break;
      case http::Event::kHeader:
        if (!OnHeader(&state, piece, events)) return;
        break;
      case http::Event::kBody: {
        const size_t before = state.body != nullptr ? state.body->size() : whole.size();
        if (before + piece.body.size() > kMcpMaxMessage) return events->OnBroken("body-too-long");
        if (before == 0) {
          whole = piece.body;
          break;
        }
        if (state.body == nullptr) state.body = std::make_unique<std::string>(std::exchange(whole, {}));
        state.body->append(piece.body);
        break;
      }
      case http::Event::kEnd: {
        const std::unique_ptr<std::string> gathered = std::move(state.body);
        const std::string_view body = gathered != nullptr ? *gathered : std::exchange(whole, {});
        if (!OnEnd(&state, body, events)) return;
        break;
      }
      case http::Event::kBroken:
        return events->OnBroken(http::NameOf(piece.flaw));
    }
  }
}

void McpHttp::OnPeerClosed(uint32_t connection, ProtocolEvents* events) {
  State& state = states_[connection];
  if (!state.reader.EndOfConnection()) return;
  const std::unique_ptr<std::string> gathered = std::move(state.body);
  (void)OnEnd(&state, gathered != nullptr ? std::string_view(*gathered) : std::string_view(), events);
}

bool McpHttp::OnHeader(State* state, const http::Piece& piece, ProtocolEvents* events) const {
  if (!IsGood(state->reader.status())) return true;
  if (state->phase != Phase::kInitialized && http::EqualsIgnoringCase(piece.name, "Content-Type") &&
      IsType(piece.value, "text/event-stream")) {
    return Break(kEventStream, events);  // at once: such an answer need not end
  }
  if (state->phase == Phase::kInitialize && http::EqualsIgnoringCase(piece.name, "Mcp-Session-Id")) {
    // Visible ASCII, as the specification demands: it goes into the header of every request.
    if (!http::IsTarget(piece.value) || piece.value.size() > kMaxSessionId) return Break("session-id", events);
    state->session = std::make_unique<std::string>(piece.value);
  }
  return true;
}

bool McpHttp::OnEnd(State* state, std::string_view body, ProtocolEvents* events) {
  const bool last = state->reader.last() || close_;
  const uint16_t status = state->reader.status();
  if (state->phase == Phase::kRequests) {
    if (!OnRequestAnswer(*state, body, events)) return false;
    if (last) events->OnLast();
    return !last;
  }
  if (!IsGood(status)) {
    return BreakHandshake(state->phase == Phase::kInitialize ? "initialize" : "initialized", status, events);
  }
  // A session outlives its connection, but a load test holds connections: one that ends in the handshake is none.
  if (last) return Break("closed-in-handshake", events);
  if (state->phase == Phase::kInitialize) return OnInitializeAnswer(state, body, events);
  state->phase = Phase::kRequests;
  return events->OnReady();
}

bool McpHttp::OnInitializeAnswer(State* state, std::string_view body, ProtocolEvents* events) {
  const McpMessage message = ReadMcpMessage(body);
  switch (message.kind) {
    case McpMessage::Kind::kBroken:
      return Break(message.broken, events);
    case McpMessage::Kind::kError:
      return Break("initialize-refused", events);
    case McpMessage::Kind::kNotOurs:
      return Break("answer-before-initialize", events);
    case McpMessage::Kind::kResult:
      if (message.id != kMcpInitializeId) return Break("answer-before-initialize", events);
      break;
  }
  state->phase = Phase::kInitialized;
  text_.clear();
  AppendHead(*state, kMcpInitialized.size(), &text_);
  text_.append(kMcpInitialized);
  return events->OnSend(AsBytes(text_));
}

bool McpHttp::OnRequestAnswer(const State& state, std::string_view body, ProtocolEvents* events) const {
  const uint16_t status = state.reader.status();
  if (!IsGood(status)) {
    return events->OnErrorAnswer(events->OldestInFlight(), {v1::ERROR_KIND_HTTP_STATUS, std::to_string(status)});
  }
  const McpMessage message = ReadMcpMessage(body);
  switch (message.kind) {
    case McpMessage::Kind::kBroken:
      return Break(message.broken, events);
    case McpMessage::Kind::kNotOurs:
      return Break("not-an-answer", events);
    case McpMessage::Kind::kError:
      return events->OnErrorAnswer(message.id, message.failure);
    case McpMessage::Kind::kResult:
      return events->OnAnswer(message.id);
  }
  return true;
}

void McpHttp::End(uint32_t connection) { states_[connection] = State(); }

}  // namespace loadstar::worker
