#include "agent/worker/protocols/tcp_echo.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace loadstar::worker {
namespace {

constexpr uint32_t kIdBytes = 8;

}  // namespace

absl::StatusOr<std::unique_ptr<Protocol>> TcpEcho::Create(const v1::TcpOptions& options, uint32_t connections) {
  const uint32_t bytes = options.payload_bytes() == 0 ? kDefaultPayload : options.payload_bytes();
  if (bytes < kMinPayload || bytes > kMaxPayload) {
    return absl::InvalidArgumentError(
        absl::StrCat("tcp.payload_bytes is ", bytes, ": choose ", kMinPayload, " to ", kMaxPayload));
  }
  return std::make_unique<TcpEcho>(bytes, connections);
}

TcpEcho::TcpEcho(uint32_t payload_bytes, uint32_t connections) : payload_(payload_bytes), states_(connections) {
  // A period that is no power of two: a target that echoes from the wrong place of a buffer does not get away with it.
  for (size_t i = kIdBytes; i < payload_.size(); ++i) payload_[i] = static_cast<std::byte>(i % 251);
}

bool TcpEcho::Begin(uint32_t connection, uint32_t /*endpoint*/, std::string* /*out*/) {
  states_[connection] = State();
  return true;
}

std::span<const std::byte> TcpEcho::Request(uint32_t /*connection*/, uint64_t id) {
  for (uint32_t i = 0; i < kIdBytes; ++i) payload_[i] = static_cast<std::byte>(id >> (8 * (kIdBytes - 1 - i)));
  return payload_;
}

void TcpEcho::OnReceived(uint32_t connection, std::span<const std::byte> bytes, ProtocolEvents* events) {
  State& state = states_[connection];
  while (!bytes.empty()) {
    while (state.received < kIdBytes && !bytes.empty()) {
      state.id = (state.id << 8) | static_cast<uint64_t>(bytes.front());
      ++state.received;
      bytes = bytes.subspan(1);
    }
    const size_t take = std::min(bytes.size(), payload_.size() - state.received);
    if (take > 0 && std::memcmp(bytes.data(), payload_.data() + state.received, take) != 0) {
      return events->OnBroken("echo-differs");
    }
    state.received += static_cast<uint32_t>(take);
    bytes = bytes.subspan(take);
    if (state.received < payload_.size()) return;
    const uint64_t id = state.id;
    state = State();
    if (!events->OnAnswer(id)) return;
  }
}

void TcpEcho::End(uint32_t connection) { states_[connection] = State(); }

}  // namespace loadstar::worker
