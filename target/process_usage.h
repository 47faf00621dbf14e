#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "lib/os/proc.h"

namespace loadstar::target {

struct ProcessUsage {
  double cpu_seconds = 0;  // user and system, since the process started
  uint64_t resident_bytes = 0;
};

// user + system time in clock ticks from /proc/PID/stat; nullopt for what is no such file.
std::optional<uint64_t> ParseCpuTicks(std::string_view stat);

// What a process spent; nullopt when there is none (any more).
std::optional<ProcessUsage> ReadUsage(pid_t pid, const os::Proc& proc = os::Proc());

}  // namespace loadstar::target
