#include "lib/net/batch_wait.h"

#include <gtest/gtest.h>

namespace loadstar::net {
namespace {

// Feeds windows in which the thread used so much of its core.
class Windows {
 public:
  explicit Windows(BatchWait* wait) : wait_(wait) { wait_->CloseWindow(now_ns_, cpu_ns_); }

  bool Next(double share, int64_t length_ns = BatchWait::kWindow_ns) {
    now_ns_ += length_ns;
    cpu_ns_ += static_cast<int64_t>(share * static_cast<double>(length_ns));
    EXPECT_TRUE(wait_->WindowOver(now_ns_));
    wait_->CloseWindow(now_ns_, cpu_ns_);
    return wait_->waits();
  }

 private:
  BatchWait* wait_;
  int64_t now_ns_ = 5;
  int64_t cpu_ns_ = 77'000'000'000;
};

TEST(BatchWaitTest, WaitsForNoMoreThanAQuarterOfTheSockets) {
  EXPECT_EQ(BatchWait::Completions(0), 1U);
  EXPECT_EQ(BatchWait::Completions(7), 1U);
  EXPECT_EQ(BatchWait::Completions(65), 16U);
  EXPECT_EQ(BatchWait::Completions(256), 64U);
  EXPECT_EQ(BatchWait::Completions(20'000), 64U);
}

TEST(BatchWaitTest, AnIdleLoopNeverWaits) {
  BatchWait wait;
  Windows windows(&wait);
  EXPECT_FALSE(wait.waits());
  for (const double share : {0.0, 0.05, 0.1, 0.24}) EXPECT_FALSE(windows.Next(share)) << share;
}

TEST(BatchWaitTest, ABusyLoopWaitsAndGoesOnWhenThatMakesItLessBusy) {
  BatchWait wait;
  Windows windows(&wait);
  EXPECT_TRUE(windows.Next(0.26));
  EXPECT_TRUE(windows.Next(0.11));
  EXPECT_FALSE(windows.Next(0.09));
  EXPECT_FALSE(windows.Next(0.2));
}

TEST(BatchWaitTest, AWindowIsAsLongAsItWasAndNotAsLongAsItShouldBe) {
  BatchWait wait;
  Windows windows(&wait);
  // A loop that slept for a second after 10 ms of work.
  EXPECT_FALSE(windows.Next(0.01, 1'000'000'000));
  EXPECT_TRUE(windows.Next(0.9, 1'000'000'000));
}

TEST(BatchWaitTest, TheCpuIsOnlyAskedForWhenAWindowIsOver) {
  BatchWait wait;
  EXPECT_TRUE(wait.WindowOver(0));
  wait.CloseWindow(1'000, 0);
  EXPECT_FALSE(wait.WindowOver(1'000 + BatchWait::kWindow_ns - 1));
  EXPECT_TRUE(wait.WindowOver(1'000 + BatchWait::kWindow_ns));
}

}  // namespace
}  // namespace loadstar::net
