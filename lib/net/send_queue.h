#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace loadstar::net {

// Bytes that the kernel would not take yet, in order. One pointer while empty: memory is taken with the first byte and
// given back with the last, so that idle sockets cost nothing.
class SendQueue {
 public:
  SendQueue();
  ~SendQueue();
  SendQueue(SendQueue&&) noexcept;
  SendQueue& operator=(SendQueue&&) noexcept;

  bool empty() const { return buffer_ == nullptr; }
  size_t size() const;
  // The bytes to send next; all of them in one piece.
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
