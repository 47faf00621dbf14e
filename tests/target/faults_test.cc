#include "target/faults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "target/shared_state.h"

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

TEST(FaultsTest, DelaysAreReadPrintedAndReadBackInPlaceOfTheOneDelay) {
  const ParsedFaults parsed = ParseFaults(R"({"delays":[{"ms":10,"share":0.9},{"share":0.0999,"ms":20.5},)"
                                          R"({"ms":200,"share":1e-4}],"stall_ms":3})");
  EXPECT_THAT(parsed.errors, IsEmpty());
  EXPECT_EQ(parsed.settings, (FaultSettings{.stall_ms = 3, .delays = {{10, 0.9}, {20.5, 0.0999}, {200, 0.0001}}}));
  const ParsedFaults again = ParseFaults(FaultsToJson(parsed.settings));
  EXPECT_THAT(again.errors, IsEmpty());
  EXPECT_EQ(again.settings, parsed.settings);
}

TEST(FaultsTest, WhatRoundedSharesMissOfTheWholeGoesToTheLargest) {
  const ParsedFaults parsed =
      ParseFaults(R"({"delays":[{"ms":1,"share":0.333333},{"ms":2,"share":0.333334},{"ms":3,"share":0.333332}]})");
  EXPECT_THAT(parsed.errors, IsEmpty());
  EXPECT_EQ(parsed.settings.delays, (std::vector<DelayShare>{{1, 0.333333}, {2, 0.333335}, {3, 0.333332}}));
}

TEST(FaultsTest, SharedCellsHoldTheDelaysUntilOthersComeInTheirPlace) {
  FaultCells cells;
  for (const char* body : {R"({"delays":[{"ms":0.29,"share":0.7},{"ms":60000,"share":0.3}]})",
                           R"({"delays":[{"ms":5,"share":1}]})", R"({"delay_ms":7})", "{}"}) {
    const FaultSettings settings = ParseFaults(body).settings;
    cells.Apply(settings, 1);
    EXPECT_EQ(cells.Read(1), settings) << body;
  }
}

std::string ManyDelays(size_t count) {
  std::string body = R"({"delays":[)";
  for (size_t i = 0; i < count; ++i) body += std::string(i > 0 ? "," : "") + R"({"ms":1,"share":0.05})";
  return body + "]}";
}

