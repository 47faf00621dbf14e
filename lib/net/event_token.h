#pragma once

#include <cstdint>

namespace loadstar::net {

// What a kernel event carries back to say which socket it is about. The one place where it is packed and unpacked.
//
//   bits 63..32  generation  how often the slot was taken; an event of an earlier owner of the slot does not match
//   bits 31..0   index       slot in the socket table (the SocketId)
//
// A stale event can pass only if one slot is reused 2^32 times between two reads of the kernel's queue.
struct EventToken {
  uint32_t index = 0;
  uint32_t generation = 0;

  static constexpr EventToken Decode(uint64_t bits) {
    return {static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32)};
  }
  [[nodiscard]] constexpr uint64_t Encode() const { return (uint64_t{generation} << 32) | index; }
};

static_assert(EventToken::Decode(EventToken{7, 9}.Encode()).index == 7);
static_assert(EventToken::Decode(EventToken{7, 9}.Encode()).generation == 9);

}  // namespace loadstar::net
