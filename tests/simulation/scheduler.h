// Simulated time: events in order of their instants, those of one instant in order of their making.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

namespace loadstar::simulation {

inline constexpr int64_t kMs = 1'000'000;
inline constexpr int64_t kSecond = 1'000'000'000;

class Scheduler {
 public:
  int64_t now() const { return now_; }
  void At(int64_t time, std::function<void()> what) {
    events_.push({time < now_ ? now_ : time, next_++, std::move(what)});
  }
  void After(int64_t delay, std::function<void()> what) { At(now_ + delay, std::move(what)); }
  void RunUntil(int64_t time) {
    while (!events_.empty() && events_.top().time <= time) {
      // top() is const; the event is popped right after, so moving out of it is sound.
      Event event = std::move(const_cast<Event&>(events_.top()));
      events_.pop();
      now_ = event.time;
      event.what();
    }
    now_ = time;
  }

 private:
  struct Event {
    int64_t time;
    uint64_t number;
    std::function<void()> what;
    bool operator<(const Event& other) const { return time != other.time ? time > other.time : number > other.number; }
  };
  int64_t now_ = 0;
  uint64_t next_ = 0;
  std::priority_queue<Event> events_;
};

}  // namespace loadstar::simulation
