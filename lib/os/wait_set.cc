#include "lib/os/wait_set.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>

#include "lib/os/clock.h"

namespace loadstar::os {
namespace {

constexpr uint64_t kWakeTag = UINT64_MAX;
constexpr int kEventsAtOnce = 64;

void Control(const Fd& epoll, int operation, const Fd& fd, uint64_t tag, uint32_t events) {
  epoll_event event{.events = events, .data = {.u64 = tag}};
  epoll_ctl(epoll.get(), operation, fd.get(), &event);
}

}  // namespace

WaitSet::WaitSet() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_) wake_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_ || !wake_) {
    status_ = absl::ErrnoToStatus(errno, "cannot wait for processes and orders");
    return;
  }
  Add(wake_, kWakeTag, EPOLLIN);
}

void WaitSet::Add(const Fd& fd, uint64_t tag, uint32_t events) { Control(epoll_, EPOLL_CTL_ADD, fd, tag, events); }
void WaitSet::Change(const Fd& fd, uint64_t tag, uint32_t events) { Control(epoll_, EPOLL_CTL_MOD, fd, tag, events); }
void WaitSet::AddProcess(const Fd& pidfd, uint64_t tag) { Add(pidfd, tag, EPOLLIN | EPOLLONESHOT); }
void WaitSet::Remove(const Fd& fd) { Control(epoll_, EPOLL_CTL_DEL, fd, 0, 0); }

void WaitSet::Wait(int64_t until_ns, std::vector<Event>* events) {
  events->clear();
  const int64_t left = until_ns - MonotonicNs();
  epoll_event ready[kEventsAtOnce];
  const int count = epoll_wait(epoll_.get(), ready, kEventsAtOnce,
                               left <= 0 ? 0 : static_cast<int>(std::min<int64_t>(left / 1'000'000 + 1, 60'000)));
  for (int i = 0; i < count; ++i) {
    if (ready[i].data.u64 != kWakeTag) {
      events->push_back({.tag = ready[i].data.u64, .ready = ready[i].events});
      continue;
    }
    uint64_t times = 0;
    if (read(wake_.get(), &times, sizeof times) < 0) continue;
  }
}

void WaitSet::Wake() {
  const uint64_t one = 1;
  if (write(wake_.get(), &one, sizeof one) < 0) return;  // full: it is awake anyway
}

}  // namespace loadstar::os
