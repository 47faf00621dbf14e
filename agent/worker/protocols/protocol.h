// What the bytes on a connection mean. A protocol writes requests and reads answers; it knows no sockets, no clock and
// no schedule, so each is tested with strings alone. A new protocol is a new file here and a line in protocol.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/worker/errors.h"
#include "loadstar/v1/worker.pb.h"

namespace loadstar::worker {

// Told what a protocol read. A method that returns false has ended the connection: the protocol must return at once and
// forget what is left of the bytes.
class ProtocolEvents {
 public:
  virtual ~ProtocolEvents() = default;
  // The handshake is over: requests may be sent. Once for each Begin that returned false, and never within Begin.
  virtual bool OnReady() = 0;
  // An answer to the request with this id: a success, or a failure of the given kind. The receiver decides what an id
  // means that is not (or no longer) outstanding.
  virtual bool OnAnswer(uint64_t id) = 0;
  virtual bool OnErrorAnswer(uint64_t id, const Failure& failure) = 0;
  // The request that has been in flight longest, or 0: whose answer comes next when answers come in order.
  virtual uint64_t OldestInFlight() const = 0;
  // Bytes to send besides requests.
  virtual bool OnSend(std::span<const std::byte> bytes) = 0;
  // The far side broke the protocol; `detail` says how. Ends the connection.
  virtual void OnBroken(const char* detail) = 0;
  // The far side ends this connection by agreement: it has answered what it will answer. Ends the connection; requests
  // that are still in flight on it fail as closed by the far side.
  virtual void OnLast() = 0;
};

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
inline std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// One object serves all connections of a worker; `connection` is the worker's local number, below the count that it was
// made for. State of a connection begins with Begin and ends with End.
class Protocol {
 public:
  virtual ~Protocol() = default;

  // True when answers come in the order of requests and a request that is given up makes the connection useless (its
  // answer could not be told from the next one). False: answers are matched by id, late ones are ignored.
  virtual bool ordered() const = 0;
  // A connection to that endpoint of the plan was established. Appends what has to be sent first to *out. True:
  // requests may be sent at once.
  virtual bool Begin(uint32_t connection, uint32_t endpoint, std::string* out) = 0;
  // The bytes of a request; valid until the next call. Ids only ever grow on one connection.
  virtual std::span<const std::byte> Request(uint32_t connection, uint64_t id) = 0;
  // The bytes that ask an idle connection for a sign of life, answered as a request is; valid until the next call. The
  // test's own request, where the protocol has no better.
  virtual std::span<const std::byte> Heartbeat(uint32_t connection, uint64_t id) { return Request(connection, id); }
  // Bytes arrived.
  virtual void OnReceived(uint32_t connection, std::span<const std::byte> bytes, ProtocolEvents* events) = 0;
  // The far side closed the connection in order, and nothing can be sent any more. Where that completes an answer, the
  // protocol says so and calls OnLast; else it does nothing, and the connection is lost.
  virtual void OnPeerClosed(uint32_t connection, ProtocolEvents* events);
  // The connection is gone; its memory is given back.
  virtual void End(uint32_t connection) = 0;
  // See net::SocketHandler: asks for what OnReceived is going to touch.
  virtual void Prefetch(uint32_t /*connection*/) const {}
};

// The protocol of a plan. `connections`: local numbers are below this. An error says which setting is wrong.
absl::StatusOr<std::unique_ptr<Protocol>> MakeProtocol(const v1::WorkerPlan& plan, uint32_t connections);

}  // namespace loadstar::worker
