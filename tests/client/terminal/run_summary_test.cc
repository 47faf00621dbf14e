#include "client/terminal/run_summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/client/terminal/sample_run.h"

namespace loadstar::client::terminal {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Text(const v1::Run& run) {
  std::string text;
  for (const Line& line : RunSummary(run, absl::UTCTimeZone())) {
    absl::StrAppend(&text, line.text(), "\n");
  }
  return text;
}

TEST(RunSummary, SaysTheVerdictWhyAndTheFigures) {
  v1::Run run = SampleRun();
  run.set_state(v1::RUN_STATE_FINISHED);
  run.mutable_created_at()->set_seconds(1'764'016'833);
  run.set_recorded_s(120);
  run.set_peak_connections(100'000);
  run.mutable_verdict()->set_kind(v1::VERDICT_KIND_NOT_TRUSTWORTHY);
  auto* reason = run.mutable_verdict()->add_reasons();
  reason->set_side(v1::SIDE_GENERATOR);
  reason->set_code("schedule-lag");
  reason->set_message("schedule lag p99 was 40 ms");
  reason->set_remedy("use more agents");
  auto* threshold = run.add_thresholds();
  threshold->mutable_threshold()->set_metric("latency.p99");
  threshold->mutable_threshold()->set_text("latency.p99 < 50ms");
  threshold->set_measured(20'000);
  threshold->set_held(true);
  auto* unmeasured = run.add_thresholds();
  unmeasured->mutable_threshold()->set_metric("errors.ratio");
  unmeasured->mutable_threshold()->set_text("errors.ratio < 0.1%");
  *run.mutable_totals() = SampleSnapshot(0).figures();
  *run.mutable_latency() = SampleSnapshot(0).latency();
  auto* participant = run.mutable_participants()->Add();
  participant->set_agent("host1");
  v1::HostFigures* host = participant->mutable_host();
  host->set_cpu_ns(200);
  host->set_cpu_busy_ns(150);
  host->set_cpu_softirq_ns(10);
  host->set_segments_sent(1'000);
  host->set_segments_retransmitted(1);
  host->set_sockets_time_wait(1'200);
  host->set_conntrack_count(5);
  host->set_conntrack_max(10);
  const std::string text = Text(run);
  EXPECT_THAT(text, HasSubstr("verdict      not trustworthy\n"));
  EXPECT_THAT(text, HasSubstr("generator, schedule-lag: schedule lag p99 was 40 ms -> use more agents\n"));
  EXPECT_THAT(text, HasSubstr("latency.p99 < 50ms   held, measured 20.0 ms\n"));
  EXPECT_THAT(text, HasSubstr("errors.ratio < 0.1%   not held, not measured\n"));
  EXPECT_THAT(text, HasSubstr("asked for 2025-11-24 20:40:33\n"));
  EXPECT_THAT(text, HasSubstr("peak 100,000"));
  EXPECT_THAT(text, HasSubstr("host1: CPU 75 % busy, 5 % softirq, - steal   sent again 0.1 %   overflows -   "
                              "TIME_WAIT 1,200   conntrack 5 of 10   memory -\n"));
  EXPECT_THAT(text, HasSubstr("latency         310  1.00 ms  1.00 ms  1.00 ms  20.0 ms  20.0 ms  20.0 ms\n"));
  EXPECT_THAT(text, HasSubstr("service time      -        -        -        -        -        -        -\n"));
}

TEST(RunSummary, ARunThatIsNotOverHasNoVerdictAndNoFigures) {
  const std::string text = Text(SampleRun());
  EXPECT_THAT(text, HasSubstr("state        running\n"));
  EXPECT_THAT(text, Not(HasSubstr("verdict")));
  EXPECT_THAT(text, Not(HasSubstr("requests")));
}

}  // namespace
}  // namespace loadstar::client::terminal
