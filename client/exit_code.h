// What the program's exit code says, and the one table that gives it.
#pragma once

#include "absl/status/status.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::client {

enum class ExitCode {
  kPassed = 0,           // done; for run and watch: the verdict is "passed"
  kThresholdFailed = 1,  // the verdict is "failed"
  kInvalidInput = 2,     // nothing was done
  kNotTrustworthy = 3,   // the generator or its host shaped the result
  kNotCarriedOut = 4,    // out of reach, refused, lost, stopped or left before there was a verdict
};

ExitCode ExitCodeOf(v1::VerdictKind verdict);
// Of a call that failed: the caller's mistake is invalid input, everything else could not be carried out.
ExitCode ExitCodeOf(const absl::Status& failure);

}  // namespace loadstar::client
