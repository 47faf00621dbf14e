#include "target/delayed_answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace loadstar::target {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Release(DelayedAnswers* answers, int64_t now_ns) {
  std::vector<std::string> sent;
  answers->Release(now_ns, [&](net::SocketId id, std::string_view bytes) {
    sent.push_back(std::to_string(id) + ":" + std::string(bytes));
  });
  return sent;
}

TEST(DelayedAnswersTest, LeaveWhenDueNotBefore) {
  DelayedAnswers answers(1000);
  EXPECT_TRUE(answers.Push(1, 100, "a"));
  EXPECT_TRUE(answers.Push(2, 50, "b"));
  EXPECT_EQ(answers.NextDue(), 50);
  EXPECT_THAT(Release(&answers, 49), IsEmpty());
  EXPECT_THAT(Release(&answers, 100), ElementsAre("2:b", "1:a"));
  EXPECT_EQ(answers.NextDue(), INT64_MAX);
  EXPECT_FALSE(answers.Holds(1));
}

TEST(DelayedAnswersTest, OrderOnAConnectionStaysWhenTheDelayShrinks) {
  DelayedAnswers answers(1000);
  answers.Push(1, 100, "first");
  answers.Push(1, 10, "second");
  answers.Push(2, 10, "other");
  EXPECT_THAT(Release(&answers, 50), ElementsAre("2:other"));
  EXPECT_THAT(Release(&answers, 100), ElementsAre("1:first", "1:second"));
}

TEST(DelayedAnswersTest, TheBoundHoldsOverAllConnectionsAndIsGivenBack) {
  DelayedAnswers answers(10);
  EXPECT_TRUE(answers.Push(1, 1, "12345"));
  EXPECT_TRUE(answers.Push(2, 1, "12345"));
  EXPECT_FALSE(answers.Push(3, 1, "1"));
  EXPECT_FALSE(answers.Holds(3));
  answers.Forget(1);
  EXPECT_TRUE(answers.Push(3, 1, "12345"));
  EXPECT_EQ(answers.Bytes(3), 5U);
  EXPECT_THAT(Release(&answers, 1), ElementsAre("2:12345", "3:12345"));
  EXPECT_TRUE(answers.Push(4, 1, "1234567890"));
}

TEST(DelayedAnswersTest, ForgettingInsideReleaseIsSafe) {
  DelayedAnswers answers(1000);
  answers.Push(1, 1, "a");
  answers.Push(1, 2, "b");
  answers.Push(2, 3, "c");
  int sent = 0;
  answers.Release(10, [&](net::SocketId, std::string_view) {
    ++sent;
    answers.Forget(1);
    answers.Forget(2);
  });
  EXPECT_EQ(sent, 1);
  EXPECT_EQ(answers.NextDue(), INT64_MAX);
}

}  // namespace
}  // namespace loadstar::target
