// Whatever a target answers, in whatever cuts: the same events, and those that Boost.Beast reads, but for the
// differences named below. The input is the stream itself; it is read as answers to GET and as answers to HEAD.
#include <cstddef>
#include <cstdint>

#include "lib/http/response_reader.h"
#include "tests/fuzz/http_differential.h"

namespace {

using namespace loadstar::http;        // NOLINT(google-build-using-namespace)
using namespace loadstar::http::fuzz;  // NOLINT(google-build-using-namespace)
using Parser = boost::beast::http::response_parser<boost::beast::http::string_body>;

Outcome ReadOurs(std::string_view bytes, size_t first, size_t step, bool head) {
  ResponseReader reader;
  Outcome outcome;
  std::string body;
  const auto complete = [&] {
    outcome.messages.push_back({std::to_string(reader.status()), std::move(body), reader.last()});
    body.clear();
  };
  InPieces(bytes, first, step, [&](std::string_view part) {
    Piece piece;
    while (true) {
      switch (reader.Next(&part, head, &piece)) {
        case Event::kMore:
          return true;
        case Event::kStart:
        case Event::kHeader:
          break;
        case Event::kBody:
          body.append(piece.body);
          break;
        case Event::kEnd:
          complete();
          break;
        case Event::kBroken:
          outcome.broken = true;
          outcome.flaw = piece.flaw;
          return false;
      }
    }
  });
  if (!outcome.broken && reader.EndOfConnection()) complete();
  return outcome;
}

// Interim responses are messages to Beast and nothing to us.
Outcome ReadTheirs(std::string_view bytes, bool head) {
  Outcome outcome = ReadWithBeast<Parser>(
      bytes, /*close=*/true, [head](std::string_view* /*bytes*/, Parser* parser) { parser->skip(head); },
      [](const Parser& parser) { return std::to_string(parser.get().result_int()); });
  std::erase_if(outcome.messages, [](const Message& message) { return message.start < "200"; });
  return outcome;
}

void Check(std::string_view bytes, bool head) {
  const Outcome ours = RequireSameInAnyCut(bytes, [head](std::string_view stream, size_t first, size_t step) {
    return ReadOurs(stream, first, step, head);
  });
  Compare(ours, ReadTheirs(bytes, head), bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Check(bytes, false);
  Check(bytes, true);
  return 0;
}
