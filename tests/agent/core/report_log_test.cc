#include "agent/core/report_log.h"

#include <gtest/gtest.h>

#include "agent/core/clock_sync.h"
#include "agent/core/command_log.h"

namespace loadstar::agent {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

class FakeSpill : public ReportSpill {
 public:
  absl::Status Append(const v1::Report& report) override {
    if (!status.ok()) return status;
    reports.push_back(report);
    return absl::OkStatus();
  }
  std::vector<v1::Report> Read(uint64_t after, size_t limit) override {
    std::vector<v1::Report> some;
    for (const v1::Report& report : reports) {
      if (report.sequence() > after && some.size() < limit) some.push_back(report);
    }
    return some;
  }
  void Trim(uint64_t through) override {
    std::erase_if(reports, [&](const v1::Report& report) { return report.sequence() <= through; });
  }
  absl::Status status;
  std::vector<v1::Report> reports;
};

v1::Report SampleOf(uint32_t second) {
  v1::Report report;
  report.mutable_sample()->set_run_id("run");
  report.mutable_sample()->set_elapsed_s(second);
  for (uint32_t i = 1; i <= 50; ++i) {
    report.mutable_sample()->mutable_figures()->mutable_latency()->add_counts(i << 20);
  }
  return report;
}

std::vector<uint64_t> Sent(ReportLog* log, int64_t now_ns) {
  std::vector<uint64_t> sequences;
  log->Send(now_ns, [&](const v1::Report& report) { sequences.push_back(report.sequence()); });
  return sequences;
}

TEST(ReportLog, SendsInOrderWithinTheWindowAndGoesOnWithAcknowledgements) {
  ReportLog log(nullptr, 1 << 20);
  for (uint32_t i = 0; i < 300; ++i) log.Append(v1::Report());
  EXPECT_TRUE(Sent(&log, 0).empty()) << "no session stands";
  log.Begin(0, 0);
  std::vector<uint64_t> sent = Sent(&log, 0);
  ASSERT_EQ(sent.size(), ReportLog::kWindow);
  EXPECT_EQ(sent.front(), 1u);
  log.Acknowledge(100, 1);
  sent = Sent(&log, 1);
  EXPECT_EQ(sent.size(), 44u);
  EXPECT_EQ(sent.front(), 257u);
}

TEST(ReportLog, NewSessionGoesOnAfterWhatIsDurable) {
  ReportLog log(nullptr, 1 << 20);
  for (int i = 0; i < 5; ++i) log.Append(v1::Report());
  log.Begin(0, 0);
  Sent(&log, 0);
  log.End();
  log.Begin(3, 1);
  EXPECT_EQ(Sent(&log, 1), (std::vector<uint64_t>{4, 5}));
}

TEST(ReportLog, WithoutProgressEverythingOnTheWayIsSentAgain) {
  ReportLog log(nullptr, 1 << 20);
  log.Append(v1::Report());
  log.Begin(0, 0);
  EXPECT_EQ(Sent(&log, 0).size(), 1u);
  EXPECT_EQ(Sent(&log, ReportLog::kResendAfterNs - 1).size(), 0u);
  EXPECT_EQ(Sent(&log, ReportLog::kResendAfterNs).size(), 1u);
}

TEST(ReportLog, PastTheMemoryBoundTheOldestAreSpilledAndSentFromThere) {
  FakeSpill spill;
  ReportLog log(&spill, 1000);
  for (uint32_t k = 0; k < 20; ++k) log.Append(SampleOf(k));
  EXPECT_GT(spill.reports.size(), 10u);
  log.Begin(0, 0);
  const std::vector<uint64_t> sent = Sent(&log, 0);
  ASSERT_EQ(sent.size(), 20u);
  for (uint64_t i = 0; i < 20; ++i) EXPECT_EQ(sent[i], i + 1);
  log.Acknowledge(20, 0);
  EXPECT_TRUE(spill.reports.empty());
}

TEST(ReportLog, SpillThatFailsCostsTheOldestSamplesAndSaysSo) {
  FakeSpill spill;
  spill.status = absl::ResourceExhaustedError("disk full");
  ReportLog log(&spill, 1000);
  for (uint32_t k = 0; k < 20; ++k) log.Append(SampleOf(k));
  log.Begin(0, 0);
  uint64_t next = 1;
  uint32_t dropped = 0;
  log.Send(0, [&](const v1::Report& report) {
    EXPECT_EQ(report.sequence(), next++) << "the sequence has no hole";
    if (report.has_run_event()) {
      ++dropped;
      EXPECT_EQ(report.run_event().event().code(), "sample-dropped");
    }
  });
  EXPECT_EQ(next, 21u);
  EXPECT_GT(dropped, 0u);
}

TEST(ReportLog, CoordinatorThatLostItsStoreIsCountedForAnew) {
  ReportLog log(nullptr, 1 << 20);
  for (int i = 0; i < 5; ++i) log.Append(v1::Report());
  log.Begin(0, 0);
  Sent(&log, 0);
  log.Acknowledge(4, 0);
  log.End();
  log.Begin(0, 1);
  EXPECT_EQ(Sent(&log, 1), (std::vector<uint64_t>{1}));
  log.Append(v1::Report());
  EXPECT_EQ(Sent(&log, 1), (std::vector<uint64_t>{2}));
  log.Acknowledge(2, 1);
  EXPECT_TRUE(log.acknowledged(6));
}

TEST(ClockSync, TheShortestRoundTripCounts) {
  ClockSync clock;
  EXPECT_FALSE(clock.known());
  // The true offset is -1,000 s; the first answer was held up on its way back.
  clock.Add(10 * kSecond, 1010 * kSecond, 12 * kSecond);
  EXPECT_EQ(clock.offset_ns(), -999 * kSecond);
  EXPECT_EQ(clock.uncertainty_ns(), kSecond);
  clock.Add(20 * kSecond, 1020 * kSecond + 500, 20 * kSecond + 1000);
  EXPECT_EQ(clock.offset_ns(), -1000 * kSecond);
  EXPECT_EQ(clock.uncertainty_ns(), 500);
  EXPECT_EQ(clock.ToMonotonic(1030 * kSecond), 30 * kSecond);
  for (size_t i = 0; i < ClockSync::kKept; ++i) clock.Add(0, 0, 2000);
  EXPECT_EQ(clock.uncertainty_ns(), 1000) << "an old probe is forgotten: clocks drift";
}

TEST(ClockSync, ClockThatWasSetAnewMakesTheOldProbesVoid) {
  ClockSync clock;
  clock.Add(1'000'000'000, 50'000'000'000, 1'000'010'000);  // the shortest of all
  clock.Add(2'000'000'000, 51'000'000'000, 2'000'900'000);
  clock.Add(3'000'000'000, 3'652'000'000'000, 3'000'900'000);  // an hour later by the coordinator's clock
  EXPECT_EQ(clock.count(), 1U);
  EXPECT_EQ(clock.ToMonotonic(3'652'000'000'000), 3'000'450'000);
}

TEST(CommandLog, CommandThatComesAgainIsNotDoneAgainButAnswered) {
  ReportLog log(nullptr, 1 << 20);
  CommandLog commands;
  EXPECT_TRUE(commands.Begin("c", &log));
  EXPECT_FALSE(commands.Begin("c", &log));
  EXPECT_EQ(log.last(), 0u) << "it is under way";
  commands.End("c", absl::AbortedError("why"), &log);
  EXPECT_EQ(log.last(), 1u);
  EXPECT_FALSE(commands.Begin("c", &log));
  EXPECT_EQ(log.last(), 1u) << "its result is still on the way";
  log.Begin(0, 0);
  log.Acknowledge(1, 0);
  EXPECT_FALSE(commands.Begin("c", &log));
  EXPECT_EQ(log.last(), 2u);
  log.Send(0, [](const v1::Report& report) { EXPECT_EQ(report.command_result().status().message(), "why"); });
}

}  // namespace
}  // namespace loadstar::agent
