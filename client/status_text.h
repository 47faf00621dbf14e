// A failed call in words: its message, then every google.rpc detail that the message does not already say.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace loadstar::client {

std::string Describe(const absl::Status& status);

}  // namespace loadstar::client
