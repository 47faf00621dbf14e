// How a worker and its agent speak: messages over a stream, each preceded by its length as four bytes, big-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "loadstar/v1/worker.pb.h"

namespace loadstar::worker {

inline constexpr size_t kMaxControlMessage = size_t{4} * 1024 * 1024;

// Cuts a stream into messages. Memory is bounded by one message; nothing is allocated for a length that is only
// claimed.
class FrameReader {
 public:
  // Calls on_message for every message that is complete now. An error (a length of 0 or beyond the bound, bytes that
  // are no message) is final: the stream has no meaning any more.
  absl::Status Feed(std::span<const std::byte> bytes, const std::function<void(v1::AgentToWorker&&)>& on_message);

 private:
  std::string buffer_;
};

// A message as it goes over the stream.
std::string Frame(const google::protobuf::MessageLite& message);

}  // namespace loadstar::worker
