#include "lib/http/message.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "lib/http/text.h"

namespace loadstar::http {
namespace {

// Whole numbers of digits alone, within what a file offset can say.
bool ReadNumber(std::string_view digits, int base, uint64_t* out) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *out, base);
  return error == std::errc() && end == digits.data() + digits.size() && *out <= INT64_MAX;
}

// "name: value" of a header or trailer line.
bool SplitField(std::string_view line, Piece* piece) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return false;
  piece->name = line.substr(0, colon);
  piece->value = Trim(line.substr(colon + 1));
  return IsToken(piece->name) && IsFieldValue(piece->value);
}

}  // namespace

const char* NameOf(Flaw flaw) {
  static constexpr std::array kNames = {"none",          "start-line",     "header-line",     "bare-lf",
                                        "head-too-long", "content-length", "two-lengths",     "transfer-coding",
                                        "chunk-size",    "chunk-end",      "unasked-upgrade", "host"};
  static_assert(kNames.size() == static_cast<size_t>(Flaw::kHost) + 1);
  return kNames[static_cast<size_t>(flaw)];
}

MessageReader::Step MessageReader::Advance(std::string_view* bytes, std::string_view* line, Piece* piece) {
  if (phase_ == Phase::kTold) BeginNext();
  while (true) {
    if (taken_) {
      line_.reset();
      taken_ = false;
    }
    Flaw flaw = Flaw::kNone;
    bool complete = false;
    switch (phase_) {
      case Phase::kBody:
      case Phase::kChunkData:
        if (bytes->empty()) return Step::kMore;
        piece->body = bytes->substr(0, static_cast<size_t>(std::min<uint64_t>(remaining_, bytes->size())));
        bytes->remove_prefix(piece->body.size());
        remaining_ -= piece->body.size();
        if (remaining_ == 0) phase_ = phase_ == Phase::kBody ? Phase::kDone : Phase::kChunkEnd;
        return Step::kBody;
      case Phase::kUntilClose:
        if (bytes->empty()) return Step::kMore;
        piece->body = std::exchange(*bytes, {});
        return Step::kBody;
      case Phase::kDone:
      case Phase::kTold:
        phase_ = Phase::kTold;
        return Step::kEnd;
      case Phase::kStartLine:
        complete = Line(bytes, kMaxHead, line, &flaw);
        if (complete) return Step::kStartLine;
        break;
      case Phase::kHeaders:
        complete = Line(bytes, kMaxHead, line, &flaw);
        if (!complete) break;
        if (line->empty()) return Step::kHeadEnd;
        flaw = ReadHeader(*line, piece);
        if (flaw == Flaw::kNone) return Step::kHeader;
        break;
      case Phase::kChunkSize:
        complete = Line(bytes, kMaxChunkLine, line, &flaw);
        if (!complete) break;
        flaw = ReadChunkSize(*line);
        phase_ = remaining_ > 0 ? Phase::kChunkData : Phase::kTrailers;
        head_bytes_ = 0;
        break;
      case Phase::kChunkEnd:
        complete = Line(bytes, kMaxChunkLine, line, &flaw);
        if (!complete) break;
        if (!line->empty()) flaw = Flaw::kChunkEnd;
        phase_ = Phase::kChunkSize;
        head_bytes_ = 0;
        break;
      case Phase::kTrailers:
        complete = Line(bytes, kMaxHead, line, &flaw);
        if (!complete) break;
        if (line->empty()) {
          phase_ = Phase::kDone;
        } else if (!SplitField(*line, piece)) {
          flaw = Flaw::kHeaderLine;
        }
        break;
    }
    if (flaw != Flaw::kNone) {
      piece->flaw = flaw;
      return Step::kBroken;
    }
    if (!complete) return Step::kMore;
  }
}

