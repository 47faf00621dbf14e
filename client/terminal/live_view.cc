#include "client/terminal/live_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/terminal/format.h"
#include "client/terminal/table.h"
#include "lib/metrics/histogram.h"
#include "lib/spec/spec.h"

namespace loadstar::client::terminal {
namespace {

constexpr size_t kEventsShown = 3;
constexpr size_t kErrorsShown = 6;
// Narrower, the times would be cut off behind the bar.
constexpr size_t kWidthForBar = 56;

double SecondsOf(const v1::Snapshot& snapshot) {
  return static_cast<double>(snapshot.to_elapsed_s()) - static_cast<double>(snapshot.from_elapsed_s()) + 1;
}

std::string PerSecond(const v1::Snapshot& snapshot, uint64_t count) {
  return Rate(static_cast<double>(count) / SecondsOf(snapshot));
}

std::string P99(const v1::Histogram& wire) {
  metrics::Histogram histogram;
  if (!histogram.Merge(wire) || histogram.empty()) {
    return std::string(kAbsent);
  }
  return Latency(histogram.ValueAtQuantile(0.99));
}

Style StateStyle(const v1::Run& run) {
  switch (run.verdict().kind()) {
    case v1::VERDICT_KIND_PASSED:
      return Style::kGood;
    case v1::VERDICT_KIND_UNSPECIFIED:
      return Style::kPlain;
    case v1::VERDICT_KIND_STOPPED:
    case v1::VERDICT_KIND_NOT_TRUSTWORTHY:
      return Style::kWarning;
    default:
      return Style::kBad;
  }
}

std::string StateText(const v1::Run& run) {
  if (run.state() == v1::RUN_STATE_FINISHED && run.verdict().kind() != v1::VERDICT_KIND_UNSPECIFIED) {
    return Words(run.verdict().kind());
  }
  return Words(run.state());
}

Line Head(const LiveState& state) {
  const v1::Run& run = state.run();
  Line line;
  line.Add(Printable(run.run_id()), Style::kBold).Add("   ").Add(StateText(run), StateStyle(run));
  if (state.last() && run.state() != v1::RUN_STATE_FINISHED) {
    const std::string stage = StageName(run.test(), state.last()->stage_index());
    if (!stage.empty()) {
      line.Add(absl::StrFormat("   %s (stage %d of %d)", stage, state.last()->stage_index() + 1,
                               run.test().load().connections_size()));
    }
  }
  if (!run.updates().empty()) {
    const v1::AppliedUpdate& update = *run.updates().rbegin();
    line.Add(absl::StrCat("   load changed at ", Clock(update.at_elapsed().seconds())), Style::kWarning);
  }
  return line;
}

Line Progress(const LiveState& state, size_t width) {
  const int64_t elapsed = state.next_second();
  const int64_t planned =
      state.last() ? int64_t{state.last()->planned_s()} : int64_t{state.run().planned_duration().seconds()};
  if (planned <= 0) {
    return Line(absl::StrCat("elapsed ", Clock(elapsed)), Style::kFaint);
  }
  const double share = std::clamp(static_cast<double>(elapsed) / static_cast<double>(planned), 0.0, 1.0);
  const std::string times = absl::StrFormat("%3d %%   %s elapsed, %s left", static_cast<int>(share * 100),
                                            Clock(elapsed), Clock(std::max<int64_t>(0, planned - elapsed)));
  if (width < kWidthForBar) {
    return Line(times);
  }
  const size_t bar = std::clamp<size_t>(width > 50 ? width - 50 : 0, 10, 60);
  const auto filled = static_cast<size_t>(share * static_cast<double>(bar));
  std::string drawn = std::string(filled, '=') + std::string(bar - filled, ' ');
  if (filled < bar) {
    drawn[filled] = '>';
  }
  return Line(absl::StrCat("[", drawn, "] ", times));
}

// A row of the block: a title in its own column, then names and figures, on as many lines as the width asks for.
class Row {
 public:
  Row(const std::string& title, size_t width) : width_(width) {
    lines_.push_back(Line(absl::StrFormat("%-*s", kTitle, title), Style::kFaint));
  }
  Row& Figure(const std::string& name, const std::string& value, Style style = Style::kPlain) {
    Line figure;
    figure.Add(absl::StrCat(name, " ")).Add(value, style);
    // The last column stays free, as the painter leaves it.
    if (!first_ && lines_.back().width() + kGap + figure.width() >= width_) {
      lines_.push_back(Line(std::string(kTitle, ' ')));
      first_ = true;
    }
    lines_.back().Add(first_ ? "" : std::string(kGap, ' ')).Add(absl::StrCat(name, " ")).Add(value, style);
    first_ = false;
    return *this;
  }
  Row& Text(const std::string& text, Style style = Style::kPlain) {
    lines_.back().Add(text, style);
    return *this;
  }
  void Into(std::vector<Line>* block) { std::move(lines_.begin(), lines_.end(), std::back_inserter(*block)); }

