#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace loadstar::net {

// Bytes that wait, in order: for the kernel to take them, or for a paused owner. One pointer while empty: memory is
// taken with the first byte and given back with the last, so that idle sockets cost nothing.
class ByteQueue {
 public:
  ByteQueue();
  ~ByteQueue();
  ByteQueue(ByteQueue&&) noexcept;
  ByteQueue& operator=(ByteQueue&&) noexcept;

  bool empty() const { return buffer_ == nullptr; }
  size_t size() const;
  // All of them in one piece.
  std::span<const std::byte> front() const;
  void Append(std::span<const std::byte> bytes);
  // Forgets the first n bytes.
  void Consume(size_t n);
  void Clear();

 private:
  struct Buffer;
  std::unique_ptr<Buffer> buffer_;
};

}  // namespace loadstar::net
