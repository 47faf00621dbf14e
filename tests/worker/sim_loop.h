// A net::Loop without a kernel: simulated time, simulated peers. Nothing happens but what a test scripts, so twenty
// seconds of load take milliseconds and every figure is exact.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "lib/net/loop.h"

namespace loadstar::worker {

class SimLoop;

// The far side of every connection of a SimLoop. `id` is the client's socket.
class SimPeer {
 public:
  virtual ~SimPeer() = default;
  // What becomes of a connect: 0 or an errno, and after how long. Negative time: nothing ever.
  struct Connect {
    int error = 0;
    int64_t after_ns = 50'000;
  };
  virtual Connect OnConnect(SimLoop* /*loop*/, const std::string& /*endpoint*/, const std::string& /*source*/) {
    return {};
  }
  virtual void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) = 0;
};

class SimLoop final : public net::Loop {
 public:
  explicit SimLoop(SimPeer* peer) : peer_(peer) { now_ns_ = Clock() = kEpoch; }

  static constexpr int64_t kEpoch = 1'000'000'000'000;
  static int64_t& Clock() {
    static int64_t now = kEpoch;
    return now;
  }
  static int64_t ReadSimClock() { return Clock(); }

  // Script: calls `what` after a delay.
  void After(int64_t delay_ns, std::function<void()> what) {
    events_.push({Clock() + delay_ns, sequence_++, std::move(what)});
  }
  // The peer answers, or ends the connection, after a delay. Nothing happens to a socket that is gone by then.
  void Answer(net::SocketId id, int64_t delay_ns, std::string bytes) {
    OnOpen(id, delay_ns, [this, bytes = std::move(bytes)](net::SocketId to) {
      const Socket socket = sockets_.at(to);
      socket.handler->OnReceived(socket.tag, to, std::as_bytes(std::span(bytes)));
    });
  }
  void End(net::SocketId id, int64_t delay_ns, int error) {
    OnOpen(id, delay_ns, [this, error](net::SocketId to) {
      const Socket socket = sockets_.at(to);
      sockets_.erase(to);
      socket.handler->OnClosed(socket.tag, to, error);
    });
  }
  // From now on connect() itself fails, as without descriptors; 0: no more.
  void FailConnects(int error) { connect_error_ = error; }
  // How long the loop pauses before it looks again, as a busy machine would make it.
  void Pause(int64_t ns) { Clock() += ns; }

  size_t open() const { return sockets_.size(); }
  size_t open_to(const std::string& endpoint) const {
    size_t count = 0;
    for (const auto& [id, socket] : sockets_) count += socket.endpoint == endpoint ? 1 : 0;
    return count;
  }
  size_t closes() const { return closes_; }
  size_t resets() const { return resets_; }
  // Of the latest connect.
  const std::optional<net::Keepalive>& keepalive() const { return keepalive_; }

  std::string backend() const override { return "simulated"; }
  std::string backend_reason() const override { return ""; }
  bool Connect(const net::ConnectOptions& options, net::SocketId* id, int* error) override {
    if (connect_error_ != 0) {
      *error = connect_error_;
      return false;
    }
    *id = next_id_++;
    keepalive_ = options.keepalive != nullptr ? std::optional(*options.keepalive) : std::nullopt;
    const std::string endpoint = net::ToString(*options.peer);
    sockets_[*id] = {options.handler, options.tag, endpoint, false};
    const SimPeer::Connect fate =
        peer_->OnConnect(this, endpoint, options.source != nullptr ? net::ToString(*options.source) : "");
    if (fate.after_ns < 0) return true;
    After(fate.after_ns, [this, to = *id, failure = fate.error] {
      const auto found = sockets_.find(to);
      if (found == sockets_.end()) return;
      const Socket socket = found->second;
      found->second.connected = true;
      if (failure != 0) sockets_.erase(to);
      socket.handler->OnConnected(socket.tag, to, failure);
    });
    return true;
  }
  absl::StatusOr<net::SocketId> Listen(const net::Address&, bool, int, net::SocketHandler*, uint64_t) override {
    return absl::UnimplementedError("simulated");
  }
  absl::StatusOr<net::SocketId> Adopt(int, net::SocketHandler*, uint64_t) override {
    return absl::UnimplementedError("simulated");
  }
  absl::StatusOr<net::Address> LocalAddress(net::SocketId) const override {
    return absl::UnimplementedError("simulated");
  }
  bool Send(net::SocketId id, std::span<const std::byte> bytes) override {
    if (sockets_.count(id) == 0) return false;
    peer_->OnBytes(this, id, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    return true;
  }
  size_t QueuedBytes(net::SocketId) const override { return 0; }
  void PauseReceive(net::SocketId) override {}
  void ResumeReceive(net::SocketId) override {}
  void Close(net::SocketId id) override { closes_ += sockets_.erase(id); }
  void Reset(net::SocketId id) override { resets_ += sockets_.erase(id); }
  void FinishSending(net::SocketId) override {}
  void SetTickHandler(net::TickHandler* handler) override { tick_ = handler; }
  void RunOnce(int64_t max_wait_ns) override {
    now_ns_ = Clock();
    int64_t until = now_ns_ + max_wait_ns;
    if (tick_ != nullptr) until = std::min(until, tick_->OnTick(now_ns_));
    if (!events_.empty()) until = std::min(until, events_.top().at_ns);
    Clock() = std::max(Clock(), until);
    now_ns_ = Clock();
    while (!events_.empty() && events_.top().at_ns <= now_ns_) {
      const std::function<void()> what = events_.top().what;
      events_.pop();
      what();
    }
  }

 private:
  struct Socket {
    net::SocketHandler* handler;
    uint64_t tag;
    std::string endpoint;
    bool connected;
  };
  struct Event {
    int64_t at_ns;
    uint64_t sequence;
    std::function<void()> what;
    bool operator<(const Event& other) const {  // the earliest is the greatest
      return std::pair(at_ns, sequence) > std::pair(other.at_ns, other.sequence);
    }
  };

  template <typename What>
  void OnOpen(net::SocketId id, int64_t delay_ns, What what) {
    After(delay_ns, [this, id, what] {
      const auto found = sockets_.find(id);
      if (found != sockets_.end() && found->second.connected) what(id);
    });
  }

  SimPeer* const peer_;
  net::TickHandler* tick_ = nullptr;
  std::map<net::SocketId, Socket> sockets_;
  net::SocketId next_id_ = 0;
  std::priority_queue<Event> events_;
  uint64_t sequence_ = 0;
  int connect_error_ = 0;
  std::optional<net::Keepalive> keepalive_;
  size_t closes_ = 0;
  size_t resets_ = 0;
};

}  // namespace loadstar::worker
