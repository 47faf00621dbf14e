#include <algorithm>
#include <cmath>

#include "lib/spec/spec.h"
#include "lib/spec/text.h"
#include "lib/spec/threshold.h"

namespace loadstar::spec {
namespace {

// Rounds a lower bound down and an upper bound up, so that rounding never makes a threshold harder; what is a whole
// number but for the error of the multiplication stays one.
double ScaledCount(double value, double scale, bool upper) {
  const double scaled = value * scale;
  const double nearest = std::round(scaled);
  if (std::abs(scaled - nearest) <= 1e-9 * std::max(1.0, scaled)) return nearest;
  return upper ? std::ceil(scaled) : std::floor(scaled);
}

}  // namespace

void Scale(double scale, v1::TestSpec* test) {
  if (!(scale > 0 && scale < 1)) return;
  for (v1::Stage& stage : *test->mutable_load()->mutable_connections()) {
    if (stage.to_connections() == 0) continue;
    const double scaled = std::round(static_cast<double>(stage.to_connections()) * scale);
    stage.set_to_connections(std::max<uint64_t>(1, static_cast<uint64_t>(scaled)));
  }
  if (test->load().has_requests() && test->load().requests().rate_scope() == v1::RATE_SCOPE_TOTAL) {
    v1::RequestsSpec* requests = test->mutable_load()->mutable_requests();
    requests->set_rate_per_s(requests->rate_per_s() * scale);
  }
  for (v1::ThresholdSpec& threshold : *test->mutable_thresholds()) {
    const bool upper = threshold.comparison() == v1::COMPARISON_LT || threshold.comparison() == v1::COMPARISON_LE;
    if (threshold.metric().starts_with("connections.")) {
      threshold.set_value(ScaledCount(threshold.value(), scale, upper));
    } else if (threshold.metric() == "requests.rate") {
      threshold.set_value(threshold.value() * scale);
    } else {
      continue;
    }
    threshold.set_text(FormatThreshold(threshold));
  }
}

}  // namespace loadstar::spec
