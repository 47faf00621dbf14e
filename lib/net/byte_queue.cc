#include "lib/net/byte_queue.h"

#include <cassert>
#include <vector>

namespace loadstar::net {

struct ByteQueue::Buffer {
  std::vector<std::byte> bytes;
  size_t head = 0;  // bytes before it were consumed
};

ByteQueue::ByteQueue() = default;
ByteQueue::~ByteQueue() = default;
ByteQueue::ByteQueue(ByteQueue&&) noexcept = default;
ByteQueue& ByteQueue::operator=(ByteQueue&&) noexcept = default;

size_t ByteQueue::size() const { return buffer_ ? buffer_->bytes.size() - buffer_->head : 0; }

std::span<const std::byte> ByteQueue::front() const {
  return buffer_ ? std::span<const std::byte>(buffer_->bytes).subspan(buffer_->head) : std::span<const std::byte>();
}

void ByteQueue::Append(std::span<const std::byte> bytes) {
  if (bytes.empty()) {
    return;
  }
  if (!buffer_) {
    buffer_ = std::make_unique<Buffer>();
  }
  // Compacts only when more than half is dead, so that every byte is moved a constant number of times.
  if (buffer_->head > buffer_->bytes.size() / 2) {
    buffer_->bytes.erase(buffer_->bytes.begin(), buffer_->bytes.begin() + static_cast<std::ptrdiff_t>(buffer_->head));
    buffer_->head = 0;
  }
  buffer_->bytes.insert(buffer_->bytes.end(), bytes.begin(), bytes.end());
}

void ByteQueue::Consume(size_t n) {
  assert(n <= size());
  if (n == size()) {
    buffer_.reset();
  } else {
    buffer_->head += n;
  }
}

void ByteQueue::Clear() { buffer_.reset(); }

}  // namespace loadstar::net
