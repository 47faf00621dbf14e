// A line of text with styles, kept apart from the codes that show them: so that a line can be measured, cut and tested.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace loadstar::client::terminal {

enum class Style { kPlain, kBold, kFaint, kGood, kWarning, kBad };

class Line {
 public:
  Line() = default;
  explicit Line(std::string text, Style style = Style::kPlain) { Add(std::move(text), style); }

  Line& Add(std::string text, Style style = Style::kPlain);
  // Columns it takes: one for each code point.
  size_t width() const;
  // The text, cut to `columns`; with terminal codes when `colour`.
  std::string Render(size_t columns, bool colour) const;
  std::string text() const { return Render(SIZE_MAX, false); }

 private:
  struct Span {
    std::string text;
    Style style;
  };
  std::vector<Span> spans_;
};

// `text` in the codes of `style`.
std::string Paint(absl::string_view text, Style style);

}  // namespace loadstar::client::terminal
