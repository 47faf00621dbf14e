#include "target/line_splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "target/json_rpc.h"

namespace loadstar::target {
namespace {

using ::testing::ElementsAre;
using Result = LineSplitter::Result;

constexpr size_t kNoLimit = SIZE_MAX;

TEST(LineSplitterTest, TheAnswersAreTheSameAtEverySplitPoint) {
  const std::string stream =
      R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}})"
      "\n"
      R"({"jsonrpc":"2.0","method":"notifications/initialized"})"
      "\n"
      R"({"jsonrpc":"2.0","id":"two","method":"tools/call","params":{"name":"echo","arguments":{"k":"v"}}})"
      "\n"
      R"({"broken)"
      "\n"
      R"({"jsonrpc":"2.0","id":3,"method":"ping"})"
      "\n";
  JsonRpc rpc("n", "0");
  const auto answers = [&rpc](const std::vector<std::string_view>& pieces) {
    LineSplitter lines;
    std::string out;
    for (const std::string_view piece : pieces) {
      EXPECT_EQ(lines.Feed(piece, kNoLimit,
                           [&](std::string_view line) {
                             if (rpc.Answer(line, nullptr, &out).answered) {
                               out += '\n';
                             }
                             return true;
                           }),
                Result::kMore);
    }
    EXPECT_FALSE(lines.holds_partial());
    return out;
  };
  const std::string_view all = stream;
  const std::string whole = answers({all});
  EXPECT_EQ(std::count(whole.begin(), whole.end(), '\n'), 4);
  for (size_t split = 0; split <= all.size(); ++split) {
    EXPECT_EQ(answers({all.substr(0, split), all.substr(split)}), whole) << "split at " << split;
  }
  std::vector<std::string_view> bytes;
  for (size_t i = 0; i < all.size(); ++i) {
    bytes.push_back(all.substr(i, 1));
  }
  EXPECT_EQ(answers(bytes), whole) << "byte by byte";
}

TEST(LineSplitterTest, MemoryIsHeldOnlyWhileALineIsPartial) {
  LineSplitter lines;
  std::vector<std::string> seen;
  const auto keep = [&](std::string_view line) {
    seen.emplace_back(line);
    return true;
  };
  lines.Feed("one\ntw", kNoLimit, keep);
  EXPECT_TRUE(lines.holds_partial());
  lines.Feed("o\n\n", kNoLimit, keep);
  EXPECT_FALSE(lines.holds_partial());
  EXPECT_THAT(seen, ElementsAre("one", "two", ""));
}

TEST(LineSplitterTest, TheLimitHoldsForALineInOneOrManyPieces) {
  const auto any = [](std::string_view) { return true; };
  EXPECT_EQ(LineSplitter().Feed("12345\n", 5, any), Result::kMore);
  EXPECT_EQ(LineSplitter().Feed("123456\n", 5, any), Result::kTooLong);
  EXPECT_EQ(LineSplitter().Feed("123456", 5, any), Result::kTooLong);
  LineSplitter lines;
  EXPECT_EQ(lines.Feed("1234", 5, any), Result::kMore);
  EXPECT_EQ(lines.Feed("56", 5, any), Result::kTooLong);
}

TEST(LineSplitterTest, StoppingDropsTheRest) {
  std::vector<std::string> seen;
  LineSplitter lines;
  EXPECT_EQ(lines.Feed("a\nb\nc\n", kNoLimit,
                       [&](std::string_view line) {
                         seen.emplace_back(line);
                         return line != "b";
                       }),
            Result::kStopped);
  EXPECT_THAT(seen, ElementsAre("a", "b"));
}

}  // namespace
}  // namespace loadstar::target
