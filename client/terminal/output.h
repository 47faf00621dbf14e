// The one place that writes: people's text and JSON to stdout, diagnostics to stderr. In JSON mode text is dropped, so
// that stdout holds one object a line and nothing else.
#pragma once

#include <cstdio>
#include <string>

#include "absl/strings/string_view.h"
#include "client/terminal/line.h"
#include "google/protobuf/message.h"

namespace loadstar::client::terminal {

class Output {
 public:
  struct Size {
    size_t columns = 80;
    size_t rows = 24;
  };

  // Neither stream is owned. Colour is used on a terminal unless NO_COLOR is set or TERM is "dumb".
  Output(bool json, std::FILE* out, std::FILE* err);

  bool json() const { return json_; }
  // Stdout is a terminal on which a block can be redrawn.
  bool live() const { return live_ && !json_; }
  bool colour() const { return colour_; }
  // False once stdout refused something: whoever read it is gone, or its disk is full.
  bool ok() const { return ok_; }
  Size size() const;

  // A line for people; the newline is added.
  void Text(absl::string_view line);
  void Text(const Line& line);
  // For people, as it is.
  void Raw(absl::string_view text);
  // One JSON object on one line, in JSON mode alone: the message as protobuf's JSON with the field names of the proto.
  void Json(const google::protobuf::Message& message);
  void JsonLine(absl::string_view object);
  // A diagnostic, "loadstar: TEXT" on stderr, in every mode.
  void Note(absl::string_view text);

 private:
  void Write(absl::string_view text);

  const bool json_;
  std::FILE* const out_;
  std::FILE* const err_;
  bool live_ = false;
  bool colour_ = false;
  bool ok_ = true;
};

// The message as JSON on one line.
std::string ToJson(const google::protobuf::Message& message);
// `text` as a JSON string with its quotes.
std::string JsonString(absl::string_view text);

}  // namespace loadstar::client::terminal
