#include "lib/os/limits.h"

#include <sys/resource.h>

#include <cerrno>

namespace loadstar::os {

absl::StatusOr<DescriptorLimit> ReadDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return absl::ErrnoToStatus(errno, "cannot read RLIMIT_NOFILE");
  return DescriptorLimit{.soft = limit.rlim_cur, .hard = limit.rlim_max};
}

absl::StatusOr<DescriptorLimit> RaiseDescriptorLimit() {
  absl::StatusOr<DescriptorLimit> limit = ReadDescriptorLimit();
  if (!limit.ok() || limit->soft >= limit->hard) return limit;
  const rlimit wanted{.rlim_cur = limit->hard, .rlim_max = limit->hard};
  if (setrlimit(RLIMIT_NOFILE, &wanted) != 0) return absl::ErrnoToStatus(errno, "cannot raise RLIMIT_NOFILE");
  return ReadDescriptorLimit();
}

}  // namespace loadstar::os
