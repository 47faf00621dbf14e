#include "agent/worker/control.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace loadstar::worker {
namespace {

constexpr size_t kLengthBytes = 4;

size_t LengthOf(const char* bytes) {
  size_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  return length;
}

}  // namespace

absl::Status FrameReader::Feed(std::span<const std::byte> bytes,
                               const std::function<void(v1::AgentToWorker&&)>& on_message) {
  buffer_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  size_t at = 0;
  while (buffer_.size() - at >= kLengthBytes) {
    const size_t length = LengthOf(buffer_.data() + at);
    if (length == 0 || length > kMaxControlMessage) {
      return absl::InvalidArgumentError(absl::StrCat(
          "control channel: a message of ", length, " bytes was announced; 1 to ", kMaxControlMessage, " are allowed"));
    }
    if (buffer_.size() - at - kLengthBytes < length) break;
    v1::AgentToWorker message;
    if (!message.ParseFromArray(buffer_.data() + at + kLengthBytes, static_cast<int>(length))) {
      return absl::InvalidArgumentError(
          absl::StrCat("control channel: ", length, " bytes are no AgentToWorker message: do agent and worker match?"));
    }
    at += kLengthBytes + length;
    on_message(std::move(message));
  }
  buffer_.erase(0, at);
  return absl::OkStatus();
}

std::string Frame(const google::protobuf::MessageLite& message) {
  const size_t length = message.ByteSizeLong();
  std::string frame;
  frame.reserve(kLengthBytes + length);
  for (size_t i = 0; i < kLengthBytes; ++i) frame.push_back(static_cast<char>(length >> (8 * (kLengthBytes - 1 - i))));
  message.AppendToString(&frame);
  return frame;
}

}  // namespace loadstar::worker
