#include "lib/spec/threshold.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/types/span.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

constexpr int kMaxThresholds = 100;
constexpr std::string_view kExample = "Write METRIC OPERATOR VALUE, such as latency.p99 < 50ms";

enum class MetricUnit { kTime, kRatio, kCount, kRate };

// What a test must have for the metric to be measured.
enum class Needs { kNothing, kRequests, kHandshake };

struct Family {
  std::string_view name;
  Needs needs;
};
constexpr std::array kTimes = {
    Family{"latency", Needs::kRequests},         Family{"service_time", Needs::kRequests},
    Family{"schedule_lag", Needs::kRequests},    Family{"connect_time", Needs::kNothing},
    Family{"handshake_time", Needs::kHandshake},
};
constexpr std::array<std::string_view, 7> kStatistics = {"p50", "p90", "p95", "p99", "p999", "max", "mean"};

struct Metric {
  std::string name;
  MetricUnit unit;
  Needs needs;
};

const std::vector<Metric>& Metrics() {
  static const auto* const metrics = [] {
    auto* all = new std::vector<Metric>;
    for (const Family& family : kTimes) {
      for (const std::string_view statistic : kStatistics) {
        all->push_back({Cat(family.name, ".", statistic), MetricUnit::kTime, family.needs});
      }
    }
    all->push_back({"errors.ratio", MetricUnit::kRatio, Needs::kRequests});
    all->push_back({"connections.peak", MetricUnit::kCount, Needs::kNothing});
    all->push_back({"connections.failed", MetricUnit::kCount, Needs::kNothing});
    all->push_back({"connections.lost", MetricUnit::kCount, Needs::kNothing});
    all->push_back({"requests.rate", MetricUnit::kRate, Needs::kRequests});
    all->push_back({"requests.answered", MetricUnit::kCount, Needs::kRequests});
    all->push_back({"requests.failed", MetricUnit::kCount, Needs::kRequests});
    return all;
  }();
  return *metrics;
}

const Metric* FindMetric(std::string_view name) {
  for (const Metric& metric : Metrics()) {
    if (metric.name == name) return &metric;
  }
  return nullptr;
}

struct Operator {
  std::string_view text;
  v1::Comparison comparison;
};
constexpr std::array kOperators = {
    Operator{"<", v1::COMPARISON_LT},
    Operator{"<=", v1::COMPARISON_LE},
    Operator{">", v1::COMPARISON_GT},
    Operator{">=", v1::COMPARISON_GE},
};

const Operator* FindOperator(v1::Comparison comparison) {
  for (const Operator& candidate : kOperators) {
    if (candidate.comparison == comparison) return &candidate;
  }
  return nullptr;
}

MaybeFlaw ReadBound(const Metric& metric, std::string_view text, double* out) {
  switch (metric.unit) {
    case MetricUnit::kTime: {
      absl::Duration duration;
      if (MaybeFlaw flaw = ReadDuration(text, &duration)) return flaw;
      *out = absl::ToDoubleMicroseconds(duration);
      return std::nullopt;
    }
    case MetricUnit::kRatio:
      return ReadRatio(text, out);
    case MetricUnit::kCount: {
      uint64_t count = 0;
      if (MaybeFlaw flaw = ReadCount(text, &count)) return flaw;
      *out = static_cast<double>(count);
      return std::nullopt;
    }
    case MetricUnit::kRate:
      return ReadRate(text, out);
  }
  return std::nullopt;
}

std::string FormatBound(const Metric& metric, double value) {
  switch (metric.unit) {
    case MetricUnit::kTime:
      return spec::FormatDuration(absl::Nanoseconds(std::round(value * 1000)));
    case MetricUnit::kRatio:
      return Cat(FormatNumber(value * 100), "%");
    case MetricUnit::kCount:
      return FormatNumber(value);
    case MetricUnit::kRate:
      return FormatRate(value);
  }
  return "";
}

Flaw UnknownMetric(std::string_view name) {
  const std::string nearest = Nearest(name, ThresholdMetrics());
  return {Cat("unknown metric ", Quoted(name)),
          nearest.empty() ? "Known: {latency|service_time|schedule_lag|connect_time|handshake_time}."
                            "{p50|p90|p95|p99|p999|max|mean}, errors.ratio, connections.{peak|failed|lost}, "
                            "requests.{rate|answered|failed}"
                          : Cat("Did you mean \"", nearest, "\"?")};
}

bool IsUpper(v1::Comparison comparison) { return comparison == v1::COMPARISON_LT || comparison == v1::COMPARISON_LE; }

