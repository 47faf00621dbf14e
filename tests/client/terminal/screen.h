// What a terminal shows of bytes written to it: enough of one to judge the live view by what a person sees.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace loadstar::client::terminal {

// A terminal of any height that wraps at `columns`. Knows newline, carriage return, cursor up, erase to the end of line
// and of screen; styles are dropped. Anything else makes `unknown` grow.
class Screen {
 public:
  explicit Screen(size_t columns) : columns_(columns) {}
  void Write(const std::string& bytes) {
    pending_ += bytes;
    size_t at = 0;
    while (at < pending_.size()) {
      const char c = pending_[at];
      if (c == '\x1b') {
        const size_t end = pending_.find_first_of("ABCDHJKhlm", at);
        if (end == std::string::npos) {
          break;  // the rest of the code is still to come
        }
        Control(pending_.substr(at + 1, end - at));
        at = end + 1;
        continue;
      }
      ++at;
      if (c == '\n') {
        ++row_;
        column_ = 0;
      } else if (c == '\r') {
        column_ = 0;
      } else {
        if (column_ == columns_) {
          ++row_;
          column_ = 0;
        }
        Row().resize(std::max(Row().size(), column_ + 1), ' ');
        Row()[column_++] = c;
      }
    }
    pending_.erase(0, at);
  }
  // Lines from the top, without blanks at their ends; empty ones at the bottom are left out.
  std::vector<std::string> Lines() const {
    std::vector<std::string> lines;
    for (std::string line : rows_) {
      line.erase(line.find_last_not_of(' ') + 1);
      lines.push_back(std::move(line));
    }
    while (!lines.empty() && lines.back().empty()) {
      lines.pop_back();
    }
    return lines;
  }
  std::string Text() const {
    std::string text;
    for (const std::string& line : Lines()) {
      text += line + "\n";
    }
    return text;
  }
  const std::string& unknown() const { return unknown_; }

 private:
  std::string& Row() {
    if (rows_.size() <= row_) {
      rows_.resize(row_ + 1);
    }
    return rows_[row_];
  }
  void Control(const std::string& code) {
    const char command = code.back();
    if (command == 'A') {
      const size_t up = std::stoul(code.substr(1, code.size() - 2));
      row_ = up > row_ ? 0 : row_ - up;
    } else if (command == 'K') {
      Row().resize(std::min(Row().size(), column_));
    } else if (command == 'J') {
      Row().resize(std::min(Row().size(), column_));
      rows_.resize(row_ + 1);
    } else if (command != 'm') {
      unknown_ += code;
    }
  }

  const size_t columns_;
  std::vector<std::string> rows_;
  size_t row_ = 0;
  size_t column_ = 0;
  std::string pending_;
  std::string unknown_;
};

}  // namespace loadstar::client::terminal
