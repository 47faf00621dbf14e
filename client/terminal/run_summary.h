// A run in a screenful: how it came out and why, and its figures as far as they were measured.
#pragma once

#include <vector>

#include "absl/time/time.h"
#include "client/terminal/line.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::client::terminal {

std::vector<Line> RunSummary(const v1::Run& run, absl::TimeZone zone = absl::LocalTimeZone());

// "passed", or where the run stands while it has no verdict; with the style that suits it.
Line VerdictLine(const v1::Run& run);

}  // namespace loadstar::client::terminal