struct Bad {
  std::string body;
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

INSTANTIATE_TEST_SUITE_P(
    Table, BadFaultsTest,
    ::testing::Values(
        Bad{"", "", "not JSON"}, Bad{"{", "", "not JSON"}, Bad{"[]", "", "expected a JSON object"},
        Bad{"null", "", "expected a JSON object"}, Bad{R"({"delay_ms":"5"})", "delay_ms", "found string"},
        Bad{R"({"delay_ms":-1})", "delay_ms", "from 0 to 60000"},
        Bad{R"({"delay_ms":1e300})", "delay_ms", "from 0 to 60000"},
        Bad{R"({"stall_ms":600001})", "stall_ms", "from 0 to 600000"},
        Bad{R"({"error_ratio":1.01})", "error_ratio", "from 0 to 1"},
        Bad{R"({"close_ratio":true})", "close_ratio", "found boolean"},
        Bad{R"({"refuse":1})", "refuse", "true or false"}, Bad{R"({"dealy_ms":1})", "dealy_ms", "known are delay_ms"},
        Bad{R"({"delays":{}})", "delays", "array of 1 to 16 objects"},
        Bad{R"({"delays":[]})", "delays", "array of 1 to 16 objects"}, Bad{ManyDelays(17), "delays", "found 17"},
        Bad{R"({"delays":[{"ms":1,"share":1},5]})", "delays[1]", "found number"},
        Bad{R"({"delays":[{"share":1}]})", "delays[0].ms", "is missing"},
        Bad{R"({"delays":[{"ms":1}]})", "delays[0].share", "is missing"},
        Bad{R"({"delays":[{"ms":60001,"share":1}]})", "delays[0].ms", "to 60000"},
        Bad{R"({"delays":[{"ms":1,"share":1.5}]})", "delays[0].share", "to 1"},
        Bad{R"({"delays":[{"ms":1,"share":1},{"ms":2,"share":1e-10}]})", "delays[1].share", "at least 1e-9"},
        Bad{R"({"delays":[{"ms":1,"share":1,"shard":2}]})", "delays[0].shard", "known are ms, share"},
        Bad{R"({"delays":[{"ms":1,"share":0.5},{"ms":2,"share":0.49999}]})", "delays",
            "must sum to 1, they sum to 0.99999"},
        Bad{R"({"delays":[{"ms":1,"share":0.7},{"ms":2,"share":0.7}]})", "delays", "they sum to 1.4"},
        Bad{R"({"delay_ms":0,"delays":[{"ms":1,"share":1}]})", "delays", "beside delay_ms"}));

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

// How far, in requests, any row's count ever was from its share of the requests, over so many of them.
double FarthestFromShares(const std::vector<DelayDice::Row>& rows, int requests) {
  DelayDice dice;
  dice.SetRows(rows);
  std::vector<int64_t> counts(rows.size());
  double farthest = 0;
  for (int n = 1; n <= requests; ++n) {
    dice.SetRows(rows);  // applying the same faults again does not start over
    ++counts.at(static_cast<size_t>(dice.Deal_ns()));
    for (size_t i = 0; i < rows.size(); ++i) {
      const double share = static_cast<double>(rows[i].share) / static_cast<double>(kWhole);
      farthest = std::max(farthest, std::abs(static_cast<double>(counts[i]) - share * n));
    }
  }
  return farthest;
}

// The delay of row i is i, so that a deal tells its row.
std::vector<DelayDice::Row> Rows(const std::vector<int64_t>& shares) {
  std::vector<DelayDice::Row> rows;
  rows.reserve(shares.size());
  for (const int64_t share : shares) rows.push_back({static_cast<int64_t>(rows.size()), share});
  return rows;
}

TEST(DelayDiceTest, EveryDelayHasItsShareButForLessThanOneRequestAtAnyTime) {
  std::vector<std::vector<int64_t>> tables = {{kWhole},
                                              {kWhole / 2, kWhole / 2},
                                              {999'999'999, 1},
                                              {333'333'333, 333'333'334, 333'333'333},
                                              {700'000'000, 250'000'000, 45'000'000, 4'500'000, 500'000},
                                              std::vector<int64_t>(kDelaysMax, kWhole / kDelaysMax)};
  std::mt19937_64 random(20'261'128);
  for (size_t size = 2; size <= kDelaysMax; ++size) {
    std::vector<int64_t> shares;
    int64_t rest = kWhole;
    for (size_t i = 1; i < size; ++i) {
      shares.push_back(1 + static_cast<int64_t>(random() % static_cast<uint64_t>(rest / 2)));
      rest -= shares.back();
    }
    shares.push_back(rest);
    tables.push_back(shares);
  }
  for (const std::vector<int64_t>& shares : tables) {
    const auto others = static_cast<double>(shares.size() - 1);
    // Tijdeman's bound; one row alone has all.
    const double bound = shares.size() == 1 ? 0 : 1 - 1 / (2 * others);
    EXPECT_LE(FarthestFromShares(Rows(shares), 20'000), bound + 1e-8) << ::testing::PrintToString(shares);
  }
}

TEST(DelayDiceTest, OtherRowsStartAnewAndHalfWrittenOnesDealNothing) {
  DelayDice dice;
  EXPECT_TRUE(dice.idle());
  dice.SetRows(Rows({kWhole - 1, 1}));
  EXPECT_EQ(dice.Deal_ns(), 0);
  dice.SetRows(Rows({1, kWhole - 1}));
  EXPECT_EQ(dice.Deal_ns(), 1);
  dice.SetRows(Rows({1, kWhole}));
  EXPECT_TRUE(dice.idle());
  dice.SetRows({});
  EXPECT_TRUE(dice.idle());
}

}  // namespace
}  // namespace loadstar::target
