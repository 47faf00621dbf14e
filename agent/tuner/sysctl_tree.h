#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace loadstar::agent {

// The longest value that the kernel takes whole (proc_do_large_bitmap takes a page, and a list in two pieces would be
// another list in between).
inline constexpr size_t kLongestSysctl = 4094;

// The kernel's settings by key. Faked in tests. Owned by the thread that tunes.
class SysctlTree {
 public:
  virtual ~SysctlTree() = default;
  // The value as the kernel shows it, without the newline at its end. NOT_FOUND: this kernel or network namespace has
  // no such key. INVALID_ARGUMENT: it is no key (lib/spec/sysctl_key.h). PERMISSION_DENIED and others as the kernel
  // says.
  virtual absl::StatusOr<std::string> Read(const std::string& key) = 0;
  // Whether Write could work. False where the kernel lets nobody write it here, or not this process.
  virtual bool Writable(const std::string& key) = 0;
  // As Read; also INVALID_ARGUMENT: the kernel refuses the value, or it is longer than kLongestSysctl.
  virtual absl::Status Write(const std::string& key, const std::string& value) = 0;
};

// Below `root`, "/proc/sys" but in tests. No symbolic link is followed and nothing outside is reached (openat2(2),
// Linux 5.6; an error on older kernels).
std::unique_ptr<SysctlTree> MakeProcSysctlTree(std::string root = "/proc/sys");

}  // namespace loadstar::agent
