#include "lib/http/response_reader.h"

#include <charconv>

#include "lib/http/text.h"

namespace loadstar::http {
namespace {

constexpr uint16_t kSwitchingProtocols = 101;
constexpr uint16_t kFirstFinal = 200;
constexpr uint16_t kNoContent = 204;
constexpr uint16_t kNotModified = 304;

}  // namespace

Event ResponseReader::Next(std::string_view* bytes, bool head_request, Piece* piece) {
  while (true) {
    std::string_view line;
    Flaw flaw = Flaw::kNone;
    switch (Advance(bytes, &line, piece)) {
      case Step::kMore:
        return Event::kMore;
      case Step::kStartLine:
        flaw = ReadStatusLine(line);
        if (flaw == Flaw::kNone && status_ >= kFirstFinal) return Event::kStart;
        break;
      case Step::kHeader:
        if (status_ >= kFirstFinal) return Event::kHeader;
        break;
      case Step::kHeadEnd:
        flaw = ReadHeadEnd(head_request);
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

Flaw ResponseReader::ReadStatusLine(std::string_view line) {
  // "HTTP/1.1 200 OK"; the reason may be missing, and so may the blank before it (RFC 9112, section 4).
  constexpr std::string_view kVersion = "HTTP/1.";
  constexpr size_t kStatusAt = 9;
  constexpr size_t kStatusEnd = 12;
  if (line.size() < kStatusEnd || line.substr(0, kVersion.size()) != kVersion || line[kStatusAt - 1] != ' ' ||
      (line[kVersion.size()] != '0' && line[kVersion.size()] != '1')) {
    return Flaw::kStartLine;
  }
  const auto [end, error] = std::from_chars(line.data() + kStatusAt, line.data() + kStatusEnd, status_);
  if (error != std::errc() || end != line.data() + kStatusEnd || status_ < 100) return Flaw::kStartLine;
  const std::string_view rest = line.substr(kStatusEnd);
  if (!rest.empty() && (rest.front() != ' ' || !IsFieldValue(rest))) return Flaw::kStartLine;
  BeginHeaders(line[kVersion.size()] == '0');
  return Flaw::kNone;
}

Flaw ResponseReader::ReadHeadEnd(bool head_request) {
  if (status_ == kSwitchingProtocols) return Flaw::kUnaskedUpgrade;
  if (const Flaw flaw = CheckFraming(); flaw != Flaw::kNone) return flaw;
  if (status_ < kFirstFinal) {
    BeginNext();
  } else if (head_request || status_ == kNoContent || status_ == kNotModified) {
    BeginNoBody();
  } else {
    BeginBody(/*until_close=*/true);
  }
  return Flaw::kNone;
}

}  // namespace loadstar::http
