#pragma once

#include <string>

#include "lib/os/fd.h"

namespace loadstar::os {

// Which process holds an flock(2) of the open file, in words: "process 123". As far as /proc/locks has it; else empty.
std::string FlockHolder(const Fd& file);

}  // namespace loadstar::os
