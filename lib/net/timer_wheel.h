#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace loadstar::net {

// A hierarchical timing wheel over dense integer keys (connection numbers and the like): each key has at most one due
// time. Memory is taken once, 16 bytes a key; set, cancel and expiry are O(1) amortised. Expiry order is by tick, then
// by order of setting; a key never fires early and at most one tick (`tick_ns`) late by the wheel's own doing.
class TimerWheel {
 public:
  // keys: number of keys; tick_ns: resolution, a power of two is fastest (default 2^17 ns = 131 us).
  explicit TimerWheel(uint32_t keys, int64_t start_ns, int64_t tick_ns = 1 << 17);

  void Set(uint32_t key, int64_t due_ns);  // replaces an earlier due time; in the past: fires at the next Advance
  void Cancel(uint32_t key);               // no-op when not set
  bool IsSet(uint32_t key) const;
  // Appends every key due at or before now_ns to *fired and forgets it.
  void Advance(int64_t now_ns, std::vector<uint32_t>* fired);
  // A lower bound of the next due time, exact to one level's slot; INT64_MAX when nothing is set.
  int64_t NextDue() const;

 private:
  // 11 groups of 6 bits hold any tick that 64 bits can say, so nothing overflows, whatever the tick's length.
  static constexpr int kLevels = 11;
  static constexpr uint32_t kSlots = 64;
  static constexpr int64_t kNotSet = -1;
  struct Node {
    uint32_t next, previous;
    int64_t due_tick;  // kNotSet: in no list
  };
  static_assert(sizeof(Node) == 16);

  void Insert(uint32_t key, int64_t due_tick);
  void Unlink(uint32_t key);
  // The first occupied slot at or after the current tick and the tick at which it begins; false: nothing is set.
  bool NextSlot(int* level, uint32_t* slot, int64_t* tick) const;

  int64_t start_ns_, tick_ns_;
  int64_t current_tick_ = 0;
  uint32_t keys_;
  std::vector<Node> nodes_;  // keys, then kLevels * kSlots list heads
  uint64_t occupied_[kLevels] = {};
};

}  // namespace loadstar::net
