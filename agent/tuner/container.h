// What a container can have of a profile for itself.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/tuner/sysctl_tree.h"
#include "lib/os/limits.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// Whether Docker sets the key for a container alone (`docker run --sysctl`, `sysctls:` of Compose): those of network
// and IPC namespaces, which it knows by name. The container has to have such a namespace of its own: with the host's
// network it is refused. All other keys are the host's.
bool DockerSets(std::string_view key);

// These keys as they are in a network and an IPC namespace that were just made, which is where a container begins: some
// begin with the kernel's defaults, some with what the host has. Read once; nothing can be written. Needs the right to
// make namespaces (CAP_SYS_ADMIN): PERMISSION_DENIED.
absl::StatusOr<std::unique_ptr<SysctlTree>> ReadNewNamespaces(const std::vector<std::string>& keys);

// Of the step about how many files, as a key of its own.
inline constexpr char kContainerDescriptorsKey[] = "ulimit nofile";

// What a container has to be created with so that it has the profile's sysctls, key by key: kChanged of what Docker has
// to be told, from what the container would begin with (`fresh`). `host` is the host's own tree.
std::vector<v1::TuneStep> PlanContainerSysctls(const v1::TuningProfile& profile, SysctlTree* host, SysctlTree* fresh);

// The same of the profile's descriptors. `has`: what a container begins with; `most`: fs.nr_open.
v1::TuneStep PlanContainerDescriptors(const v1::TuningProfile& profile, const absl::StatusOr<os::DescriptorLimit>& has,
                                      uint64_t most);

}  // namespace loadstar::agent
