#pragma once

#include "absl/status/statusor.h"
#include "agent/tuner/journal.h"
#include "lib/os/proc.h"

namespace loadstar::agent {

// The era that the calling process lives in: the host's boot, and its network namespace.
absl::StatusOr<Era> ReadEra(const os::Proc& proc);

// Whether the calling process is in the network namespace that the host booted with (that of process 1, as far as it
// can be seen). What is written for the next boot takes effect there and nowhere else.
bool InFirstNetworkNamespace();

}  // namespace loadstar::agent
