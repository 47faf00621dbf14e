#pragma once

#include <string>

#include "loadstar/v1/metrics.pb.h"

namespace loadstar::worker {

// Why something failed, as it is counted.
struct Failure {
  v1::ErrorKind kind = v1::ERROR_KIND_UNSPECIFIED;
  std::string detail;  // at most 64 bytes
};

// The kind of an errno from connect or, in ERROR_PHASE_CONNECTION, from an established socket, where 0 is an orderly
// close by the far side.
Failure FailureOfErrno(v1::ErrorPhase phase, int error);

}  // namespace loadstar::worker
