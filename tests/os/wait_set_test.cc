#include "lib/os/wait_set.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "lib/os/clock.h"
#include "lib/os/subprocess.h"

namespace loadstar::os {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kLong = 20 * kSecond;

class WaitSetTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(set_.status().ok()) << set_.status(); }
  const std::vector<WaitSet::Event>& Wait(int64_t ns) {
    set_.Wait(MonotonicNs() + ns, &events_);
    return events_;
  }

  WaitSet set_;
  std::vector<WaitSet::Event> events_;
};

TEST_F(WaitSetTest, EndOfAProcessIsToldOnceThoughItIsNotReaped) {
  const auto child = Spawn({.program = "/bin/sh", .arguments = {"-c", "exit 3"}, .environment = {}});
  ASSERT_TRUE(child.ok()) << child.status();
  set_.AddProcess(child->pidfd, 7);
  ASSERT_EQ(Wait(kLong).size(), 1u);
  EXPECT_EQ(events_[0].tag, 7u);
  EXPECT_EQ(PollExit(child->pidfd, false)->number, 3);
  EXPECT_TRUE(Wait(kSecond / 20).empty()) << "a zombie would keep its owner awake";
  EXPECT_EQ(PollExit(child->pidfd, true)->number, 3);
}

TEST_F(WaitSetTest, ProcessThatEndedBeforeItWasAddedIsTold) {
  const auto child = Spawn({.program = "/bin/sh", .arguments = {"-c", "exit 0"}, .environment = {}});
  ASSERT_TRUE(child.ok()) << child.status();
  while (!PollExit(child->pidfd, false)) usleep(1'000);
  set_.AddProcess(child->pidfd, 1);
  EXPECT_EQ(Wait(kLong).size(), 1u);
  EXPECT_TRUE(PollExit(child->pidfd, true)->clean());
}

TEST_F(WaitSetTest, DescriptorIsToldForAsLongAsItIsReady) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const Fd out(ends[0]);
  const Fd in(ends[1]);
  set_.Add(out, 1, EPOLLIN);
  set_.Add(in, 2, 0);
  EXPECT_TRUE(Wait(0).empty());
  ASSERT_EQ(write(in.get(), "x", 1), 1);
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(Wait(kLong).size(), 1u);
    EXPECT_EQ(events_[0].tag, 1u);
  }
  set_.Remove(out);
  EXPECT_TRUE(Wait(0).empty());
  set_.Change(in, 3, EPOLLOUT);
  ASSERT_EQ(Wait(kLong).size(), 1u);
  EXPECT_EQ(events_[0].tag, 3u);
  EXPECT_EQ(events_[0].ready, static_cast<uint32_t>(EPOLLOUT));
}

TEST_F(WaitSetTest, WaitsNoLongerThanItsTime) {
  const int64_t start = MonotonicNs();
  EXPECT_TRUE(Wait(kSecond / 20).empty());
  EXPECT_GE(MonotonicNs() - start, kSecond / 20);
  EXPECT_LT(MonotonicNs() - start, 5 * kSecond);
}

TEST_F(WaitSetTest, OrdersOfManyThreadsArriveEachOnceAndInTheirOrder) {
  constexpr int kThreads = 4;
  constexpr int kOrders = 1'000;
  OrderQueue<std::pair<int, int>> orders(&set_);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&orders, thread] {
      for (int i = 0; i < kOrders; ++i) orders.Post({thread, i});
    });
  }
  std::vector<int> next(kThreads, 0);
  int taken = 0;
  const int64_t until = MonotonicNs() + kLong;
  while (taken < kThreads * kOrders && MonotonicNs() < until) {
    set_.Wait(until, &events_);
    for (const auto& [thread, number] : orders.Take()) {
      EXPECT_EQ(number, next[static_cast<size_t>(thread)]++);
      ++taken;
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken, kThreads * kOrders);
  EXPECT_TRUE(orders.Take().empty());
}

}  // namespace
}  // namespace loadstar::os
