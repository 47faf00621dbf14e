// Whatever a client asks of the reference node, in whatever cuts: the same events, and those that Boost.Beast reads,
// but for the differences named in http_differential.h. The input is the stream itself.
#include <cstddef>
#include <cstdint>

#include "lib/http/request_reader.h"
#include "tests/fuzz/http_differential.h"

namespace {

using namespace loadstar::http;        // NOLINT(google-build-using-namespace)
using namespace loadstar::http::fuzz;  // NOLINT(google-build-using-namespace)
using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

Outcome ReadOurs(std::string_view bytes, size_t first, size_t step) {
  RequestReader reader;
  Outcome outcome;
  Message message;
  InPieces(bytes, first, step, [&](std::string_view part) {
    Piece piece;
    while (true) {
      switch (reader.Next(&part, &piece)) {
        case Event::kMore:
          return true;
        case Event::kStart:
          message.start.append(piece.method).append(" ").append(piece.target);
          break;
        case Event::kHeader:
          break;
        case Event::kBody:
          message.body.append(piece.body);
          break;
        case Event::kEnd:
          message.last = reader.last();
          outcome.messages.push_back(std::move(message));
          message = Message();
          break;
        case Event::kBroken:
          outcome.broken = true;
          outcome.flaw = piece.flaw;
          return false;
      }
    }
  });
  return outcome;
}

Outcome ReadTheirs(std::string_view bytes) {
  return ReadWithBeast<Parser>(
      bytes, /*close=*/false,
      [](std::string_view* stream, Parser* /*parser*/) {
        // EmptyLines before a request: a server should read over them (RFC 9112, section 2.2), and Beast does not.
        while (stream->substr(0, 2) == "\r\n") stream->remove_prefix(2);
      },
      [](const Parser& parser) {
        const auto& request = parser.get();
        return std::string(request.method_string()) + " " + std::string(request.target());
      });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Compare(RequireSameInAnyCut(bytes, ReadOurs), ReadTheirs(bytes), bytes);
  return 0;
}
