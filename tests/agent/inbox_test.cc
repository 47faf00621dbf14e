#include "agent/inbox.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "lib/os/clock.h"

namespace loadstar::agent {
namespace {

TEST(Inbox, KeepsOrderAndReturnsAtItsTime) {
  Inbox inbox(10);
  EXPECT_TRUE(inbox.Push(SessionUp{}));
  EXPECT_TRUE(inbox.TryPush(SessionDown{}));
  std::vector<Input> inputs;
  EXPECT_TRUE(inbox.Take(INT64_MAX, &inputs));
  ASSERT_EQ(inputs.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<SessionUp>(inputs[0]));
  EXPECT_TRUE(std::holds_alternative<SessionDown>(inputs[1]));
  const int64_t until = os::MonotonicNs() + 20'000'000;
  EXPECT_TRUE(inbox.Take(until, &inputs));
  EXPECT_TRUE(inputs.empty());
  EXPECT_GE(os::MonotonicNs(), until);
}

TEST(Inbox, FullMakesProducersWaitAndRefusesThoseThatMayNot) {
  Inbox inbox(1);
  EXPECT_TRUE(inbox.Push(Tick{}));
  EXPECT_FALSE(inbox.TryPush(Tick{}));
  std::thread producer([&] { EXPECT_TRUE(inbox.Push(SessionUp{})); });
  std::vector<Input> inputs;
  EXPECT_TRUE(inbox.Take(INT64_MAX, &inputs));
  EXPECT_EQ(inputs.size(), 1u);
  EXPECT_TRUE(inbox.Take(INT64_MAX, &inputs));
  EXPECT_EQ(inputs.size(), 1u);
  producer.join();
}

TEST(Inbox, CloseEndsEveryWait) {
  Inbox inbox(1);
  EXPECT_TRUE(inbox.Push(Tick{}));
  std::thread producer([&] { EXPECT_FALSE(inbox.Push(Tick{})); });
  inbox.Close();
  producer.join();
  std::vector<Input> inputs;
  EXPECT_FALSE(inbox.Take(INT64_MAX, &inputs));
  EXPECT_FALSE(inbox.TryPush(Tick{}));
}

}  // namespace
}  // namespace loadstar::agent
