#include "agent/supervisor/frame.h"

#include "absl/strings/str_cat.h"

namespace loadstar::agent {

void AppendFrame(std::string_view message, std::string* out) {
  const auto length = static_cast<uint32_t>(message.size());
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(length >> shift));
  out->append(message);
}

absl::StatusOr<std::optional<std::string>> FrameReader::Next() {
  const std::string_view rest = std::string_view(buffer_).substr(start_);
  if (rest.size() >= 4) {
    uint32_t length = 0;
    for (int i = 0; i < 4; ++i) length = length << 8 | static_cast<uint8_t>(rest[static_cast<size_t>(i)]);
    if (length > kMaxFrameBytes) {
      return absl::InvalidArgumentError(absl::StrCat("a message of ", length, " bytes; the bound is ", kMaxFrameBytes));
    }
    if (rest.size() - 4 >= length) {
      start_ += 4 + length;
      return std::string(rest.substr(4, length));
    }
  }
  buffer_.erase(0, start_);
  start_ = 0;
  return std::nullopt;
}

}  // namespace loadstar::agent
