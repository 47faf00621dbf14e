#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "lib/net/loop.h"
#include "target/delayed_answers.h"
#include "target/http.h"
#include "target/json_rpc.h"
#include "target/line_splitter.h"
#include "target/shared_state.h"

namespace loadstar::target {

enum class Protocol : uint8_t {
  kAuto,    // by the first byte of each connection: '{' is mcp-tcp, an upper-case letter http, all else tcp
  kTcp,     // echo
  kMcpTcp,  // newline-delimited JSON-RPC 2.0
  kHttp,    // HTTP/1.1, and JSON-RPC 2.0 in its POSTs
};

struct NodeServerOptions {
  net::Address listen;
  int backlog = 4096;
  uint32_t max_sockets = 1024;  // as the loop has
  std::string name;
  Protocol protocol = Protocol::kAuto;
  // Echo: bytes of one request, by which requests are counted. 0: not known, every piece received counts as one.
  uint32_t tcp_payload = 0;
  uint32_t http_body = 100;  // bytes of the body of a plain answer
  uint32_t process_index = 0;
};

// What one process serves on the listener: accepts, detects the protocol, answers, counts, and misbehaves as POST
// /fault says. Lives in one loop and its thread. A connection that sits idle costs 24 bytes here, and one that speaks
// HTTP an HttpConnection more.
//
// Back-pressure: a connection is not read while answers of it wait for the kernel or, beyond a bound, for the delay
// fault; so a client that does not read cannot make this process grow.
class NodeServer final : public net::SocketHandler {
 public:
  static constexpr size_t kLineMax = 1024 * 1024;
  // A client that does not read its answers is not read from while more than this waits for it.
  static constexpr size_t kPauseAtQueued = size_t{256} * 1024;
  // What the loop has to be made with: a full receive buffer of the shortest requests, or one longest line, makes at
  // most this many bytes of answers, so Send never refuses a connection that reads.
  static constexpr size_t kSendQueueLimit = 16 * 1024 * 1024;
  static constexpr size_t kReceiveBuffer = 64 * 1024;

  NodeServer(net::Loop* loop, ProcessCells* cells, const FaultCells* faults, NodeServerOptions options);

  // Takes over the faults that are on now; opens or closes the listener accordingly.
  absl::Status ApplyFaults();
  // Sends the delayed answers that are due; returns when it wants to be called again.
  int64_t ReleaseDelayed(int64_t now_ns);

  net::SocketHandler::Accepted OnAccepted(uint64_t tag, net::SocketId id) override;
  void OnAcceptFailed(uint64_t tag, int error) override;
  void OnReceived(uint64_t tag, net::SocketId id, std::span<const std::byte> bytes) override;
  void OnDrained(uint64_t tag, net::SocketId id) override;
  void OnClosed(uint64_t tag, net::SocketId id, int error) override;

 private:
  struct Connection {
    LineSplitter lines;
    std::unique_ptr<HttpConnection> http;
    uint32_t payload_bytes = 0;  // of an echoed request that has not come in full
    Protocol protocol = Protocol::kAuto;
    bool open = false;
  };
  static_assert(sizeof(Connection) == 24);

  // True while the connection is to live on.
  bool Echo(net::SocketId id, std::string_view bytes);
  bool AnswerLines(net::SocketId id, std::string_view bytes);
  bool AnswerLine(std::string_view line);
  void ServeHttp(net::SocketId id, std::string_view bytes);
  // The connection may be read again: requests that have waited for it are served.
  void ResumeHttp(net::SocketId id);
  void Deliver(net::SocketId id);
  int64_t DealDelay();
  bool SendNow(net::SocketId id, std::string_view bytes);
  bool IsBehind(net::SocketId id) const;
  void UpdateReading(net::SocketId id);
  void Overload(net::SocketId id);
  void CloseConnection(net::SocketId id);
  void Forget(net::SocketId id);

  net::Loop* const loop_;
  ProcessCells* const cells_;
  const FaultCells* const faults_;
  const NodeServerOptions options_;
  JsonRpc rpc_;
  RequestFaults request_faults_;
  Http http_;
  int64_t delay_ns_ = 0;
  DelayDice delays_;
  uint64_t dealt_ = 0;  // requests, as the cells count them, that have had their delay from it
  net::SocketId listener_ = net::kNoSocket;
  std::vector<Connection> connections_;  // by socket id
  DelayedAnswers delayed_;
  std::vector<net::SocketId> released_;  // connections to which delayed answers were sent in this turn
  std::string answers_;                  // of the bytes being worked on
  int64_t next_accept_log_ns_ = 0;
};

}  // namespace loadstar::target
