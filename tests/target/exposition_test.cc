#include "target/exposition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <sstream>

namespace loadstar::target {
namespace {

using ::testing::HasSubstr;

TEST(ExpositionTest, EveryMetricIsThereByProcessAndInTotal) {
  absl::StatusOr<SharedState> state = SharedState::Create(2);
  ASSERT_TRUE(state.ok()) << state.status();
  state->process(0).connections.Set(3);
  state->process(1).connections.Set(4);
  state->process(1).CountError(ErrorKind::kParse);
  Options options;
  options.name = "a\"b\\c\nd";
  const std::string text =
      RenderMetrics(options, *state, 0, {.cpu_seconds = 1, .resident_bytes = 10},
                    [](uint32_t index) { return ProcessUsage{.cpu_seconds = 2, .resident_bytes = 100 + index}; });
  for (const char* line :
       {"loadstar_target_info{name=\"a\\\"b\\\\c\\nd\",role=\"worker\"",
        "loadstar_target_connections{process=\"0\"} 3\n", "loadstar_target_connections{process=\"1\"} 4\n",
        "loadstar_target_connections{process=\"total\"} 7\n",
        "loadstar_target_errors_total{process=\"1\",kind=\"parse\"} 1\n",
        "loadstar_target_errors_total{process=\"total\",kind=\"parse\"} 1\n",
        "loadstar_target_errors_total{process=\"0\",kind=\"transport\"} 0\n",
        "process_cpu_seconds_total{process=\"total\"} 5\n", "process_cpu_seconds_total{process=\"parent\"} 1\n",
        "process_resident_memory_bytes{process=\"total\"} 211\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  for (const char* metric : {"accepted_total", "accept_failures_total", "requests_total", "handshakes_total",
                             "bytes_received_total", "bytes_sent_total", "process_restarts_total"}) {
    EXPECT_THAT(text, HasSubstr(std::string("loadstar_target_") + metric + "{process=\"total\"} 0\n"));
  }
}

TEST(ExpositionTest, WhatWasSpentAndWhenIsToldInFullHoweverLongItHasRun) {
  absl::StatusOr<SharedState> state = SharedState::Create(1);
  ASSERT_TRUE(state.ok());
  const std::string text = RenderMetrics({}, *state, 1234567.654321, {.cpu_seconds = 0.25},
                                         [](uint32_t) { return ProcessUsage{.cpu_seconds = 98765.25}; });
  EXPECT_THAT(text, HasSubstr("loadstar_target_clock_seconds{process=\"parent\"} 1234567.654321\n"));
  EXPECT_THAT(text, HasSubstr("process_cpu_seconds_total{process=\"0\"} 98765.25\n"));
  EXPECT_THAT(text, HasSubstr("process_cpu_seconds_total{process=\"total\"} 98765.5\n"));
}

TEST(ExpositionTest, EachFamilyIsOneBlockThatBeginsWithHelpAndType) {
  absl::StatusOr<SharedState> state = SharedState::Create(1);
  ASSERT_TRUE(state.ok());
  std::istringstream lines(RenderMetrics({}, *state, 0, {}, [](uint32_t) { return ProcessUsage{}; }));
  std::set<std::string> families;
  std::string family;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# HELP ")) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(families.insert(family).second) << family << " appears twice";
      std::getline(lines, line);
      EXPECT_TRUE(line.starts_with("# TYPE " + family + " ")) << line;
    } else {
      EXPECT_TRUE(line.starts_with(family + "{")) << line;
    }
  }
  EXPECT_GE(families.size(), 11U);
}

}  // namespace
}  // namespace loadstar::target
