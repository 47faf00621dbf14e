#include "client/exit_code.h"

namespace loadstar::client {

ExitCode ExitCodeOf(v1::VerdictKind verdict) {
  switch (verdict) {
    case v1::VERDICT_KIND_PASSED:
      return ExitCode::kPassed;
    case v1::VERDICT_KIND_FAILED:
      return ExitCode::kThresholdFailed;
    case v1::VERDICT_KIND_NOT_TRUSTWORTHY:
      return ExitCode::kNotTrustworthy;
    default:
      // Stopped by request: its thresholds were not judged, so a script must not take it for passed.
      return ExitCode::kNotCarriedOut;
  }
}

ExitCode ExitCodeOf(const absl::Status& failure) {
  switch (failure.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
      return ExitCode::kInvalidInput;
    default:
      return ExitCode::kNotCarriedOut;
  }
}

}  // namespace loadstar::client
