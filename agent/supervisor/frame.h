#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loadstar::agent {

// Messages on an agent's and a worker's socket pair: four bytes of length, big-endian, then the message.
inline constexpr uint32_t kMaxFrameBytes = 4u << 20;

// Appends a message with its length. The message must not be larger than kMaxFrameBytes.
void AppendFrame(std::string_view message, std::string* out);

// Cuts a stream of bytes into messages. Memory is bounded by one message and one read.
class FrameReader {
 public:
  void Append(std::string_view bytes) { buffer_.append(bytes); }
  // The next whole message, or nullopt when more bytes are needed. An error when a length is beyond the bound: the
  // stream is of no use then.
  absl::StatusOr<std::optional<std::string>> Next();

 private:
  std::string buffer_;
  size_t start_ = 0;
};

}  // namespace loadstar::agent
