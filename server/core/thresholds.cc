#include "server/core/thresholds.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace loadstar::server {
namespace {

const v1::Percentiles* PercentilesOf(const std::string& family, const v1::Run& run) {
  if (family == "latency") return &run.latency();
  if (family == "service_time") return &run.service_time();
  if (family == "schedule_lag") return &run.schedule_lag();
  if (family == "connect_time") return &run.connect_time();
  if (family == "handshake_time") return &run.handshake_time();
  return nullptr;
}

std::optional<double> OfPercentiles(const v1::Percentiles& p, const std::string& which) {
  if (p.count() == 0) return std::nullopt;
  if (which == "p50") return static_cast<double>(p.p50_us());
  if (which == "p90") return static_cast<double>(p.p90_us());
  if (which == "p95") return static_cast<double>(p.p95_us());
  if (which == "p99") return static_cast<double>(p.p99_us());
  if (which == "p999") return static_cast<double>(p.p999_us());
  if (which == "max") return static_cast<double>(p.max_us());
  if (which == "mean") return p.mean_us();
  return std::nullopt;
}

bool Holds(double measured, v1::Comparison comparison, double bound) {
  switch (comparison) {
    case v1::COMPARISON_LT:
      return measured < bound;
    case v1::COMPARISON_LE:
      return measured <= bound;
    case v1::COMPARISON_GT:
      return measured > bound;
    case v1::COMPARISON_GE:
      return measured >= bound;
    default:
      return false;
  }
}

}  // namespace

std::optional<double> Measure(const std::string& metric, const v1::Run& run, double load_s) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(metric, absl::MaxSplits('.', 1));
  const auto& [family, which] = parts;
  if (const v1::Percentiles* percentiles = PercentilesOf(family, run)) return OfPercentiles(*percentiles, which);
  if (!run.has_totals() || run.recorded_s() == 0) return std::nullopt;
  const v1::Counters& counters = run.totals().counters();
  if (metric == "connections.peak") return static_cast<double>(run.peak_connections());
  if (metric == "connections.failed") return static_cast<double>(counters.connects_failed());
  if (metric == "connections.lost") return static_cast<double>(counters.connections_lost());
  if (metric == "requests.answered") return static_cast<double>(counters.requests_answered());
  if (metric == "requests.failed") return static_cast<double>(counters.requests_failed());
  if (metric == "errors.ratio" && counters.requests_sent() > 0) {
    return static_cast<double>(counters.requests_failed()) / static_cast<double>(counters.requests_sent());
  }
  if (metric == "requests.rate" && load_s > 0) return static_cast<double>(counters.requests_answered()) / load_s;
  return std::nullopt;
}

void JudgeThresholds(double load_s, v1::Run* run) {
  run->clear_thresholds();
  for (const v1::ThresholdSpec& threshold : run->test().thresholds()) {
    v1::ThresholdResult* result = run->add_thresholds();
    *result->mutable_threshold() = threshold;
    const std::optional<double> measured = Measure(threshold.metric(), *run, load_s);
    if (!measured.has_value()) continue;
    result->set_measured(*measured);
    result->set_held(Holds(*measured, threshold.comparison(), threshold.value()));
  }
}

std::string Describe(const v1::ThresholdResult& result) {
  const v1::ThresholdSpec& threshold = result.threshold();
  const std::string text = absl::StrCat(threshold.text().empty() ? threshold.metric() : threshold.text(),
                                        result.held() ? " held: " : " did not hold: ");
  if (!result.has_measured()) return text + "it was not measured";
  const std::string& metric = threshold.metric();
  if (metric == "errors.ratio") return absl::StrFormat("%smeasured %.4g %%", text, result.measured() * 100);
  if (metric == "requests.rate") return absl::StrFormat("%smeasured %.1f/s", text, result.measured());
  if (absl::StartsWith(metric, "connections.") || absl::StartsWith(metric, "requests.")) {
    return absl::StrFormat("%smeasured %.0f", text, result.measured());
  }
  return absl::StrFormat("%smeasured %.3f ms", text, result.measured() / 1000);
}

}  // namespace loadstar::server
