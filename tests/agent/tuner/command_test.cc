#include "agent/tuner/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/os/clock.h"

namespace loadstar::agent {
namespace {

using ::testing::HasSubstr;

TEST(CommandTest, ItsEndAndWhatItPrintedAreTold) {
  const CommandRunner run = MakeCommandRunner(std::chrono::seconds(20));
  const auto result = run({"sh", "-c", "echo one; echo two >&2; exit 3"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->code, 3);
  EXPECT_EQ(result->output, "one\ntwo\n");
  EXPECT_EQ(run({"sh", "-c", "kill -9 $$"})->code, 128 + 9);
}

TEST(CommandTest, WhatPrintsMuchEndsAndItsBeginningIsKept) {
  const auto result = MakeCommandRunner(std::chrono::seconds(20))({"head", "-c", "1000000", "/dev/zero"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->code, 0);
  EXPECT_EQ(result->output.size(), size_t{64} * 1024);
}

TEST(CommandTest, AProgramThatIsNotThereIsNamed) {
  const auto result = MakeCommandRunner(std::chrono::seconds(20))({"no-such-program"});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("no-such-program"));
  EXPECT_FALSE(MakeCommandRunner(std::chrono::seconds(20))({"/no/such/program"}).ok());
}

TEST(CommandTest, WhatTakesTooLongIsKilledWithItsChildren) {
  const int64_t began = os::MonotonicNs();
  const auto result = MakeCommandRunner(std::chrono::seconds(1))({"sh", "-c", "sleep 60; true"});
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded) << result.status();
  EXPECT_LT(os::MonotonicNs() - began, int64_t{20} * 1'000'000'000);
}

TEST(CommandTest, WhatItLeavesRunningIsNotWaitedFor) {
  const int64_t began = os::MonotonicNs();
  const auto result = MakeCommandRunner(std::chrono::seconds(20))({"sh", "-c", "sleep 5 & echo done"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->output, "done\n");
  EXPECT_LT(os::MonotonicNs() - began, int64_t{4} * 1'000'000'000);
}

}  // namespace
}  // namespace loadstar::agent
