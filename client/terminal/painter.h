// Redraws a block of lines in place. Each frame is one string: cursor up to the block's first line, each line and the
// rest of it erased, what is left below erased. The cursor is never hidden and stands below the block, so that nothing
// has to be put back whenever the program ends.
#pragma once

#include <string>
#include <vector>

#include "client/terminal/line.h"

namespace loadstar::client::terminal {

class Painter {
 public:
  explicit Painter(bool colour) : colour_(colour) {}

  // What to write to show `lines` in place of those shown, on a terminal that is `columns` wide now. Lines are cut to
  // one column less, so that none wraps.
  std::string Frame(const std::vector<Line>& lines, size_t columns);
  // What to write to take the block away; text may then be written where it stood.
  std::string Erase(size_t columns);
  // The block stays where it is; the next frame starts below it.
  void Release() { shown_.clear(); }

 private:
  // Moves to the first line of what is shown. A terminal that became narrower has wrapped the old lines.
  std::string Home(size_t columns) const;

  const bool colour_;
  std::vector<size_t> shown_;  // widths of the lines on the screen
};

}  // namespace loadstar::client::terminal
