#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "lib/http/request_reader.h"
#include "target/json_rpc.h"
#include "target/shared_state.h"

namespace loadstar::target {

// What is kept of one connection that speaks HTTP.
struct HttpConnection {
  http::RequestReader reader;
  std::string body;    // of a JSON-RPC request that is coming in
  std::string unread;  // bytes that wait until the client has read its answers
  size_t body_bytes = 0;
  bool head = false;  // of the request that is coming in: HEAD, POST, JSON, and the client waits for 100
  bool post = false;
  bool json = false;
  bool expects_continue = false;
  bool finished = false;  // the last answer was given: what comes is thrown away
  bool ended = false;     // by the server: nothing more is sent
};

// The server's side of HTTP/1.1, without any transport: bytes in, answers out. A POST of JSON is JSON-RPC, as MCP's
// Streamable HTTP has it (answers as JSON; initialize names a session, of which nothing is kept); every other request,
// on whatever path, gets 200 and a body of fixed size. One thread.
class Http {
 public:
  enum class Result : uint8_t {
    kMore,    // serve on when more has come; bytes are left over when there are answers enough
    kLast,    // send the answers, then end the connection
    kClosed,  // an injected fault: the connection is to be closed
  };
  struct Options {
    size_t body_bytes = 100;    // of a plain answer
    size_t longest_body = 0;    // of a request
    size_t enough_answers = 0;  // bytes of answers after which no further request is read
    uint64_t first_session = 1;
  };

  // What is given outlives this object.
  Http(const Options& options, JsonRpc* rpc, RequestFaults* faults, ProcessCells* cells);

  // Reads requests, takes what it has read from *bytes, and appends their answers to *out.
  Result Serve(HttpConnection* connection, std::string_view* bytes, std::string* out);

 private:
  struct Status {
    int code;
    std::string_view reason;
  };

  void BeginRequest(HttpConnection* connection, const http::Piece& piece);
  void ReadHeader(HttpConnection* connection, const http::Piece& piece);
  Result Answer(HttpConnection* connection, std::string* out);
  bool AnswerPlain(const HttpConnection& connection, std::string* out);
  bool AnswerRpc(HttpConnection* connection, std::string* out);
  Result Refuse(HttpConnection* connection, Status status, std::string* out);
  // `more`: further headers.
  void AppendHead(const HttpConnection& connection, Status status, std::string_view type, size_t length,
                  std::string_view more, std::string* out) const;

  const Options options_;
  JsonRpc* const rpc_;
  RequestFaults* const faults_;
  ProcessCells* const cells_;
  const std::string body_;
  std::string plain_;  // the whole answer that nearly every plain request gets
  uint64_t next_session_;
  std::string rpc_answer_;
};

}  // namespace loadstar::target
