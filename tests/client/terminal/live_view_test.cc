#include "client/terminal/live_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/client/terminal/sample_run.h"

namespace loadstar::client::terminal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Texts(const std::vector<Line>& lines) {
  std::vector<std::string> texts;
  texts.reserve(lines.size());
  for (const Line& line : lines) {
    texts.push_back(line.text());
  }
  return texts;
}

TEST(LiveView, ShowsEverythingOfASecond) {
  LiveState state;
  v1::Run run = SampleRun();
  v1::Event* event = run.add_events();
  event->set_elapsed_s(12.34);
  event->set_agent("host1");
  event->set_subject("worker 2");
  event->set_severity(v1::SEVERITY_ERROR);
  event->set_message("died of signal 9");
  state.Take(run);
  v1::Snapshot snapshot = SampleSnapshot(29);
  snapshot.add_missing_agents("host2");
  ASSERT_TRUE(state.Take(snapshot));
  EXPECT_THAT(
      Texts(LiveBlock(state, 80, 40)),
      ElementsAre("smoke-20261124-204033   running   ramp 0 -> 100k (stage 1 of 2)",
                  "[=======>                      ]  25 %   0:30 elapsed, 1:30 left",
                  // On one line, the last figure would be cut: 80 columns show 79.
                  "connections   target 75,000   established 74,998   pending 2   failed 2", "              lost 1",
                  "requests/s    offered 19,998   done 19,990   outstanding 6   backlog 2",
                  "latency       p50 1.00 ms   p90 1.00 ms   p99 20.0 ms   max 20.0 ms",
                  "              service time p99 20.0 ms   schedule lag p99 50 us",
                  "errors        connect refused 2, connection reset 1",
                  "node   established  requests/s      p99  node's own count",
                  "node1       37,499       9,995  20.0 ms            37,499",
                  "node2            -           -        -                 -", "missing       no figures from host2",
                  "events        12.3 s  error  host1 worker 2: died of signal 9"));
}

TEST(LiveView, OnANarrowTerminalFiguresGoToFurtherLinesAndTheBarGivesWay) {
  LiveState state;
  state.Take(SampleRun());
  state.Take(SampleSnapshot(29));
  const auto lines = Texts(LiveBlock(state, 40, 40));
  EXPECT_EQ(lines[1], " 25 %   0:30 elapsed, 1:30 left");
  EXPECT_EQ(lines[2], "connections   target 75,000");
  EXPECT_EQ(lines[3], "              established 74,998");
  EXPECT_EQ(lines[4], "              pending 2   failed 2");
  EXPECT_EQ(lines[5], "              lost 1");
}

TEST(LiveView, ShowsAbsentAndNotZeroBeforeTheFirstSecond) {
  LiveState state;
  v1::Run run = SampleRun();
  run.set_state(v1::RUN_STATE_PREPARING);
  state.Take(run);
  EXPECT_THAT(Texts(LiveBlock(state, 80, 40)),
              ElementsAre("smoke-20261124-204033   preparing",
                          "[>                             ]   0 %   0:00 elapsed, 2:00 left",
                          "connections   target -   established -   pending -   failed -   lost -",
                          "requests/s    offered -   done -   outstanding -   backlog -",
                          "latency       p50 -   p90 -   p99 -   max -",
                          "              service time p99 -   schedule lag p99 -", "errors        -",
                          "node   established  requests/s  p99  node's own count",
                          "node1            -           -    -                 -",
                          "node2            -           -    -                 -"));
}

TEST(LiveView, FailedLostAndErrorsAreOfTheWholeRunSoFar) {
  LiveState state;
  state.Take(SampleRun());
  for (uint32_t second = 0; second < 3; ++second) {
    EXPECT_TRUE(state.Take(SampleSnapshot(second)));
  }
  EXPECT_EQ(state.connects_failed(), 6u);
  EXPECT_EQ(state.connections_lost(), 3u);
  EXPECT_EQ(state.errors().at("connect refused"), 6u);
}

