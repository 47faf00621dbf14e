#pragma once

#include <cstdint>
#include <string>

#include "lib/os/proc.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// What a condition of a profile is about.
struct KernelFacts {
  std::string release;  // as uname -r has it, such as "6.1.0-18-amd64"; empty: not known
  uint32_t cgroup = 0;  // version of the control groups; 0: there are none
};

// Those of the calling process's host. `cgroup_root` is where control groups are mounted.
KernelFacts ReadKernelFacts(const os::Proc& proc, const std::string& cgroup_root = "/sys/fs/cgroup");

// Why a host is none that the condition asks for, as part of a sentence; empty when it is. What is not known of the
// host does not fulfil a condition.
std::string WhyNotMeant(const v1::TuneCondition& condition, const KernelFacts& facts);

}  // namespace loadstar::agent