// Why the condition can never hold, whatever the target does.
std::optional<Flaw> Unmeetable(const v1::ThresholdSpec& threshold, const Metric& metric, uint64_t peak,
                               bool peak_known) {
  if (threshold.comparison() == v1::COMPARISON_LT && threshold.value() == 0) {
    return Flaw{Cat(threshold.metric(), " is never below 0, so this cannot hold"), "Use <= 0 for none at all"};
  }
  if (metric.unit == MetricUnit::kRatio && !IsUpper(threshold.comparison()) &&
      (threshold.value() > 1 || (threshold.comparison() == v1::COMPARISON_GT && threshold.value() == 1))) {
    return Flaw{Cat(threshold.metric(), " is never above 100%, so this cannot hold"), "Ratios are 0% to 100%"};
  }
  if (threshold.metric() == "connections.peak" && peak_known && !IsUpper(threshold.comparison())) {
    const auto most = static_cast<double>(peak);
    if (threshold.value() > most || (threshold.comparison() == v1::COMPARISON_GT && threshold.value() == most)) {
      return Flaw{Cat("the load never asks for more than ", FormatCount(peak), " connections, so this cannot hold"),
                  Cat("Lower the bound to ", FormatCount(peak), " or raise load.connections")};
    }
  }
  return std::nullopt;
}

std::optional<Flaw> Unmeasured(const v1::TestSpec& test, const Metric& metric) {
  if (metric.needs == Needs::kRequests && !test.load().has_requests()) {
    return Flaw{Cat(metric.name, " is not measured: the test sends no requests"),
                "Add load.requests or take the threshold out"};
  }
  const bool tcp = test.target().protocol() == v1::PROTOCOL_TCP;
  if (metric.needs == Needs::kHandshake && (tcp || test.target().protocol() == v1::PROTOCOL_HTTP)) {
    return Flaw{Cat(metric.name, " is not measured: the protocol ", tcp ? "tcp" : "http", " has no handshake"),
                "Use connect_time instead, or another protocol"};
  }
  return std::nullopt;
}

}  // namespace

const std::vector<std::string>& ThresholdMetrics() {
  static const auto* const names = [] {
    auto* all = new std::vector<std::string>;
    for (const Metric& metric : Metrics()) all->push_back(metric.name);
    return all;
  }();
  return *names;
}

MaybeFlaw ReadThreshold(std::string_view text, v1::ThresholdSpec* out) {
  const size_t begin = text.find_first_of("<>=!");
  if (begin == std::string_view::npos) {
    return Flaw{Cat(Quoted(text), " compares nothing"), std::string(kExample)};
  }
  size_t end = text.find_first_not_of("<>=!", begin);
  if (end == std::string_view::npos) end = text.size();
  const std::string_view name = Trim(text.substr(0, begin));
  const std::string_view symbol = text.substr(begin, end - begin);
  const std::string_view value = Trim(text.substr(end));
  const Metric* metric = FindMetric(name);
  if (metric == nullptr) return UnknownMetric(name);
  const auto* found = std::find_if(kOperators.begin(), kOperators.end(),
                                   [symbol](const Operator& candidate) { return candidate.text == symbol; });
  if (found == kOperators.end()) {
    return Flaw{Cat("unknown operator ", Quoted(symbol)), "Write one of <, <=, >, >="};
  }
  double bound = 0;
  if (MaybeFlaw flaw = ReadBound(*metric, value, &bound)) return flaw;
  out->set_metric(metric->name);
  out->set_comparison(found->comparison);
  out->set_value(bound);
  out->set_text(std::string(Trim(text)));
  return std::nullopt;
}

std::string FormatThreshold(const v1::ThresholdSpec& threshold) {
  const Metric* metric = FindMetric(threshold.metric());
  const Operator* comparison = FindOperator(threshold.comparison());
  if (metric == nullptr || comparison == nullptr) return "";
  return Cat(metric->name, " ", comparison->text, " ", FormatBound(*metric, threshold.value()));
}

void CompleteThresholds(v1::TestSpec* test, Report* report) {
  if (test->thresholds_size() > kMaxThresholds) {
    report->Add("thresholds",
                Cat("there are ", test->thresholds_size(), " thresholds; at most ", kMaxThresholds, " are allowed"));
    return;
  }
  uint64_t peak = 0;
  for (const v1::Stage& stage : test->load().connections()) peak = std::max(peak, stage.to_connections());
  const bool peak_known = !report->Spoilt("load.connections");
  for (int i = 0; i < test->thresholds_size(); ++i) {
    v1::ThresholdSpec& threshold = *test->mutable_thresholds(i);
    const std::string field = Index("thresholds", static_cast<size_t>(i));
    if (report->Spoilt(field)) continue;
    const Metric* metric = FindMetric(threshold.metric());
    if (metric == nullptr) {
      report->Add(field, UnknownMetric(threshold.metric()));
      continue;
    }
    if (FindOperator(threshold.comparison()) == nullptr) {
      report->Add(field, "there is no comparison", "Use LT, LE, GT or GE");
      continue;
    }
    if (!std::isfinite(threshold.value()) || threshold.value() < 0) {
      report->Add(field, Cat("the bound ", FormatNumber(threshold.value()), " is no number from 0 on"));
      continue;
    }
    if (threshold.text().empty()) threshold.set_text(FormatThreshold(threshold));
    std::optional<Flaw> flaw;
    if (!report->Spoilt("load.requests") && !report->Spoilt("target.protocol")) flaw = Unmeasured(*test, *metric);
    if (!flaw) flaw = Unmeetable(threshold, *metric, peak, peak_known);
    if (flaw) report->Add(field, *std::move(flaw));
  }
}

}  // namespace loadstar::spec
