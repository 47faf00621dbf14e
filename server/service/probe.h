#pragma once

#include <string>

#include "absl/time/time.h"

namespace loadstar::server {

// What a fresh connection to our own listener showed.
enum class ProbeResult {
  kAlive,          // accepted, and HTTP/2 spoken
  kSilent,         // connected (the kernel does that alone) or not, but nobody spoke in time
  kNoDescriptors,  // this process could not even open a socket
};

// Connects to `host_and_port` (numeric) and waits for the server's HTTP/2 settings. Blocks for at most `timeout`.
ProbeResult ProbeListener(const std::string& host_and_port, absl::Duration timeout);

}  // namespace loadstar::server
