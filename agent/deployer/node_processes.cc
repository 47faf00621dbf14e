#include "agent/deployer/node_processes.h"

#include "agent/deployer/launch.h"
#include "lib/os/subprocess.h"

namespace loadstar::agent {

std::vector<NodeProcess> ScanProcesses(const os::Proc& proc) {
  std::vector<NodeProcess> processes;
  for (pid_t pid : proc.Pids()) {
    const absl::StatusOr<os::ProcessStat> stat = proc.Stat(pid);
    if (!stat.ok() || stat->state == 'Z' || stat->state == 'X') continue;
    processes.push_back({.pid = pid,
                         .group = stat->group,
                         .start_ticks = stat->start_ticks,
                         .mark = proc.EnvironmentOf(pid, kNodeVariable).value_or("")});
  }
  return processes;
}

void SignalProcess(const os::Proc& proc, const NodeProcess& process, int signal) {
  const absl::StatusOr<os::Fd> pidfd = os::OpenProcess(process.pid);
  if (!pidfd.ok()) return;
  // The number could have been given to another process since the scan; behind the pidfd it cannot change any more.
  const absl::StatusOr<os::ProcessStat> stat = proc.Stat(process.pid);
  if (stat.ok() && stat->start_ticks == process.start_ticks) os::SendSignal(*pidfd, signal);
}

}  // namespace loadstar::agent