bool MessageReader::Line(std::string_view* bytes, uint32_t longest, std::string_view* line, Flaw* flaw) {
  const size_t newline = bytes->find('\n');
  const size_t length = newline == std::string_view::npos ? bytes->size() : newline + 1;
  if (length > longest - head_bytes_) {
    *flaw = Flaw::kHeadTooLong;
    return false;
  }
  head_bytes_ += static_cast<uint32_t>(length);
  const std::string_view part = bytes->substr(0, length);
  bytes->remove_prefix(length);
  if (newline == std::string_view::npos) {
    if (!part.empty()) {
      if (line_ == nullptr) line_ = std::make_unique<std::string>();
      line_->append(part);
    }
    return false;
  }
  *line = part;
  if (line_ != nullptr) {
    line_->append(part);
    *line = *line_;
    taken_ = true;
  }
  if (line->size() < 2 || (*line)[line->size() - 2] != '\r') {
    *flaw = Flaw::kBareLf;
    return false;
  }
  line->remove_suffix(2);
  return true;
}

void MessageReader::BeginHeaders(bool old_version) {
  phase_ = Phase::kHeaders;
  old_version_ = old_version;
  last_ = old_version;
}

Flaw MessageReader::ReadHeader(std::string_view line, Piece* piece) {
  if (!SplitField(line, piece)) return Flaw::kHeaderLine;
  // By length first: most headers are none of these.
  switch (piece->name.size()) {
    case 10:
      if (EqualsIgnoringCase(piece->name, "connection")) ReadConnection(piece->value);
      return Flaw::kNone;
    case 14: {
      if (!EqualsIgnoringCase(piece->name, "content-length")) return Flaw::kNone;
      uint64_t length = 0;
      if (!ReadNumber(piece->value, 10, &length)) return Flaw::kContentLength;
      if (has_length_ && length != remaining_) return Flaw::kTwoLengths;
      has_length_ = true;
      remaining_ = length;
      return Flaw::kNone;
    }
    case 17:
      if (!EqualsIgnoringCase(piece->name, "transfer-encoding")) return Flaw::kNone;
      // Others than chunked are of no use to a load test, and chunked twice is no coding at all.
      if (chunked_ || !EqualsIgnoringCase(piece->value, "chunked")) return Flaw::kTransferCoding;
      chunked_ = true;
      return Flaw::kNone;
    default:
      return Flaw::kNone;
  }
}

void MessageReader::ReadConnection(std::string_view value) {
  ForEachInList(value, [this](std::string_view option) {
    if (EqualsIgnoringCase(option, "close")) {
      last_ = true;
      close_ = true;
    } else if (EqualsIgnoringCase(option, "keep-alive") && !close_) {
      last_ = false;
    }
  });
}

Flaw MessageReader::CheckFraming() const {
  return chunked_ && (has_length_ || old_version_) ? Flaw::kTwoLengths : Flaw::kNone;
}

void MessageReader::BeginBody(bool until_close) {
  head_bytes_ = 0;
  if (chunked_) {
    phase_ = Phase::kChunkSize;
  } else if (has_length_ && remaining_ > 0) {
    phase_ = Phase::kBody;
  } else if (!has_length_ && until_close) {
    phase_ = Phase::kUntilClose;
    last_ = true;
  } else {
    phase_ = Phase::kDone;
  }
}

void MessageReader::BeginNext() {
  remaining_ = 0;
  head_bytes_ = 0;
  phase_ = Phase::kStartLine;
  last_ = close_ = old_version_ = has_length_ = chunked_ = false;
}

Flaw MessageReader::ReadChunkSize(std::string_view line) {
  // "1a", or "1a;name=value": extensions mean nothing to us, and blanks may stand before them.
  std::string_view size = line.substr(0, line.find(';'));
  if (size.size() < line.size()) {
    while (!size.empty() && (size.back() == ' ' || size.back() == '\t')) size.remove_suffix(1);
  }
  return ReadNumber(size, 16, &remaining_) && IsFieldValue(line) ? Flaw::kNone : Flaw::kChunkSize;
}

}  // namespace loadstar::http