 private:
  static constexpr size_t kTitle = 14;
  static constexpr size_t kGap = 3;
  const size_t width_;
  std::vector<Line> lines_;
  bool first_ = true;
};

std::string ErrorsText(const LiveState& state) {
  if (!state.last()) {
    return std::string(kAbsent);
  }
  if (state.errors().empty()) {
    return "none";
  }
  std::vector<std::pair<std::string, uint64_t>> errors(state.errors().begin(), state.errors().end());
  std::stable_sort(errors.begin(), errors.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::vector<std::string> parts;
  for (const auto& [name, count] : errors) {
    if (parts.size() == kErrorsShown) {
      parts.push_back(absl::StrCat("and ", errors.size() - kErrorsShown, " more kinds"));
      break;
    }
    parts.push_back(absl::StrCat(name, " ", Grouped(count)));
  }
  return absl::StrJoin(parts, ", ");
}

std::vector<Line> Nodes(const LiveState& state) {
  const v1::Run& run = state.run();
  Table table({{"node"},
               {"established", Table::Align::kRight},
               {"requests/s", Table::Align::kRight},
               {"p99", Table::Align::kRight},
               {"node's own count", Table::Align::kRight}});
  for (int i = 0; i < run.endpoints_size(); ++i) {
    const std::string& endpoint = run.endpoints(i);
    const std::string node = i < run.nodes_size() ? run.nodes(i) : "";
    std::string established(kAbsent), rate(kAbsent), p99(kAbsent), own(kAbsent);
    if (state.last()) {
      for (const v1::EndpointFigures& figures : state.last()->endpoints()) {
        if (figures.endpoint() == endpoint) {
          established = Grouped(figures.gauges().connections_established());
          rate = PerSecond(*state.last(), figures.counters().requests_answered());
          p99 = P99(figures.latency());
        }
      }
      for (const v1::NodeFigures& figures : state.last()->nodes()) {
        if (!node.empty() && figures.node() == node && figures.has_connections()) {
          own = Grouped(figures.connections());
        }
      }
    }
    table.Add({node.empty() ? endpoint : node, established, rate, p99, own});
  }
  return table.empty() ? std::vector<Line>() : table.Lines();
}

}  // namespace

bool LiveState::Take(const v1::Snapshot& snapshot) {
  if (last_ && snapshot.to_elapsed_s() <= last_->to_elapsed_s()) {
    return false;
  }
  connects_failed_ += snapshot.figures().counters().connects_failed();
  connections_lost_ += snapshot.figures().counters().connections_lost();
  for (const v1::ErrorCount& error : snapshot.figures().errors()) {
    errors_[ErrorName(error)] += error.count();
  }
  last_ = snapshot;
  return true;
}

std::string StageName(const v1::TestSpec& test, uint32_t stage) {
  const auto& stages = test.load().connections();
  if (stage >= static_cast<uint32_t>(stages.size())) {
    return "";
  }
  const int index = static_cast<int>(stage);
  const uint64_t to = stages[index].to_connections();
  if (stages[index].hold()) {
    return absl::StrCat("hold ", spec::FormatCount(to));
  }
  const uint64_t from = index == 0 ? 0 : stages[index - 1].to_connections();
  return absl::StrCat("ramp ", spec::FormatCount(from), " -> ", spec::FormatCount(to));
}

std::string EventText(const v1::Event& event) {
  std::string where = event.agent();
  if (!event.subject().empty()) {
    absl::StrAppend(&where, where.empty() ? "" : " ", event.subject());
  }
  std::string text;
  if (event.has_elapsed_s()) {
    absl::StrAppendFormat(&text, "%.1f s  ", event.elapsed_s());
  }
  if (event.severity() == v1::SEVERITY_WARNING || event.severity() == v1::SEVERITY_ERROR) {
    absl::StrAppend(&text, event.severity() == v1::SEVERITY_ERROR ? "error  " : "warning  ");
  }
  absl::StrAppend(&text, where, where.empty() ? "" : ": ", event.message().empty() ? event.code() : event.message());
  return Printable(text);
}

Style EventStyle(const v1::Event& event) {
  return event.severity() == v1::SEVERITY_ERROR     ? Style::kBad
         : event.severity() == v1::SEVERITY_WARNING ? Style::kWarning
                                                    : Style::kPlain;
}

std::vector<Line> LiveBlock(const LiveState& state, size_t width, size_t height) {
  const auto& last = state.last();
  const std::string absent(kAbsent);
  const auto gauge = [&](uint64_t (v1::Gauges::*get)() const) {
    return last ? Grouped((last->figures().gauges().*get)()) : absent;
  };
  const auto rate = [&](uint64_t (v1::Counters::*get)() const) {
    return last ? PerSecond(*last, (last->figures().counters().*get)()) : absent;
  };
  const auto latency = [&](const v1::Percentiles& (v1::Snapshot::*of)() const,
                           uint64_t (v1::Percentiles::*get)()
                               const) { return last ? Latency(((*last).*of)(), (((*last).*of)().*get)()) : absent; };
  const uint64_t failed = state.connects_failed();
  const uint64_t lost = state.connections_lost();

  std::vector<Line> block;
  block.push_back(Head(state));
  block.push_back(Progress(state, width));
  Row("connections", width)
      .Figure("target", gauge(&v1::Gauges::connections_target))
      .Figure("established", gauge(&v1::Gauges::connections_established), Style::kBold)
      .Figure("pending", gauge(&v1::Gauges::connections_pending))
      .Figure("failed", last ? Grouped(failed) : absent, failed > 0 ? Style::kBad : Style::kPlain)
      .Figure("lost", last ? Grouped(lost) : absent, lost > 0 ? Style::kBad : Style::kPlain)
      .Into(&block);
  Row("requests/s", width)
      .Figure("offered", rate(&v1::Counters::requests_due))
      .Figure("done", rate(&v1::Counters::requests_answered), Style::kBold)
      .Figure("outstanding", gauge(&v1::Gauges::requests_outstanding))
      .Figure("backlog", gauge(&v1::Gauges::requests_backlog))
      .Into(&block);
  Row("latency", width)
      .Figure("p50", latency(&v1::Snapshot::latency, &v1::Percentiles::p50_us))
      .Figure("p90", latency(&v1::Snapshot::latency, &v1::Percentiles::p90_us))
      .Figure("p99", latency(&v1::Snapshot::latency, &v1::Percentiles::p99_us), Style::kBold)
      .Figure("max", latency(&v1::Snapshot::latency, &v1::Percentiles::max_us))
      .Into(&block);
  Row("", width)
      .Figure("service time p99", latency(&v1::Snapshot::service_time, &v1::Percentiles::p99_us))
      .Figure("schedule lag p99", latency(&v1::Snapshot::schedule_lag, &v1::Percentiles::p99_us))
      .Into(&block);
  Row("errors", width).Text(ErrorsText(state), state.errors().empty() ? Style::kPlain : Style::kBad).Into(&block);

  std::vector<Line> tail;
  if (last && !last->missing_agents().empty()) {
    Row("missing", width)
        .Text(Printable(absl::StrCat("no figures from ", absl::StrJoin(last->missing_agents(), ", "))), Style::kWarning)
        .Into(&tail);
  }
  const auto& events = state.run().events();
  for (int i = std::max(0, events.size() - static_cast<int>(kEventsShown)); i < events.size(); ++i) {
    Row(tail.empty() || i == events.size() - static_cast<int>(kEventsShown) || i == 0 ? "events" : "", width)
        .Text(EventText(events[i]), EventStyle(events[i]))
        .Into(&tail);
  }

  std::vector<Line> nodes = Nodes(state);
  const size_t used = block.size() + tail.size();
  const size_t room = height > used ? height - used : 0;
  if (nodes.size() > room) {
    const size_t shown = room > 0 ? room - 1 : 0;
    const size_t left_out = nodes.size() - std::max<size_t>(shown, 1);
    nodes.resize(shown);
    if (room > 0) {
      nodes.emplace_back(absl::StrCat("and ", left_out, " more nodes"), Style::kFaint);
    }
  }
  std::move(nodes.begin(), nodes.end(), std::back_inserter(block));
  std::move(tail.begin(), tail.end(), std::back_inserter(block));
  if (block.size() > height) {
    block.resize(height);
  }
  return block;
}

std::string PlainLine(const LiveState& state) {
  const v1::Run& run = state.run();
  if (!state.last()) {
    return absl::StrCat(Printable(run.run_id()), "  ", StateText(run));
  }
  const v1::Snapshot& last = *state.last();
  const v1::Counters& counters = last.figures().counters();
  const v1::Gauges& gauges = last.figures().gauges();
  uint64_t errors = 0;
  for (const auto& [name, count] : state.errors()) {
    errors += count;
  }
  std::string line = absl::StrFormat(
      "%s/%s  %s  connections %s/%s  requests/s %s offered %s done  outstanding %s  p50 %s  p99 %s  max %s  errors %s",
      Clock(state.next_second()), Clock(last.planned_s()), StageName(run.test(), last.stage_index()),
      Grouped(gauges.connections_established()), Grouped(gauges.connections_target()),
      PerSecond(last, counters.requests_due()), PerSecond(last, counters.requests_answered()),
      Grouped(gauges.requests_outstanding()), Latency(last.latency(), last.latency().p50_us()),
      Latency(last.latency(), last.latency().p99_us()), Latency(last.latency(), last.latency().max_us()),
      Grouped(errors));
  if (!last.missing_agents().empty()) {
    absl::StrAppend(&line, "  missing ", Printable(absl::StrJoin(last.missing_agents(), ",")));
  }
  return line;
}

}  // namespace loadstar::client::terminal
