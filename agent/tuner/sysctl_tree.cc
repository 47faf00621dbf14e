#include "agent/tuner/sysctl_tree.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/os/fd.h"
#include "lib/spec/sysctl_key.h"

namespace loadstar::agent {
namespace {

// The longest value is a list of ports: 32,768 of them, each with a comma.
constexpr size_t kMaxValue = size_t{256} * 1024;

class ProcSysctlTree final : public SysctlTree {
 public:
  explicit ProcSysctlTree(std::string root) : root_(std::move(root)) {}

  absl::StatusOr<std::string> Read(const std::string& key) override {
    const absl::StatusOr<os::Fd> file = Open(key, O_RDONLY);
    if (!file.ok()) return file.status();
    std::string value(kMaxValue, '\0');
    // One read: the kernel's values are not made to be read in pieces.
    const ssize_t length = read(file->get(), value.data(), value.size());
    if (length < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", key));
    value.resize(static_cast<size_t>(length));
    while (!value.empty() && value.back() == '\n') value.pop_back();
    return value;
  }

  bool Writable(const std::string& key) override { return Open(key, O_WRONLY).ok(); }

  absl::Status Write(const std::string& key, const std::string& value) override {
    if (value.size() > kLongestSysctl) {
      return absl::InvalidArgumentError(absl::StrCat("cannot write ", key, ": the value has ", value.size(), " bytes"));
    }
    const absl::StatusOr<os::Fd> file = Open(key, O_WRONLY);
    if (!file.ok()) return file.status();
    // With the newline an empty value is something that can be written.
    const std::string line = value + "\n";
    const ssize_t written = write(file->get(), line.data(), line.size());
    if (written < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", key));
    if (static_cast<size_t>(written) != line.size()) {
      return absl::InternalError(absl::StrCat("cannot write ", key, ": the kernel took a part of it"));
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<os::Fd> Open(const std::string& key, int flags) const {
    if (!spec::IsSysctlKey(key)) return absl::InvalidArgumentError(absl::StrCat("\"", key, "\" is no sysctl's name"));
    const os::Fd folder(open(root_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", root_));
    std::string path = key;
    std::replace(path.begin(), path.end(), '.', '/');
    open_how how{};
    how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    os::Fd file(static_cast<int>(syscall(SYS_openat2, folder.get(), path.c_str(), &how, sizeof(how))));
    if (!file) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", key));
    struct stat status {};
    if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(key, " is no setting but a group of them"));
    }
    return file;
  }

  const std::string root_;
};

}  // namespace

std::unique_ptr<SysctlTree> MakeProcSysctlTree(std::string root) {
  return std::make_unique<ProcSysctlTree>(std::move(root));
}

}  // namespace loadstar::agent
