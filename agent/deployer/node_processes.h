#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "lib/os/proc.h"

namespace loadstar::agent {

// A living process (no zombie) that carries kNodeVariable or leads or follows a known group.
struct NodeProcess {
  pid_t pid = 0;
  pid_t group = 0;
  uint64_t start_ticks = 0;
  std::string mark;  // empty: it has none, or may not be read
};

// Every living process of this host, with its mark. One scan serves all nodes.
std::vector<NodeProcess> ScanProcesses(const os::Proc& proc);

// Whether a process belongs to a node: by its mark, or by its group as long as that number is the node's own
// (`group` 0: it is not any more).
inline bool BelongsTo(const NodeProcess& process, const std::string& mark, pid_t group) {
  return process.mark == mark || (group != 0 && process.group == group);
}

// Signals one process; checks through a pidfd that it is still the one that was scanned.
void SignalProcess(const os::Proc& proc, const NodeProcess& process, int signal);

}  // namespace loadstar::agent
