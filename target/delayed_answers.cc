#include "target/delayed_answers.h"

#include <algorithm>

namespace loadstar::target {

bool DelayedAnswers::Push(net::SocketId id, int64_t due_ns, std::string_view bytes) {
  if (total_ + bytes.size() > limit_) {
    return false;
  }
  Queue& queue = queues_[id];
  if (queue.pieces.empty()) {
    heads_.emplace(due_ns, id);
  } else {
    due_ns = std::max(due_ns, queue.pieces.back().due_ns);
  }
  queue.pieces.push_back({due_ns, std::string(bytes)});
  queue.bytes += bytes.size();
  total_ += bytes.size();
  return true;
}

size_t DelayedAnswers::Bytes(net::SocketId id) const {
  const auto found = queues_.find(id);
  return found == queues_.end() ? 0 : found->second.bytes;
}

void DelayedAnswers::Forget(net::SocketId id) {
  const auto found = queues_.find(id);
  if (found == queues_.end()) {
    return;
  }
  total_ -= found->second.bytes;
  heads_.erase({found->second.pieces.front().due_ns, id});
  queues_.erase(found);
}

void DelayedAnswers::Release(int64_t now_ns, const std::function<void(net::SocketId, std::string_view)>& send) {
  while (!heads_.empty() && heads_.begin()->first <= now_ns) {
    const net::SocketId id = heads_.begin()->second;
    heads_.erase(heads_.begin());
    const auto found = queues_.find(id);
    Queue& queue = found->second;
    const Piece piece = std::move(queue.pieces.front());
    queue.pieces.pop_front();
    queue.bytes -= piece.bytes.size();
    total_ -= piece.bytes.size();
    if (queue.pieces.empty()) {
      queues_.erase(found);
    } else {
      heads_.emplace(queue.pieces.front().due_ns, id);
    }
    send(id, piece.bytes);
  }
}

}  // namespace loadstar::target
