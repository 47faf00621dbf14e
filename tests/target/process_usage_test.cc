#include "target/process_usage.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace loadstar::target {
namespace {

TEST(ProcessUsageTest, CpuTicksAreReadBehindAnyName) {
  const char* rest = " S 1 2 3 4 5 6 7 8 9 10 111 222 13 14 20 0 1 0 5\n";
  EXPECT_EQ(ParseCpuTicks(std::string("42 (target)") + rest), 333U);
  EXPECT_EQ(ParseCpuTicks(std::string("42 (a) b (c)") + rest), 333U);
  EXPECT_FALSE(ParseCpuTicks("42 (target) S 1 2"));
  EXPECT_FALSE(ParseCpuTicks(""));
}

TEST(ProcessUsageTest, OwnUsageIsMeasuredAndAGoneProcessHasNone) {
  const std::optional<ProcessUsage> usage = ReadUsage(getpid());
  ASSERT_TRUE(usage);
  EXPECT_GT(usage->resident_bytes, 100'000U);
  EXPECT_FALSE(ReadUsage(0x7fffffff));
}

}  // namespace
}  // namespace loadstar::target
