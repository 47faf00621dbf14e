#include "lib/spec/units.h"

#include <gtest/gtest.h>

#include <limits>

#include "lib/spec/spec.h"

namespace loadstar::spec {
namespace {

TEST(ParseDuration, ReadsWhatPeopleWrite) {
  EXPECT_EQ(ParseDuration("5m").value(), absl::Minutes(5));
  EXPECT_EQ(ParseDuration("1h30m").value(), absl::Minutes(90));
  EXPECT_EQ(ParseDuration("1500ms").value(), absl::Milliseconds(1500));
  EXPECT_EQ(ParseDuration("1.5s").value(), absl::Milliseconds(1500));
  EXPECT_EQ(ParseDuration("500us").value(), absl::Microseconds(500));
  EXPECT_EQ(ParseDuration("2d").value(), absl::Hours(48));
  EXPECT_EQ(ParseDuration("0").value(), absl::ZeroDuration());
  EXPECT_EQ(ParseDuration("1ns").value(), absl::Nanoseconds(1));
}

TEST(ParseDuration, SaysWhatItMeansWhereItCanGuess) {
  EXPECT_EQ(ParseDuration("5 minute").status().message(), "\"5 minute\" contains a blank. Write 5m");
  EXPECT_EQ(ParseDuration("5minutes").status().message(), "\"5minutes\" has the unknown unit \"minutes\". Write 5m");
  EXPECT_EQ(ParseDuration("1.5 seconds").status().message(), "\"1.5 seconds\" contains a blank. Write 1.5s");
}

TEST(ParseDuration, RefusesWhatItCannotMean) {
  for (const char* text : {"",           "5",     "-5m",  "+5m",           "m",
                           "5x",         "5m5h",  "5m5m", "1e5",           "1..5s",
                           "1.s",        ".5s",   "five", "1.0000000001s", "99999999999999999999s",
                           "300000000d", "1e40s", "5m ",  "5m\n",          "1h30"}) {
    EXPECT_FALSE(ParseDuration(text).ok()) << text;
  }
}

TEST(ParseCount, ReadsWhatPeopleWrite) {
  EXPECT_EQ(ParseCount("0").value(), 0u);
  EXPECT_EQ(ParseCount("10000").value(), 10'000u);
  EXPECT_EQ(ParseCount("100k").value(), 100'000u);
  EXPECT_EQ(ParseCount("2M").value(), 2'000'000u);
  EXPECT_EQ(ParseCount("2.5k").value(), 2'500u);
  EXPECT_EQ(ParseCount("1e5").value(), 100'000u);
  EXPECT_EQ(ParseCount("18446744073709551615").ok(), false);  // more digits than are read exactly
  EXPECT_EQ(ParseCount("1844674407370955161").value(), 1'844'674'407'370'955'161u);
}

TEST(ParseCount, RefusesTheRestAndNamesTheUnits) {
  for (const char* text : {"", "-1", "+1", "1.5", "1 k", "1K", "k", "0x10", "1e", "1e99", "1e20", "nan", "inf"}) {
    const auto count = ParseCount(text);
    ASSERT_FALSE(count.ok()) << text;
    EXPECT_NE(std::string(count.status().message()).find("k, M or G"), std::string::npos) << count.status();
  }
}

TEST(ParseSize, ReadsDecimalAndBinaryUnits) {
  EXPECT_EQ(ParseSize("64").value(), 64u);
  EXPECT_EQ(ParseSize("4KiB").value(), 4096u);
  EXPECT_EQ(ParseSize("4GiB").value(), uint64_t{4} << 30);
  EXPECT_EQ(ParseSize("2MB").value(), 2'000'000u);
  EXPECT_EQ(ParseSize("0.5KiB").value(), 512u);
  for (const char* text : {"", "4 KiB", "4K", "4kib", "-4", "1.5B", "99999999TiB"}) {
    EXPECT_FALSE(ParseSize(text).ok()) << text;
  }
}

TEST(ReadScopedRate, ReadsRateAndScope) {
  double per_s = 0;
  v1::RateScope scope = v1::RATE_SCOPE_UNSPECIFIED;
  ASSERT_FALSE(ReadScopedRate("1/s per connection", &per_s, &scope));
  EXPECT_EQ(per_s, 1);
  EXPECT_EQ(scope, v1::RATE_SCOPE_PER_CONNECTION);
  ASSERT_FALSE(ReadScopedRate("100k/s total", &per_s, &scope));
  EXPECT_EQ(per_s, 100'000);
  EXPECT_EQ(scope, v1::RATE_SCOPE_TOTAL);
  ASSERT_FALSE(ReadScopedRate("6/m per connection", &per_s, &scope));
  EXPECT_EQ(per_s, 0.1);
  for (const char* text : {"", "1", "1/s", "1 per connection", "1/s each", "/s total", "-1/s total", "1/day total",
                           "1/s per  connection extra"}) {
    EXPECT_TRUE(ReadScopedRate(text, &per_s, &scope)) << text;
  }
}

TEST(Format, IsShort) {
  EXPECT_EQ(spec::FormatDuration(absl::ZeroDuration()), "0s");
  EXPECT_EQ(spec::FormatDuration(absl::Minutes(5)), "5m");
  EXPECT_EQ(spec::FormatDuration(absl::Milliseconds(1500)), "1.5s");
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(100'000), "100k");
  EXPECT_EQ(FormatCount(12'345), "12,345");
  EXPECT_EQ(FormatCount(2'000'000), "2M");
  EXPECT_EQ(FormatCount(1'234'567), "1,234,567");
  EXPECT_EQ(FormatCount(1'000'000'000'000), "1000G");
  EXPECT_EQ(FormatCount(std::numeric_limits<uint64_t>::max()), "18,446,744,073,709,551,615");
}

TEST(Nearest, SuggestsOnlyWhatIsNear) {
  const std::vector<std::string> words = {"connections", "requests", "connectTimeout", "ramp"};
  EXPECT_EQ(Nearest("conections", words), "connections");
  EXPECT_EQ(Nearest("CONNECTTIMEOUT", words), "connectTimeout");
  EXPECT_EQ(Nearest("rmap", words), "ramp");
  EXPECT_EQ(Nearest("velocity", words), "");
  EXPECT_EQ(Nearest("", words), "");
  EXPECT_EQ(Nearest(std::string(10'000, 'a'), words), "");
}

}  // namespace
}  // namespace loadstar::spec
