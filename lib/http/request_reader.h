#pragma once

#include <cstdint>
#include <string_view>

#include "lib/http/message.h"

namespace loadstar::http {

// The requests on one connection, one after the other. Empty lines before a request are read over (RFC 9112, section
// 2.2); one of HTTP/1.1 without exactly one Host is broken (3.2). 24 bytes a connection while no line is cut.
class RequestReader : public MessageReader {
 public:
  // Reads on and takes what it has read from *bytes.
  Event Next(std::string_view* bytes, Piece* piece);
  // The headers are all read, and a body is to come.
  bool awaits_body() const;
  // The request is of HTTP/1.1, not 1.0. From kStart on.
  bool modern() const { return modern_; }

 private:
  Flaw ReadRequestLine(std::string_view line, Piece* piece);

  bool host_ = false;
  bool modern_ = false;
};
static_assert(sizeof(RequestReader) == 24);

}  // namespace loadstar::http