TEST(LiveView, ASecondThatComesTwiceCountsOnce) {
  LiveState state;
  state.Take(SampleRun());
  EXPECT_TRUE(state.Take(SampleSnapshot(4)));
  EXPECT_FALSE(state.Take(SampleSnapshot(4)));
  EXPECT_FALSE(state.Take(SampleSnapshot(3)));
  EXPECT_EQ(state.connects_failed(), 2u);
  EXPECT_EQ(state.next_second(), 5);
}

TEST(LiveView, RatesOfMergedSecondsAreASecond) {
  LiveState state;
  state.Take(SampleRun());
  v1::Snapshot merged = SampleSnapshot(9);
  merged.set_from_elapsed_s(0);
  state.Take(merged);
  EXPECT_THAT(PlainLine(state), HasSubstr("requests/s 2,000 offered 1,999 done"));
}

TEST(LiveView, PlainLineSaysTheSameInOneLine) {
  LiveState state;
  state.Take(SampleRun());
  EXPECT_EQ(PlainLine(state), "smoke-20261124-204033  running");
  state.Take(SampleSnapshot(64));
  EXPECT_EQ(PlainLine(state),
            "1:05/2:00  hold 100k  connections 74,998/75,000  requests/s 19,998 offered 19,990 done  outstanding 6  "
            "p50 1.00 ms  p99 20.0 ms  max 20.0 ms  errors 3");
}

TEST(LiveView, ManyNodesAreCutToTheTerminalAndCounted) {
  LiveState state;
  v1::Run run = SampleRun();
  for (int i = 3; i <= 1'000; ++i) {
    run.add_endpoints("127.0.0.1:" + std::to_string(10'000 + i));
    run.add_nodes("node" + std::to_string(i));
  }
  state.Take(run);
  state.Take(SampleSnapshot(1));
  const auto lines = Texts(LiveBlock(state, 100, 12));
  ASSERT_EQ(lines.size(), 12u);
  EXPECT_THAT(lines[8], HasSubstr("node1"));
  EXPECT_EQ(lines[11], "and 997 more nodes");
}

TEST(LiveView, NeverExceedsTheHeight) {
  LiveState state;
  state.Take(SampleRun());
  state.Take(SampleSnapshot(1));
  for (size_t height = 0; height < 14; ++height) {
    EXPECT_LE(LiveBlock(state, 80, height).size(), height);
  }
}

TEST(LiveView, AFinishedRunShowsItsVerdict) {
  LiveState state;
  v1::Run run = SampleRun();
  run.set_state(v1::RUN_STATE_FINISHED);
  run.mutable_verdict()->set_kind(v1::VERDICT_KIND_NOT_TRUSTWORTHY);
  state.Take(run);
  state.Take(SampleSnapshot(119));
  EXPECT_EQ(LiveBlock(state, 80, 40)[0].text(), "smoke-20261124-204033   not trustworthy");
}

TEST(LiveView, TextFromElsewhereCannotMoveTheCursor) {
  LiveState state;
  v1::Run run = SampleRun();
  run.set_run_id("evil\x1b[2J");
  run.set_nodes(0, "no\x1b[2Jde");
  run.add_events()->set_message("x\x1b[Hy");
  state.Take(run);
  for (const Line& line : LiveBlock(state, 80, 40)) {
    EXPECT_EQ(line.text().find('\x1b'), std::string::npos) << line.text();
  }
}

TEST(LiveView, StagesAreNamedAsTheDocumentHasThem) {
  const v1::Run run = SampleRun();
  EXPECT_EQ(StageName(run.test(), 0), "ramp 0 -> 100k");
  EXPECT_EQ(StageName(run.test(), 1), "hold 100k");
  EXPECT_EQ(StageName(run.test(), 2), "");
}

}  // namespace
}  // namespace loadstar::client::terminal
