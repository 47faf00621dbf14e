#pragma once

#include <cstdint>
#include <string_view>

#include "lib/http/message.h"

namespace loadstar::http {

// The responses on one connection, one after the other. Interim responses (1xx) are read over; 101 is broken, because
// nobody asked for it. 24 bytes a connection while no line is cut.
class ResponseReader : public MessageReader {
 public:
  // Reads on and takes what it has read from *bytes. `head_request`: the response is one to HEAD and has no body.
  Event Next(std::string_view* bytes, bool head_request, Piece* piece);
  // The connection was closed in order. True when that was the end of the body, and so the response is complete.
  bool EndOfConnection() const { return phase() == Phase::kUntilClose; }
  // From kStart on.
  uint16_t status() const { return status_; }

 private:
  Flaw ReadStatusLine(std::string_view line);
  Flaw ReadHeadEnd(bool head_request);

  uint16_t status_ = 0;
};
static_assert(sizeof(ResponseReader) == 24);

}  // namespace loadstar::http
