#include "client/terminal/output.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "google/protobuf/util/json_util.h"

namespace loadstar::client::terminal {
namespace {

// The environment is read before any thread is started and never changed.
absl::string_view Environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? absl::string_view() : absl::string_view(value);
}

}  // namespace

Output::Output(bool json, std::FILE* out, std::FILE* err) : json_(json), out_(out), err_(err) {
  const absl::string_view term = Environment("TERM");
  live_ = isatty(fileno(out)) == 1 && !term.empty() && term != "dumb";
  colour_ = live() && Environment("NO_COLOR").empty();
}

Output::Size Output::size() const {
  winsize window{};
  Size size;
  if (ioctl(fileno(out_), TIOCGWINSZ, &window) == 0 && window.ws_col > 0 && window.ws_row > 0) {
    size.columns = window.ws_col;
    size.rows = window.ws_row;
  }
  return size;
}

void Output::Write(absl::string_view text) {
  if (!ok_) {
    return;
  }
  if (std::fwrite(text.data(), 1, text.size(), out_) != text.size() || std::fflush(out_) != 0) {
    ok_ = false;
  }
}

void Output::Text(absl::string_view line) { Raw(absl::StrCat(line, "\n")); }
void Output::Text(const Line& line) { Text(line.Render(SIZE_MAX, colour_)); }

void Output::Raw(absl::string_view text) {
  if (!json_) {
    Write(text);
  }
}

void Output::Json(const google::protobuf::Message& message) { JsonLine(ToJson(message)); }

void Output::JsonLine(absl::string_view object) {
  if (json_) {
    Write(absl::StrCat(object, "\n"));
  }
}

void Output::Note(absl::string_view text) {
  const std::string line = absl::StrCat("loadstar: ", text, "\n");
  std::fwrite(line.data(), 1, line.size(), err_);
  std::fflush(err_);
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  // A zero was measured; a reader must not have to guess what a missing counter means.
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  return status.ok() ? json : absl::StrCat("{\"error\":", JsonString(status.ToString()), "}");
}

std::string JsonString(absl::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&quoted, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace loadstar::client::terminal
