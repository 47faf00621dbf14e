// What the fuzz targets of both HTTP readers do: the same bytes cut in different places must be read as the same, and
// what Boost.Beast, a parser that many have beaten on, reads of them must be the same too, but for named differences.
#pragma once

#include <algorithm>
#include <boost/beast/http.hpp>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "lib/http/message.h"

namespace loadstar::http::fuzz {

// A message that was read to its end.
struct Message {
  std::string start;  // status, or method and target
  std::string body;
  bool last = false;
  bool operator==(const Message&) const = default;
};

// What became of a stream: messages, then bytes that are no more than the beginning of one, or that are broken.
struct Outcome {
  std::vector<Message> messages;
  bool broken = false;
  Flaw flaw = Flaw::kNone;         // of ours
  boost::beast::error_code error;  // of Beast
  std::string start;               // of the message that was being read
  bool operator==(const Outcome&) const = default;
};

[[noreturn]] inline void Fail(std::string_view what, const Outcome& ours, const Outcome& theirs) {
  const auto print = [](const char* name, const Outcome& outcome) {
    std::fprintf(stderr, "%s:", name);
    for (const Message& message : outcome.messages) {
      std::fprintf(stderr, " [%s, %zu bytes%s]", message.start.c_str(), message.body.size(),
                   message.last ? ", last" : "");
    }
    std::fprintf(stderr, " %s %s %s\n", outcome.broken ? "broken" : "", NameOf(outcome.flaw),
                 outcome.error ? outcome.error.message().c_str() : "");
  };
  std::fprintf(stderr, "%.*s\n", static_cast<int>(what.size()), what.data());
  print("one", ours);
  print("other", theirs);
  std::abort();
}

// Feeds bytes to read(part) in pieces, each of `step` bytes but the first, which has `first`.
template <typename Read>
void InPieces(std::string_view bytes, size_t first, size_t step, Read read) {
  for (size_t length = first; !bytes.empty(); length = step) {
    const std::string_view part = bytes.substr(0, length);
    bytes.remove_prefix(part.size());
    if (!read(part)) return;
  }
}

// Outcomes of the same bytes, cut in other places.
template <typename ReadOurs>
Outcome RequireSameInAnyCut(std::string_view bytes, ReadOurs read) {
  const Outcome whole = read(bytes, bytes.size(), 1);
  if (const Outcome single = read(bytes, 1, 1); single != whole) Fail("differs byte by byte", whole, single);
  const size_t cut = std::hash<std::string_view>()(bytes) % (bytes.size() + 1);
  if (const Outcome two = read(bytes, cut, bytes.size()); two != whole) Fail("differs in two parts", whole, two);
  const size_t step = 2 + cut % 13;
  if (const Outcome many = read(bytes, step, step); many != whole) Fail("differs in many parts", whole, many);
  return whole;
}

// Reads messages with one Beast parser after the other. prepare(&bytes, &parser) may pass over bytes before a message.
template <typename Parser, typename Prepare, typename StartOf>
Outcome ReadWithBeast(std::string_view bytes, bool close, Prepare prepare, StartOf start_of) {
  Outcome outcome;
  // A stream that has not begun another message ends there.
  while (true) {
    Parser parser;
    prepare(&bytes, &parser);
    if (bytes.empty()) return outcome;
    parser.eager(true);
    parser.header_limit(MessageReader::kMaxHead);
    parser.body_limit(UINT64_MAX);
    boost::beast::error_code error;
    while (!parser.is_done()) {
      const size_t used = parser.put(boost::asio::buffer(bytes.data(), bytes.size()), error);
      bytes.remove_prefix(used);
      if (error || (used == 0 && !parser.is_done())) break;
      if (bytes.empty() && !parser.is_done()) {
        error = boost::beast::http::error::need_more;
        break;
      }
    }
    if (error == boost::beast::http::error::need_more && close && parser.is_header_done() && parser.need_eof()) {
      error = {};
      parser.put_eof(error);
    }
    outcome.start = parser.is_header_done() ? start_of(parser) : "";
    if (error == boost::beast::http::error::need_more) return outcome;
    if (error) {
      outcome.broken = true;
      outcome.error = error;
      return outcome;
    }
    outcome.messages.push_back({outcome.start, parser.get().body(), !parser.keep_alive()});
  }
}

inline bool Contains(std::string_view bytes, std::string_view part) {
  return bytes.find(part) != std::string_view::npos;
}

inline bool HasLongNumber(std::string_view bytes) {
  size_t digits = 0;
  for (const char c : bytes) {
    digits = std::isxdigit(static_cast<unsigned char>(c)) != 0 ? digits + 1 : 0;
    if (digits == 16) return true;
  }
  return false;
}

// Differences that are meant: we refuse what Beast reads, because ...
inline bool WeRefuse(Flaw flaw, std::string_view bytes) {
  switch (flaw) {
    case Flaw::kStartLine:
      // StatusBelow100: there is none (RFC 9110, section 15). TargetBeyondAscii: a URI is ASCII (RFC 3986, section 2).
      return Contains(bytes, " 0") ||
             std::any_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) > 126; });
    case Flaw::kHeaderLine:
      // FoldedLine: a server should not send one, and a user agent need not read it (RFC 9112, section 5.2).
      return Contains(bytes, "\r\n ") || Contains(bytes, "\r\n\t");
    case Flaw::kContentLength:   // LengthList, LengthBeyondInt64: senders may not send the first, and nothing is so
                                 // long.
    case Flaw::kTwoLengths:      // ChunkedInOldVersion: HTTP/1.0 has no transfer codings.
    case Flaw::kTransferCoding:  // OtherCoding: we cannot decode them, and where such a body ends depends on it.
    case Flaw::kUnaskedUpgrade:  // Upgrade: nobody asked for it.
    case Flaw::kHost:            // Host: its absence is the application's matter to Beast.
    case Flaw::kHeadTooLong:     // Bounds: Beast has others for extensions and trailers.
      return true;
    case Flaw::kBareLf:
      // ExtensionControl, too.
      return Contains(bytes, ";") && Contains(bytes, "\"");
    case Flaw::kChunkSize:
      // ExtensionControl: Beast lets any byte stand in quotes. SizeBeyondInt64.
      return std::any_of(bytes.begin(), bytes.end(),
                         [](char c) { return c >= 0 && c < ' ' && c != '\r' && c != '\n'; }) ||
             Contains(bytes, "\x7f") || HasLongNumber(bytes);
    default:
      return false;
  }
}

