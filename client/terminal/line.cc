#include "client/terminal/line.h"

#include "absl/strings/str_cat.h"

namespace loadstar::client::terminal {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Bytes of the first `columns` code points; counts down `*columns` by what it took.
size_t Prefix(absl::string_view text, size_t* columns) {
  size_t at = 0;
  while (at < text.size() && (*columns > 0 || IsContinuation(text[at]))) {
    if (!IsContinuation(text[at])) {
      --*columns;
    }
    ++at;
  }
  return at;
}

const char* Code(Style style) {
  switch (style) {
    case Style::kPlain:
      return "";
    case Style::kBold:
      return "\x1b[1m";
    case Style::kFaint:
      return "\x1b[2m";
    case Style::kGood:
      return "\x1b[32m";
    case Style::kWarning:
      return "\x1b[33m";
    case Style::kBad:
      return "\x1b[31m";
  }
  return "";
}

}  // namespace

std::string Paint(absl::string_view text, Style style) {
  return style == Style::kPlain || text.empty() ? std::string(text) : absl::StrCat(Code(style), text, "\x1b[0m");
}

Line& Line::Add(std::string text, Style style) {
  spans_.push_back({std::move(text), style});
  return *this;
}

size_t Line::width() const {
  size_t width = 0;
  for (const Span& span : spans_) {
    for (const char c : span.text) {
      width += IsContinuation(c) ? 0 : 1;
    }
  }
  return width;
}

std::string Line::Render(size_t columns, bool colour) const {
  std::string out;
  for (const Span& span : spans_) {
    const absl::string_view shown = absl::string_view(span.text).substr(0, Prefix(span.text, &columns));
    out += colour ? Paint(shown, span.style) : std::string(shown);
  }
  return out;
}

}  // namespace loadstar::client::terminal
