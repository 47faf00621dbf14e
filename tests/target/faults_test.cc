#include "target/faults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace loadstar::target {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(FaultsTest, EveryFieldIsRead) {
  const ParsedFaults parsed =
      ParseFaults(R"({"delay_ms":12.5,"stall_ms":2000,"error_ratio":0.1,"close_ratio":1,"refuse":true})");
  EXPECT_THAT(parsed.errors, IsEmpty());
  EXPECT_EQ(parsed.settings,
            (FaultSettings{.delay_ms = 12.5, .stall_ms = 2000, .error_ratio = 0.1, .close_ratio = 1, .refuse = true}));
}

TEST(FaultsTest, EmptyObjectAndClearTurnEverythingOff) {
  for (const char* body : {"{}", "clear", " clear\n", "\"clear\""}) {
    const ParsedFaults parsed = ParseFaults(body);
    EXPECT_THAT(parsed.errors, IsEmpty()) << body;
    EXPECT_EQ(parsed.settings, FaultSettings{}) << body;
  }
}

TEST(FaultsTest, WhatIsPrintedCanBeReadBack) {
  const FaultSettings settings{.delay_ms = 1, .stall_ms = 2, .error_ratio = 0.25, .close_ratio = 0.5, .refuse = true};
  const ParsedFaults parsed = ParseFaults(FaultsToJson(settings));
  EXPECT_THAT(parsed.errors, IsEmpty());
  EXPECT_EQ(parsed.settings, settings);
}

struct Bad {
  const char* body;
  const char* field;
  const char* reason;
};
class BadFaultsTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadFaultsTest, IsRefusedWithFieldAndReason) {
  const ParsedFaults parsed = ParseFaults(GetParam().body);
  ASSERT_EQ(parsed.errors.size(), 1U);
  EXPECT_EQ(parsed.errors[0].field, GetParam().field);
  EXPECT_THAT(parsed.errors[0].reason, HasSubstr(GetParam().reason));
}

INSTANTIATE_TEST_SUITE_P(Table, BadFaultsTest,
                         ::testing::Values(Bad{"", "", "not JSON"}, Bad{"{", "", "not JSON"},
                                           Bad{"[]", "", "expected a JSON object"},
                                           Bad{"null", "", "expected a JSON object"},
                                           Bad{R"({"delay_ms":"5"})", "delay_ms", "found string"},
                                           Bad{R"({"delay_ms":-1})", "delay_ms", "from 0 to 60000"},
                                           Bad{R"({"delay_ms":1e300})", "delay_ms", "from 0 to 60000"},
                                           Bad{R"({"stall_ms":600001})", "stall_ms", "from 0 to 600000"},
                                           Bad{R"({"error_ratio":1.01})", "error_ratio", "from 0 to 1"},
                                           Bad{R"({"close_ratio":true})", "close_ratio", "found boolean"},
                                           Bad{R"({"refuse":1})", "refuse", "true or false"},
                                           Bad{R"({"dealy_ms":1})", "dealy_ms", "known are delay_ms"}));

TEST(FaultsTest, AllErrorsAreReportedAtOnce) {
  const ParsedFaults parsed = ParseFaults(R"({"delay_ms":-1,"refuse":0,"nope":1})");
  EXPECT_EQ(parsed.errors.size(), 3U);
  const auto document = nlohmann::json::parse(FieldErrorsToJson(parsed.errors));
  EXPECT_EQ(document.at("errors").size(), 3U);
  EXPECT_TRUE(document.at("errors").at(0).contains("reason"));
}

TEST(FaultsTest, ErrorsOfHostileKeysAreStillJson) {
  const ParsedFaults parsed = ParseFaults("{\"" + std::string(63, 'k') + "ü\":1}");  // cut in the middle of a letter
  EXPECT_TRUE(nlohmann::json::accept(FieldErrorsToJson(parsed.errors)));
}

TEST(FaultsTest, DiceHitExactlyTheirRatio) {
  for (const double ratio : {0.0, 0.001, 0.1, 1.0 / 3, 0.5, 0.9, 1.0}) {
    RatioDice dice;
    dice.SetRatio(ratio);
    int hits = 0;
    for (int i = 0; i < 30'000; ++i) {
      dice.SetRatio(ratio);  // applying the same faults again does not start over
      hits += dice.Hits() ? 1 : 0;
    }
    EXPECT_NEAR(hits, ratio * 30'000, 1) << ratio;
  }
}

}  // namespace
}  // namespace loadstar::target