// Beast refuses what we read, because ...
inline bool TheyRefuse(const Outcome& theirs) {
  using Error = boost::beast::http::error;
  static const boost::beast::error_code kAllowed[] = {
      Error::bad_status,  // NoReason: it may be missing with its blank (RFC 9112, section 4)
      Error::bad_value,   // ConnectionList: we look for our words in it and let the rest be
      // FramingTrailer: a trailer that says how the body is framed comes too late to mean anything (section 6.5.1).
      Error::bad_transfer_encoding, Error::bad_content_length,
      Error::bad_chunk_extension,  // ExtensionGrammar: extensions that are not understood are ignored (section 7.1.1)
  };
  return std::find(std::begin(kAllowed), std::end(kAllowed), theirs.error) != std::end(kAllowed);
}

// Beast waits for more where we have read a message, because ...
inline bool TheyWait(const Outcome& theirs, std::string_view bytes) {
  // OpenQuote: an extension's quoted string ends with its line for us, since it cannot have a line's end in it (RFC
  // 9110, section 5.6.4); Beast looks for its other quote.
  return !theirs.broken && Contains(bytes, ";") && Contains(bytes, "\"");
}

// Whether both read the same but for the end of the connection, because ...
inline bool CloseForUsAlone(const Message& ours, const Message& theirs, std::string_view bytes) {
  std::string text(bytes);
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  // CloseAndKeepAlive: "close" counts whatever else is there (RFC 9112, section 9.3); of HTTP/1.0 Beast looks for
  // "keep-alive" alone.
  const bool both = Contains(text, "http/1.0") && Contains(text, "close") && Contains(text, "keep-alive");
  return both && ours.last && !theirs.last && ours.start == theirs.start && ours.body == theirs.body;
}

// Ends the process at a difference that is not meant.
inline void Compare(const Outcome& ours, const Outcome& theirs, std::string_view bytes) {
  for (size_t i = 0; i < std::max(ours.messages.size(), theirs.messages.size()); ++i) {
    if (i == ours.messages.size()) {
      if (!ours.broken || !WeRefuse(ours.flaw, bytes)) Fail("only Beast reads another message", ours, theirs);
      return;
    }
    if (i == theirs.messages.size()) {
      if (!TheyRefuse(theirs) && !TheyWait(theirs, bytes)) Fail("only we read another message", ours, theirs);
      return;
    }
    if (ours.messages[i] != theirs.messages[i] && !CloseForUsAlone(ours.messages[i], theirs.messages[i], bytes)) {
      Fail("a message differs", ours, theirs);
    }
  }
}

}  // namespace loadstar::http::fuzz
