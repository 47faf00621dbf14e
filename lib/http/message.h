// HTTP/1.1 messages that are coming in (RFC 9112), from bytes that arrive in any pieces. Only a line that was cut by
// the end of a piece is copied; everything else is read where it stands.
//
// Readers are strict where intermediaries do not agree on what a message is: bare LF, folded lines, blanks before a
// colon, two lengths that differ, both a length and a transfer coding, and a transfer coding other than chunked are
// broken (sections 2.2, 5.1, 5.2, 6.1 and 6.3).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace loadstar::http {

// What a reader has come to.
enum class Event : uint8_t {
  kMore,    // all bytes are read: feed more
  kStart,   // the first line
  kHeader,  // a header line
  kBody,    // a piece of the body, never empty
  kEnd,     // the message is complete; what the reader says of it holds until the next call
  kBroken,  // the rest of the stream cannot be told apart: the connection is useless
};

// Why a stream cannot be read.
enum class Flaw : uint8_t {
  kNone,
  kStartLine,
  kHeaderLine,
  kBareLf,
  kHeadTooLong,
  kContentLength,
  kTwoLengths,
  kTransferCoding,
  kChunkSize,
  kChunkEnd,
  kUnaskedUpgrade,  // of a response: 101
  kHost,            // of a request: none, or several
};
// Such as "head-too-long".
const char* NameOf(Flaw flaw);

// Views are valid until the next call of the reader.
struct Piece {
  std::string_view method, target;  // kStart of a request
  std::string_view name, value;     // kHeader, as they were sent
  std::string_view body;            // kBody
  Flaw flaw = Flaw::kNone;          // kBroken
};

// What requests and responses have in common: lines, fields, and where a body ends.
class MessageReader {
 public:
  // Longest start line and headers together, longest trailer section, and longest line of a chunk's size.
  static constexpr uint32_t kMaxHead = 64 * 1024;
  static constexpr uint32_t kMaxChunkLine = 4096;

  // Nothing of a message has arrived since the last one was complete.
  bool idle() const { return phase_ == Phase::kTold || (phase_ == Phase::kStartLine && head_bytes_ == 0); }
  // The connection ends after this message.
  bool last() const { return last_; }

 protected:
  enum class Phase : uint8_t {
    kStartLine,
    kHeaders,
    kBody,
    kUntilClose,
    kChunkSize,
    kChunkData,
    kChunkEnd,
    kTrailers,
    kDone,  // complete, and not told yet
    kTold,
  };
  enum class Step : uint8_t { kMore, kStartLine, kHeader, kHeadEnd, kBody, kEnd, kBroken };

  // Reads on. After kStartLine (*line is that line) and kHeadEnd the derived reader says what follows; a start line
  // that is empty may be passed over by calling again.
  Step Advance(std::string_view* bytes, std::string_view* line, Piece* piece);
  // The start line is read; `old_version`: HTTP/1.0, which ends the connection unless a header says otherwise.
  void BeginHeaders(bool old_version);
  Flaw CheckFraming() const;
  // `until_close`: what a body without length and coding means.
  void BeginBody(bool until_close);
  void BeginNoBody() { phase_ = Phase::kDone; }
  // What was read is no message of its own: the next one begins.
  void BeginNext();

  Phase phase() const { return phase_; }

 private:
  // The next line without its CRLF. False: there is none yet, or *flaw is set.
  bool Line(std::string_view* bytes, uint32_t longest, std::string_view* line, Flaw* flaw);
  Flaw ReadHeader(std::string_view line, Piece* piece);
  void ReadConnection(std::string_view value);
  Flaw ReadChunkSize(std::string_view line);

  std::unique_ptr<std::string> line_;  // what there is of a line that was cut
  uint64_t remaining_ = 0;             // of the body, of the chunk; while reading headers: Content-Length
  uint32_t head_bytes_ = 0;            // of lines read so far
  Phase phase_ = Phase::kStartLine;
  bool last_ : 1 = false;
  bool close_ : 1 = false;        // "close" was said: nothing takes it back
  bool old_version_ : 1 = false;  // HTTP/1.0
  bool has_length_ : 1 = false;
  bool chunked_ : 1 = false;
  bool taken_ : 1 = false;  // line_ was handed out: it goes with the next call
};

}  // namespace loadstar::http
