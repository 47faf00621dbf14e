#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/os/fd.h"

namespace loadstar::os {

// What a child is started with. Nothing is inherited that is not named here: signals are set to their defaults, none is
// blocked, and every descriptor but those below is closed.
struct SpawnOptions {
  std::string program = {};                   // absolute path
  std::vector<std::string> arguments = {};    // without argv[0]
  std::vector<std::string> environment = {};  // NAME=VALUE, all of it
  int stdout_fd = -1;                         // -1: /dev/null, as standard input always is
  int stderr_fd = -1;
  std::vector<int> inherit = {};  // become 3, 4, 5... in the child; stay open (and the caller's) here
  std::string folder = {};        // working folder; empty: the caller's
};

// A started child, leader of its own process group. The owner reaps it.
struct Child {
  pid_t pid = 0;
  Fd pidfd;  // readable when it has ended
};

// Starts a program with posix_spawn (never fork: gRPC's threads do not survive it). An error names the program and why;
// no child is left then. Any thread.
absl::StatusOr<Child> Spawn(const SpawnOptions& options);

// A pidfd for a process that is not necessarily a child. NOT_FOUND when there is none of that number.
absl::StatusOr<Fd> OpenProcess(pid_t pid);

// False when the process has ended (or may not be signalled). Unlike kill, never reaches another process.
bool SendSignal(const Fd& pidfd, int signal);

// How a process ended.
struct Exit {
  enum class Kind { kCode, kSignal, kUnknown } kind = Kind::kUnknown;  // unknown: it was not our child
  int number = 0;                                                      // exit code or signal
  bool clean() const { return kind == Kind::kCode && number == 0; }
};

// "exited with code 3", "killed by signal 9 (SIGKILL)", "ended, exit code unknown".
std::string ToString(const Exit& exit);

// Whether the process behind a pidfd has ended; never waits. `reap` false leaves a child as zombie, so that its number
// and its group's stay taken.
std::optional<Exit> PollExit(const Fd& pidfd, bool reap);

}  // namespace loadstar::os
