#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace loadstar::os {

struct DescriptorLimit {
  uint64_t soft = 0;
  uint64_t hard = 0;
};

// RLIMIT_NOFILE of this process.
absl::StatusOr<DescriptorLimit> ReadDescriptorLimit();
// Raises the soft limit to the hard one (children inherit it) and returns what stands now.
absl::StatusOr<DescriptorLimit> RaiseDescriptorLimit();

}  // namespace loadstar::os
