#include "lib/net/timer_wheel.h"

#include <bit>
#include <cassert>

namespace loadstar::net {

// Invariants, which make expiry exact and in order:
//  1. A key's level is the highest group of 6 bits in which its due tick differs from the current tick, its slot that
//     group's value. So slots at levels above 0 lie strictly after the current tick's own group value, and every key of
//     a lower level is due before every key of a higher one.
//  2. The current tick never moves past the start of an occupied slot without that slot having been emptied: level 0
//     fires, higher levels are dealt out again, in list order. So keys of one due tick are always in the same list, in
//     the order in which they were set.
//  3. A due tick at or before the current one is kept in the current tick's own slot, which every Advance looks at
//     first.
namespace {

constexpr int kGroupBits = 6;

uint32_t Group(int64_t tick, int level) {
  return static_cast<uint32_t>(static_cast<uint64_t>(tick) >> (level * kGroupBits)) & 63U;
}

}  // namespace

TimerWheel::TimerWheel(uint32_t keys, int64_t start_ns, int64_t tick_ns)
    : start_ns_(start_ns), tick_ns_(tick_ns), keys_(keys), nodes_(std::size_t{keys} + kLevels * kSlots) {
  assert(tick_ns > 0);
  for (uint32_t i = 0; i < keys; ++i) {
    nodes_[i].due_tick = kNotSet;
  }
  for (uint32_t head = keys; head < nodes_.size(); ++head) {
    nodes_[head] = {.next = head, .previous = head, .due_tick = kNotSet};
  }
}

void TimerWheel::Set(uint32_t key, int64_t due_ns) {
  Cancel(key);
  int64_t due_tick = 0;
  if (due_ns > start_ns_) {
    // Unsigned: a due time of INT64_MAX must not overflow when it is rounded up.
    const uint64_t delta = static_cast<uint64_t>(due_ns) - static_cast<uint64_t>(start_ns_);
    const uint64_t tick = static_cast<uint64_t>(tick_ns_);
    due_tick = static_cast<int64_t>(delta / tick + (delta % tick != 0 ? 1 : 0));
  }
  Insert(key, due_tick);
}

void TimerWheel::Cancel(uint32_t key) {
  if (IsSet(key)) {
    Unlink(key);
  }
}

bool TimerWheel::IsSet(uint32_t key) const { return nodes_[key].due_tick != kNotSet; }

void TimerWheel::Insert(uint32_t key, int64_t due_tick) {
  if (due_tick < current_tick_) {
    due_tick = current_tick_;
  }
  const uint64_t difference = static_cast<uint64_t>(due_tick) ^ static_cast<uint64_t>(current_tick_);
  const int level = difference == 0 ? 0 : (63 - std::countl_zero(difference)) / kGroupBits;
  const uint32_t slot = Group(due_tick, level);
  const uint32_t head = keys_ + static_cast<uint32_t>(level) * kSlots + slot;
  const uint32_t last = nodes_[head].previous;
  nodes_[key] = {.next = head, .previous = last, .due_tick = due_tick};
  nodes_[last].next = key;
  nodes_[head].previous = key;
  occupied_[level] |= uint64_t{1} << slot;
}

void TimerWheel::Unlink(uint32_t key) {
  Node& node = nodes_[key];
  nodes_[node.previous].next = node.next;
  nodes_[node.next].previous = node.previous;
  node.due_tick = kNotSet;
  if (node.next == node.previous && node.next >= keys_) {  // only the head is left
    const uint32_t list = node.next - keys_;
    occupied_[list / kSlots] &= ~(uint64_t{1} << (list % kSlots));
  }
}

bool TimerWheel::NextSlot(int* level, uint32_t* slot, int64_t* tick) const {
  for (int l = 0; l < kLevels; ++l) {
    const uint32_t here = Group(current_tick_, l);
    uint64_t ahead = occupied_[l] >> here << here;
    if (l > 0) {
      ahead &= ~(uint64_t{1} << here);
    }
    if (ahead == 0) {
      continue;
    }
    *level = l;
    *slot = static_cast<uint32_t>(std::countr_zero(ahead));
    const int above = (l + 1) * kGroupBits;
    const uint64_t base = above < 64 ? static_cast<uint64_t>(current_tick_) >> above << above : 0;
    *tick = static_cast<int64_t>(base | (uint64_t{*slot} << (l * kGroupBits)));
    return true;
  }
  return false;
}

void TimerWheel::Advance(int64_t now_ns, std::vector<uint32_t>* fired) {
  const int64_t now_tick = now_ns <= start_ns_ ? 0 : (now_ns - start_ns_) / tick_ns_;
  int level = 0;
  uint32_t slot = 0;
  int64_t tick = 0;
  // A clock that went back fires only what is in the current slot.
  const int64_t target = now_tick > current_tick_ ? now_tick : current_tick_;
  while (NextSlot(&level, &slot, &tick) && tick <= target) {
    current_tick_ = tick;
    const uint32_t head = keys_ + static_cast<uint32_t>(level) * kSlots + slot;
    uint32_t key = nodes_[head].next;
    nodes_[head].next = nodes_[head].previous = head;
    occupied_[level] &= ~(uint64_t{1} << slot);
    while (key != head) {
      const Node node = nodes_[key];
      if (level == 0) {
        nodes_[key].due_tick = kNotSet;
        fired->push_back(key);
      } else {
        Insert(key, node.due_tick);
      }
      key = node.next;
    }
  }
  current_tick_ = target;
}

int64_t TimerWheel::NextDue() const {
  int level = 0;
  uint32_t slot = 0;
  int64_t tick = 0;
  if (!NextSlot(&level, &slot, &tick)) {
    return INT64_MAX;
  }
  const int64_t ticks_max = (INT64_MAX - start_ns_) / tick_ns_;
  return tick >= ticks_max ? INT64_MAX - 1 : start_ns_ + tick * tick_ns_;
}

}  // namespace loadstar::net
