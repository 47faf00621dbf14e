#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/worker/protocols/protocol.h"

namespace loadstar::worker {

// Fixed-size payloads that the target sends back unchanged. A payload is the request's id as eight bytes, big-endian,
// then a pattern; both are verified in the echo. Ids stay below 2^56, so a payload never begins with '{', by which
// loadstar-target tells the protocols apart.
class TcpEcho final : public Protocol {
 public:
  static constexpr uint32_t kMinPayload = 8;
  static constexpr uint32_t kMaxPayload = 65'536;
  static constexpr uint32_t kDefaultPayload = 64;

  static absl::StatusOr<std::unique_ptr<Protocol>> Create(const v1::TcpOptions& options, uint32_t connections);

  TcpEcho(uint32_t payload_bytes, uint32_t connections);

  bool ordered() const override { return true; }
  bool Begin(uint32_t connection, uint32_t endpoint, std::string* out) override;
  std::span<const std::byte> Request(uint32_t connection, uint64_t id) override;
  void OnReceived(uint32_t connection, std::span<const std::byte> bytes, ProtocolEvents* events) override;
  void End(uint32_t connection) override;
  void Prefetch(uint32_t connection) const override { __builtin_prefetch(&states_[connection], 1); }

 private:
  // How far the echo that is coming in has come.
  struct State {
    uint64_t id = 0;
    uint32_t received = 0;
  };

  std::vector<std::byte> payload_;
  std::vector<State> states_;
};

}  // namespace loadstar::worker
