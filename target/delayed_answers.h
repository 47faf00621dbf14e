#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "lib/net/loop.h"

namespace loadstar::target {

// Answers that the delay fault holds back. On each connection they leave in the order in which they came, even when the
// delay was shortened meanwhile. Bounded by `limit` bytes over all connections. Owned by the loop's thread; has no
// clock and no timer of its own.
class DelayedAnswers {
 public:
  explicit DelayedAnswers(size_t limit) : limit_(limit) {}

  // False when the bound is reached: nothing is kept then.
  bool Push(net::SocketId id, int64_t due_ns, std::string_view bytes);
  // True when answers of this connection wait: a new one has to queue behind them.
  bool Holds(net::SocketId id) const { return queues_.contains(id); }
  size_t Bytes(net::SocketId id) const;
  void Forget(net::SocketId id);
  // Hands out what is due, in order. `send` may call Forget, for any connection, but not Push.
  void Release(int64_t now_ns, const std::function<void(net::SocketId, std::string_view)>& send);
  // INT64_MAX when nothing waits.
  int64_t NextDue() const { return heads_.empty() ? INT64_MAX : heads_.begin()->first; }

 private:
  struct Piece {
    int64_t due_ns;
    std::string bytes;
  };
  struct Queue {
    std::deque<Piece> pieces;
    size_t bytes = 0;
  };

  const size_t limit_;
  size_t total_ = 0;
  std::unordered_map<net::SocketId, Queue> queues_;
  std::set<std::pair<int64_t, net::SocketId>> heads_;  // when the first piece of each queue is due
};

}  // namespace loadstar::target
