#include "client/terminal/table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/terminal/format.h"

namespace loadstar::client::terminal {

void Table::Add(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) {
    cell = cell.empty() ? std::string(kAbsent) : Printable(cell);
  }
  rows_.push_back(std::move(cells));
}

std::vector<Line> Table::Lines() const {
  std::vector<size_t> widths;
  std::vector<std::string> titles;
  for (size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(columns_[i].title);
    size_t width = Line(titles[i]).width();
    for (const auto& row : rows_) {
      width = std::max(width, Line(row[i]).width());
    }
    widths.push_back(width);
  }
  const auto layout = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - Line(cells[i]).width(), ' ');
      absl::StrAppend(&text, i == 0 ? "" : "  ", columns_[i].align == Align::kRight ? padding : "", cells[i],
                      columns_[i].align == Align::kLeft ? padding : "");
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  std::vector<Line> lines = {Line(layout(titles), Style::kBold)};
  for (const auto& row : rows_) {
    lines.emplace_back(layout(row));
  }
  return lines;
}

std::string Table::Text() const {
  std::string text;
  for (const Line& line : Lines()) {
    absl::StrAppend(&text, line.text(), "\n");
  }
  return text;
}

}  // namespace loadstar::client::terminal
