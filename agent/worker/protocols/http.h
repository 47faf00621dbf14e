#pragma once

#include <bitset>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/worker/protocols/protocol.h"
#include "lib/http/response_reader.h"

namespace loadstar::worker {

// HTTP/1.1: one request, rendered once for each endpoint, again and again, pipelined as far as the test allows. Answers
// come in the order of requests. A status that is not expected fails its request; an answer that cannot be told apart,
// or that nobody asked for, breaks the connection.
class Http final : public Protocol {
 public:
  static absl::StatusOr<std::unique_ptr<Protocol>> Create(const v1::WorkerPlan& plan, uint32_t connections);

  bool ordered() const override { return true; }
  bool Begin(uint32_t connection, uint32_t endpoint, std::string* out) override;
  std::span<const std::byte> Request(uint32_t connection, uint64_t id) override;
  void OnReceived(uint32_t connection, std::span<const std::byte> bytes, ProtocolEvents* events) override;
  void OnPeerClosed(uint32_t connection, ProtocolEvents* events) override;
  void End(uint32_t connection) override;
  void Prefetch(uint32_t connection) const override { __builtin_prefetch(&states_[connection], 1); }

 private:
  struct State {
    http::ResponseReader reader;
    uint32_t endpoint = 0;
  };
  static_assert(sizeof(State) == 32);

  Http(const v1::WorkerPlan& plan, uint32_t connections);
  // An answer is complete. False when the connection has ended.
  bool Answered(const http::ResponseReader& reader, ProtocolEvents* events) const;

  static constexpr size_t kStatuses = 1000;

  std::vector<std::string> requests_;  // by endpoint
  std::bitset<kStatuses> expected_;
  bool head_;   // the method is HEAD
  bool close_;  // the test asks for "Connection: close"
  std::vector<State> states_;
};

}  // namespace loadstar::worker
