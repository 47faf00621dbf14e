#include "lib/os/stop_signals.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

namespace loadstar::os {
namespace {

TEST(StopSignals, AreTakenByTheOneThatWaitsWhicheverThreadStandsBy) {
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, nullptr, &before);
  {
    const StopSignals signals;
    std::thread other([] { usleep(50'000); });
    for (const int number : {SIGTERM, SIGINT}) {
      ASSERT_EQ(kill(getpid(), number), 0);
      EXPECT_EQ(signals.Wait(), number);
    }
    other.join();
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    close(ends[0]);
    EXPECT_EQ(write(ends[1], "x", 1), -1) << "SIGPIPE would have ended the test";
    close(ends[1]);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  signal(SIGPIPE, SIG_DFL);
}

}  // namespace
}  // namespace loadstar::os
