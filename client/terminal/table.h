// Aligned columns: numbers to the right, words to the left, two blanks between, none at the end of a line.
#pragma once

#include <string>
#include <vector>

#include "client/terminal/line.h"

namespace loadstar::client::terminal {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns; control bytes are made blanks, an empty cell is shown as "-".
  void Add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }

  std::vector<Line> Lines() const;
  // All lines, each with its newline.
  std::string Text() const;

 private:
  const std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace loadstar::client::terminal
