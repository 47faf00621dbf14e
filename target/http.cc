#include "target/http.h"

#include "absl/strings/str_cat.h"
#include "lib/http/text.h"

namespace loadstar::target {
namespace {

constexpr std::string_view kText = "text/plain";
constexpr std::string_view kJson = "application/json";
constexpr std::string_view kInjected = "injected fault\n";

bool IsJson(std::string_view content_type) {
  return http::EqualsIgnoringCase(http::Trim(content_type.substr(0, content_type.find(';'))), kJson);
}

}  // namespace

Http::Http(const Options& options, JsonRpc* rpc, RequestFaults* faults, ProcessCells* cells)
    : options_(options),
      rpc_(rpc),
      faults_(faults),
      cells_(cells),
      body_(options.body_bytes, 'x'),
      next_session_(options.first_session) {
  plain_ =
      absl::StrCat("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ", body_.size(), "\r\n\r\n", body_);
}

Http::Result Http::Serve(HttpConnection* connection, std::string_view* bytes, std::string* out) {
  http::Piece piece;
  while (!connection->reader.idle() || out->size() < options_.enough_answers) {
    switch (connection->reader.Next(bytes, &piece)) {
      case http::Event::kMore:
        if (connection->expects_continue && connection->reader.awaits_body()) {
          connection->expects_continue = false;
          out->append("HTTP/1.1 100 Continue\r\n\r\n");
        }
        return Result::kMore;
      case http::Event::kStart:
        BeginRequest(connection, piece);
        break;
      case http::Event::kHeader:
        ReadHeader(connection, piece);
        break;
      case http::Event::kBody:
        connection->expects_continue = false;
        connection->body_bytes += piece.body.size();
        if (connection->body_bytes > options_.longest_body) return Refuse(connection, {413, "Content Too Large"}, out);
        if (connection->post && connection->json) connection->body.append(piece.body);
        break;
      case http::Event::kEnd:
        if (const Result result = Answer(connection, out); result != Result::kMore) return result;
        break;
      case http::Event::kBroken:
        switch (piece.flaw) {
          case http::Flaw::kHeadTooLong:
            return Refuse(connection, {431, "Request Header Fields Too Large"}, out);
          case http::Flaw::kTransferCoding:
            return Refuse(connection, {501, "Not Implemented"}, out);
          default:
            return Refuse(connection, {400, "Bad Request"}, out);
        }
    }
  }
  return Result::kMore;
}

void Http::BeginRequest(HttpConnection* connection, const http::Piece& piece) {
  connection->head = piece.method == "HEAD";
  connection->post = piece.method == "POST";
  connection->json = false;
  connection->expects_continue = false;
  connection->body_bytes = 0;
}

void Http::ReadHeader(HttpConnection* connection, const http::Piece& piece) {
  if (http::EqualsIgnoringCase(piece.name, "content-type")) {
    connection->json = IsJson(piece.value);
  } else if (http::EqualsIgnoringCase(piece.name, "expect")) {
    connection->expects_continue = http::EqualsIgnoringCase(piece.value, "100-continue");
  }
}

Http::Result Http::Answer(HttpConnection* connection, std::string* out) {
  const bool live_on =
      connection->post && connection->json ? AnswerRpc(connection, out) : AnswerPlain(*connection, out);
  if (!live_on) return Result::kClosed;
  connection->finished = connection->reader.last();
  return connection->finished ? Result::kLast : Result::kMore;
}

bool Http::AnswerPlain(const HttpConnection& connection, std::string* out) {
  cells_->requests.Add(1);
  if (faults_->close.Hits()) {
    cells_->CountError(ErrorKind::kInjectedClose);
    return false;
  }
  const bool fails = faults_->error.Hits();
  if (fails) {
    cells_->CountError(ErrorKind::kInjectedError);
  } else if (!connection.head && connection.reader.modern() && !connection.reader.last()) {
    out->append(plain_);
    return true;
  }
  const std::string_view body = fails ? kInjected : body_;
  AppendHead(connection, fails ? Status{503, "Service Unavailable"} : Status{200, "OK"}, kText, body.size(), "", out);
  if (!connection.head) out->append(body);
  return true;
}

bool Http::AnswerRpc(HttpConnection* connection, std::string* out) {
  rpc_answer_.clear();
  const RpcOutcome outcome = rpc_->Answer(connection->body, faults_, &rpc_answer_);
  std::string().swap(connection->body);  // an idle connection holds no memory for it
  CountOutcome(outcome, cells_);
  if (outcome.close) return false;
  if (!outcome.answered) {
    AppendHead(*connection, {202, "Accepted"}, "", 0, "", out);
    return true;
  }
  std::string session;
  if (outcome.handshake && !outcome.error) {
    session = absl::StrCat("Mcp-Session-Id: ", absl::Hex(next_session_++, absl::kZeroPad16), "\r\n");
  }
  const bool unreadable = outcome.error == ErrorKind::kParse || outcome.error == ErrorKind::kInvalidRequest;
  AppendHead(*connection, unreadable ? Status{400, "Bad Request"} : Status{200, "OK"}, kJson, rpc_answer_.size(),
             session, out);
  out->append(rpc_answer_);
  return true;
}

Http::Result Http::Refuse(HttpConnection* connection, Status status, std::string* out) {
  cells_->CountError(ErrorKind::kBadHttp);
  connection->finished = true;
  out->append("HTTP/1.1 ").append(std::to_string(status.code)).append(" ").append(status.reason);
  out->append("\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  return Result::kLast;
}

void Http::AppendHead(const HttpConnection& connection, Status status, std::string_view type, size_t length,
                      std::string_view more, std::string* out) const {
  out->append("HTTP/1.1 ").append(std::to_string(status.code)).append(" ").append(status.reason).append("\r\n");
  if (!type.empty()) out->append("Content-Type: ").append(type).append("\r\n");
  out->append("Content-Length: ").append(std::to_string(length)).append("\r\n").append(more);
  if (connection.reader.last()) {
    out->append("Connection: close\r\n");
  } else if (!connection.reader.modern()) {
    out->append("Connection: keep-alive\r\n");  // a client of HTTP/1.0 asked for it and wants to be told
  }
  out->append("\r\n");
}

}  // namespace loadstar::target
