#include "lib/os/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace loadstar::os {
namespace {

// glibc 2.36 knows P_PIDFD; the constant is the kernel's.
constexpr idtype_t kByPidfd = static_cast<idtype_t>(3);

// Frees posix_spawn's two objects on every path.
struct SpawnSettings {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
};

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

absl::StatusOr<Child> Spawn(const SpawnOptions& options) {
  SpawnSettings settings;
  // Copies above every number that the child will see: dup2 in sequence can then not overwrite a source still to come.
  std::vector<Fd> copies;
  const int floor = 3 + static_cast<int>(options.inherit.size());
  const auto install = [&](int fd, int number) -> absl::Status {
    Fd copy(fcntl(fd, F_DUPFD_CLOEXEC, floor));
    if (!copy) return absl::ErrnoToStatus(errno, absl::StrCat("cannot start ", options.program));
    posix_spawn_file_actions_adddup2(&settings.actions, copy.get(), number);
    copies.push_back(std::move(copy));
    return absl::OkStatus();
  };
  posix_spawn_file_actions_addopen(&settings.actions, 0, "/dev/null", O_RDONLY, 0);
  for (const auto& [fd, number] : {std::pair{options.stdout_fd, 1}, std::pair{options.stderr_fd, 2}}) {
    if (fd < 0) {
      posix_spawn_file_actions_addopen(&settings.actions, number, "/dev/null", O_WRONLY, 0);
    } else if (absl::Status status = install(fd, number); !status.ok()) {
      return status;
    }
  }
  int number = 3;
  for (int fd : options.inherit) {
    if (absl::Status status = install(fd, number++); !status.ok()) return status;
  }
  posix_spawn_file_actions_addclosefrom_np(&settings.actions, number);
  if (!options.folder.empty()) posix_spawn_file_actions_addchdir_np(&settings.actions, options.folder.c_str());

  sigset_t all;
  sigset_t none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setflags(&settings.attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  posix_spawnattr_setpgroup(&settings.attributes, 0);
  posix_spawnattr_setsigdefault(&settings.attributes, &all);
  posix_spawnattr_setsigmask(&settings.attributes, &none);

  std::vector<std::string> arguments = {options.program};
  arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
  std::vector<std::string> environment = options.environment;
  Child child;
  const int error = posix_spawn(&child.pid, options.program.c_str(), &settings.actions, &settings.attributes,
                                Pointers(arguments).data(), Pointers(environment).data());
  if (error != 0) return absl::ErrnoToStatus(error, absl::StrCat("cannot start ", options.program));
  absl::StatusOr<Fd> pidfd = OpenProcess(child.pid);
  if (!pidfd.ok()) {
    // Without it nobody would see the child end: it shall not live.
    kill(-child.pid, SIGKILL);
    waitpid(child.pid, nullptr, 0);
    return pidfd.status();
  }
  child.pidfd = *std::move(pidfd);
  return child;
}

absl::StatusOr<Fd> OpenProcess(pid_t pid) {
  // By number: glibc 2.36's header does not declare it for C++.
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) {
    if (errno == ESRCH) return absl::NotFoundError(absl::StrCat("there is no process ", pid));
    return absl::ErrnoToStatus(errno, absl::StrCat("pidfd_open of process ", pid));
  }
  return pidfd;
}

bool SendSignal(const Fd& pidfd, int signal) {
  return syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0;
}

std::string ToString(const Exit& exit) {
  switch (exit.kind) {
    case Exit::Kind::kCode:
      return absl::StrCat("exited with code ", exit.number);
    case Exit::Kind::kSignal: {
      const char* name = sigabbrev_np(exit.number);
      return absl::StrCat("killed by signal ", exit.number, name == nullptr ? "" : absl::StrCat(" (SIG", name, ")"));
    }
    case Exit::Kind::kUnknown:
      break;
  }
  return "ended, exit code unknown";
}

std::optional<Exit> PollExit(const Fd& pidfd, bool reap) {
  siginfo_t info{};
  const int flags = WEXITED | WNOHANG | (reap ? 0 : WNOWAIT);
  if (waitid(kByPidfd, static_cast<id_t>(pidfd.get()), &info, flags) == 0) {
    if (info.si_pid == 0) return std::nullopt;
    if (info.si_code == CLD_EXITED) return Exit{.kind = Exit::Kind::kCode, .number = info.si_status};
    return Exit{.kind = Exit::Kind::kSignal, .number = info.si_status};
  }
  // Not our child: the pidfd still tells that it ended.
  pollfd poller{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  if (poll(&poller, 1, 0) == 1 && (poller.revents & POLLIN) != 0) return Exit{};
  return std::nullopt;
}

}  // namespace loadstar::os
