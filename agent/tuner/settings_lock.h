#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lib/os/fd.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// Sees to it that settings which reach others have one agent that changes them: two with a journal each would take each
// other's values for what was there before. It locks (flock(2)) a setting of the kernel's own in place of a file: of
// those of the host there is one for all namespaces, of those of a network namespace one in each, and nothing is left
// behind when the process ends, however it does. Processes that see another mount of /proc are not kept out. Owned by
// the thread that tunes.
class SettingsLock {
 public:
  // Below `root`, "/proc/sys" but in tests.
  explicit SettingsLock(std::string root = "/proc/sys") : root_(std::move(root)) {}

  // Takes what is of the scope, and keeps it. FAILED_PRECONDITION: another process has it; the text names it.
  absl::Status Take(v1::SysctlScope scope);
  // As Take would end, with nothing taken.
  absl::Status Ask(v1::SysctlScope scope) const;
  // Gives back all but these.
  void Keep(const std::set<v1::SysctlScope>& scopes);

 private:
  absl::StatusOr<os::Fd> Lock(v1::SysctlScope scope, int how) const;

  const std::string root_;
  std::map<v1::SysctlScope, os::Fd> held_;
};

}  // namespace loadstar::agent
