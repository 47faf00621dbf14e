#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

namespace loadstar::os {

// The lines of what the kernel or a program wrote, without their ends; the last one's may be missing. They refer to
// `text`.
inline std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

}  // namespace loadstar::os
