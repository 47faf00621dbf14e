#include "client/terminal/painter.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace loadstar::client::terminal {

std::string Painter::Home(size_t columns) const {
  size_t rows = 0;
  for (const size_t width : shown_) {
    rows += std::max<size_t>(1, (width + columns - 1) / columns);
  }
  return rows == 0 ? "" : absl::StrCat("\r\x1b[", rows, "A");
}

std::string Painter::Frame(const std::vector<Line>& lines, size_t columns) {
  columns = std::max<size_t>(columns, 2);
  std::string frame = Home(columns);
  shown_.clear();
  for (const Line& line : lines) {
    absl::StrAppend(&frame, line.Render(columns - 1, colour_), "\x1b[K\n");
    shown_.push_back(std::min(line.width(), columns - 1));
  }
  absl::StrAppend(&frame, "\x1b[J");
  return frame;
}

std::string Painter::Erase(size_t columns) {
  std::string out = shown_.empty() ? "" : absl::StrCat(Home(std::max<size_t>(columns, 2)), "\x1b[J");
  shown_.clear();
  return out;
}

}  // namespace loadstar::client::terminal
