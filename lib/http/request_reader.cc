#include "lib/http/request_reader.h"

#include "lib/http/text.h"

namespace loadstar::http {

Event RequestReader::Next(std::string_view* bytes, Piece* piece) {
  while (true) {
    std::string_view line;
    Flaw flaw = Flaw::kNone;
    switch (Advance(bytes, &line, piece)) {
      case Step::kMore:
        return Event::kMore;
      case Step::kStartLine:
        if (line.empty()) break;
        flaw = ReadRequestLine(line, piece);
        if (flaw == Flaw::kNone) return Event::kStart;
        break;
      case Step::kHeader:
        if (!EqualsIgnoringCase(piece->name, "host")) return Event::kHeader;
        if (!host_) {
          host_ = true;
          return Event::kHeader;
        }
        flaw = Flaw::kHost;
        break;
      case Step::kHeadEnd:
        flaw = modern_ && !host_ ? Flaw::kHost : CheckFraming();
        if (flaw == Flaw::kNone) BeginBody(/*until_close=*/false);
        break;
      case Step::kBody:
        return Event::kBody;
      case Step::kEnd:
        return Event::kEnd;
      case Step::kBroken:
        return Event::kBroken;
    }
    if (flaw != Flaw::kNone) {
      piece->flaw = flaw;
      return Event::kBroken;
    }
  }
}

bool RequestReader::awaits_body() const { return phase() == Phase::kBody || phase() == Phase::kChunkSize; }

Flaw RequestReader::ReadRequestLine(std::string_view line, Piece* piece) {
  // "GET /path HTTP/1.1", with one blank between each (RFC 9112, section 3).
  const size_t method_end = line.find(' ');
  const size_t target_end = line.rfind(' ');
  if (method_end == std::string_view::npos || target_end == method_end) return Flaw::kStartLine;
  piece->method = line.substr(0, method_end);
  piece->target = line.substr(method_end + 1, target_end - method_end - 1);
  const std::string_view version = line.substr(target_end + 1);
  modern_ = version == "HTTP/1.1";
  if (!IsToken(piece->method) || !IsTarget(piece->target) || (!modern_ && version != "HTTP/1.0")) {
    return Flaw::kStartLine;
  }
  host_ = false;
  BeginHeaders(!modern_);
  return Flaw::kNone;
}

}  // namespace loadstar::http
