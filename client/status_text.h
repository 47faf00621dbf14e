// A failed call in words: its message, then every google.rpc detail that the message does not already say.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace loadstar::client {

std::string Describe(const absl::Status& status);
// Reason of the status's google.rpc.ErrorInfo; empty when it has none.
std::string ErrorReason(const absl::Status& status);

}  // namespace loadstar::client
