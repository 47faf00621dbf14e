#include "agent/tuner/settings_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <iterator>
#include <thread>

#include "absl/strings/str_cat.h"
#include "lib/os/flock.h"

namespace loadstar::agent {
namespace {

// Whoever only asks lets go at once.
constexpr int kAttempts = 10;
constexpr auto kPause = std::chrono::milliseconds(20);

}  // namespace

absl::StatusOr<os::Fd> SettingsLock::Lock(v1::SysctlScope scope, int how) const {
  const bool host = scope == v1::SYSCTL_SCOPE_HOST;
  const std::string path = absl::StrCat(root_, host ? "/fs/file-max" : "/net/core/somaxconn");
  os::Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  for (int attempt = 0; flock(file.get(), how | LOCK_NB) != 0; ++attempt) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return absl::ErrnoToStatus(errno, absl::StrCat("cannot lock ", path));
    if (attempt == kAttempts) {
      const std::string holder = os::FlockHolder(file);
      return absl::FailedPreconditionError(absl::StrCat(
          "another agent", holder.empty() ? "" : absl::StrCat(" (", holder, ")"), " has settings of this ",
          host ? "host" : "network namespace", " under its care; tune with that one, or roll back there first"));
    }
    std::this_thread::sleep_for(kPause);
  }
  return file;
}

absl::Status SettingsLock::Take(v1::SysctlScope scope) {
  if (held_.count(scope) > 0) return absl::OkStatus();
  absl::StatusOr<os::Fd> file = Lock(scope, LOCK_EX);
  if (!file.ok()) return file.status();
  held_.emplace(scope, *std::move(file));
  return absl::OkStatus();
}

absl::Status SettingsLock::Ask(v1::SysctlScope scope) const {
  return held_.count(scope) > 0 ? absl::OkStatus() : Lock(scope, LOCK_SH).status();
}

void SettingsLock::Keep(const std::set<v1::SysctlScope>& scopes) {
  for (auto held = held_.begin(); held != held_.end();) {
    held = scopes.count(held->first) > 0 ? std::next(held) : held_.erase(held);
  }
}

}  // namespace loadstar::agent
