#include "client/terminal/run_summary.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/terminal/format.h"
#include "client/terminal/live_view.h"
#include "client/terminal/table.h"

namespace loadstar::client::terminal {
namespace {

constexpr int kEventsShown = 20;

Line Field(const std::string& name, const std::string& value, Style style = Style::kPlain) {
  return Line().Add(absl::StrFormat("%-13s", name), Style::kFaint).Add(Printable(value), style);
}

Style VerdictStyle(v1::VerdictKind kind) {
  switch (kind) {
    case v1::VERDICT_KIND_PASSED:
      return Style::kGood;
    case v1::VERDICT_KIND_FAILED:
    case v1::VERDICT_KIND_NOT_CARRIED_OUT:
      return Style::kBad;
    case v1::VERDICT_KIND_NOT_TRUSTWORTHY:
    case v1::VERDICT_KIND_STOPPED:
      return Style::kWarning;
    default:
      return Style::kPlain;
  }
}

// A threshold's figure in the unit of its metric.
std::string Measured(const v1::ThresholdResult& result) {
  if (!result.has_measured()) {
    return "not measured";
  }
  const std::string& metric = result.threshold().metric();
  if (metric == "errors.ratio") {
    return absl::StrFormat("measured %.4g %%", result.measured() * 100);
  }
  if (absl::StartsWith(metric, "connections.") || absl::StartsWith(metric, "requests.")) {
    return absl::StrCat("measured ", Rate(result.measured()));
  }
  return absl::StrCat("measured ", Latency(static_cast<uint64_t>(std::max(0.0, result.measured()))));
}

void AddPercentiles(const char* name, const v1::Percentiles& percentiles, Table* table) {
  const auto cell = [&](uint64_t us) { return Latency(percentiles, us); };
  table->Add({name, percentiles.count() == 0 ? "" : Grouped(percentiles.count()), cell(percentiles.p50_us()),
              cell(percentiles.p90_us()), cell(percentiles.p95_us()), cell(percentiles.p99_us()),
              cell(percentiles.p999_us()), cell(percentiles.max_us())});
}

void AddFigures(const v1::Run& run, std::vector<Line>* lines) {
  const v1::Counters& counters = run.totals().counters();
  lines->push_back(Field(
      "connections",
      absl::StrFormat("peak %s   established %s   failed %s   lost %s   closed %s", Grouped(run.peak_connections()),
                      Grouped(counters.connects_established()), Grouped(counters.connects_failed()),
                      Grouped(counters.connections_lost()), Grouped(counters.connections_closed()))));
  if (counters.heartbeats_sent() > 0) {
    lines->push_back(Field("heartbeats", absl::StrFormat("sent %s   answered %s", Grouped(counters.heartbeats_sent()),
                                                         Grouped(counters.heartbeats_answered()))));
  }
  std::string rate(kAbsent);
  if (run.recorded_s() > 0) {
    rate = Rate(static_cast<double>(counters.requests_answered()) / static_cast<double>(run.recorded_s()));
  }
  lines->push_back(Field(
      "requests", absl::StrFormat("sent %s   answered %s   failed %s   dropped %s   %s/s answered",
                                  Grouped(counters.requests_sent()), Grouped(counters.requests_answered()),
                                  Grouped(counters.requests_failed()), Grouped(counters.requests_dropped()), rate)));
  std::vector<std::string> errors;
  for (const v1::ErrorCount& error : run.totals().errors()) {
    errors.push_back(absl::StrCat(ErrorName(error), " ", Grouped(error.count())));
  }
  lines->push_back(Field("errors", errors.empty() ? "none" : absl::StrJoin(errors, ", ")));
  Table table({{""},
               {"count", Table::Align::kRight},
               {"p50", Table::Align::kRight},
               {"p90", Table::Align::kRight},
               {"p95", Table::Align::kRight},
               {"p99", Table::Align::kRight},
               {"p99.9", Table::Align::kRight},
               {"max", Table::Align::kRight}});
  AddPercentiles("latency", run.latency(), &table);
  AddPercentiles("service time", run.service_time(), &table);
  AddPercentiles("schedule lag", run.schedule_lag(), &table);
  AddPercentiles("connect time", run.connect_time(), &table);
  AddPercentiles("handshake", run.handshake_time(), &table);
  for (Line& line : table.Lines()) {
    lines->push_back(std::move(line));
  }
}

std::string Share(bool measured, uint64_t part, uint64_t whole) {
  if (!measured || whole == 0) return std::string(kAbsent);
  return absl::StrFormat("%.3g %%", 100 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string Count(bool measured, uint64_t value) { return measured ? Grouped(value) : std::string(kAbsent); }

// "host1: CPU 83 % busy, 12 % softirq, 0 % steal   sent again 0.01 %   TIME_WAIT 12   conntrack -"
std::string HostText(const v1::Participant& participant) {
  const v1::HostFigures& host = participant.host();
  std::string conntrack = Count(host.has_conntrack_count(), host.conntrack_count());
  if (host.has_conntrack_count() && host.has_conntrack_max()) {
    absl::StrAppend(&conntrack, " of ", Grouped(host.conntrack_max()));
  }
  return absl::StrCat(
      participant.agent(), ": CPU ", Share(host.has_cpu_busy_ns(), host.cpu_busy_ns(), host.cpu_ns()), " busy, ",
      Share(host.has_cpu_softirq_ns(), host.cpu_softirq_ns(), host.cpu_ns()), " softirq, ",
      Share(host.has_cpu_steal_ns(), host.cpu_steal_ns(), host.cpu_ns()), " steal   sent again ",
      Share(host.has_segments_retransmitted(), host.segments_retransmitted(), host.segments_sent()), "   overflows ",
      Count(host.has_listen_overflows(), host.listen_overflows()), "   TIME_WAIT ",
      Count(host.has_sockets_time_wait(), host.sockets_time_wait()), "   conntrack ", conntrack, "   memory ",
      participant.has_memory_taken_bytes() ? Bytes(participant.memory_taken_bytes()) : std::string(kAbsent));
}

}  // namespace

Line VerdictLine(const v1::Run& run) {
  return run.verdict().kind() == v1::VERDICT_KIND_UNSPECIFIED
             ? Line(Words(run.state()))
             : Line(Words(run.verdict().kind()), VerdictStyle(run.verdict().kind()));
}

std::vector<Line> RunSummary(const v1::Run& run, absl::TimeZone zone) {
  std::vector<Line> lines;
  lines.push_back(Line(Printable(run.run_id()), Style::kBold));
  const bool judged = run.verdict().kind() != v1::VERDICT_KIND_UNSPECIFIED;
  lines.push_back(judged ? Field("verdict", Words(run.verdict().kind()), VerdictStyle(run.verdict().kind()))
                         : Field("state", Words(run.state())));
  for (const v1::Reason& reason : run.verdict().reasons()) {
    lines.push_back(Field("", absl::StrCat(reason.side() == v1::SIDE_UNSPECIFIED ? "" : Words(reason.side()),
                                           reason.side() == v1::SIDE_UNSPECIFIED ? "" : ", ", reason.code(), ": ",
                                           reason.message(), reason.remedy().empty() ? "" : " -> ", reason.remedy())));
  }
  for (const v1::ThresholdResult& result : run.thresholds()) {
    lines.push_back(Field("threshold",
                          absl::StrFormat("%s   %s, %s", result.threshold().text(),
                                          !judged ? "open" : (result.held() ? "held" : "not held"), Measured(result)),
                          !judged || result.held() ? Style::kPlain : Style::kBad));
  }
  std::string times = absl::StrCat("asked for ", LocalTime(ToTime(run.created_at()), zone));
  if (run.has_start_at()) {
    absl::StrAppend(&times, ", load from ", LocalTime(ToTime(run.start_at()), zone));
  }
  if (run.has_ended_at()) {
    absl::StrAppend(&times, ", over ", LocalTime(ToTime(run.ended_at()), zone));
  }
  lines.push_back(Field("time", times));
  lines.push_back(Field("profile", absl::StrCat(Clock(run.planned_duration().seconds()), " planned, ", run.recorded_s(),
                                                " seconds recorded")));
  std::vector<std::string> agents;
  for (const v1::Participant& participant : run.participants()) {
    agents.push_back(absl::StrCat(participant.agent(), " (", participant.worker_count(), " workers",
                                  participant.lost() ? ", lost" : "", ")"));
  }
  if (!agents.empty()) {
    lines.push_back(Field(
        "agents", absl::StrCat(absl::StrJoin(agents, ", "),
                               run.has_start_skew()
                                   ? absl::StrCat("; start skew ",
                                                  Latency(static_cast<uint64_t>(std::max<int64_t>(
                                                      0, absl::ToInt64Microseconds(ToDuration(run.start_skew()))))))
                                   : "")));
  }
  for (const v1::Participant& participant : run.participants()) {
    if (participant.has_host()) lines.push_back(Field("host", HostText(participant)));
  }
  if (run.has_totals()) {
    AddFigures(run, &lines);
  }
  if (!run.gaps().empty()) {
    lines.push_back(Field("gaps", absl::StrJoin(run.gaps(), ", "), Style::kWarning));
  }
  const auto& events = run.events();
  const int first = std::max(0, events.size() - kEventsShown);
  for (int i = first; i < events.size(); ++i) {
    lines.push_back(Field(i == first ? "events" : "", EventText(events[i]), EventStyle(events[i])));
  }
  return lines;
}

}  // namespace loadstar::client::terminal
