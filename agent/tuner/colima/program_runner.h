#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/os/subprocess.h"

namespace loadstar::agent {

// One program to run. No shell reads the arguments.
struct ProgramCall {
  std::string program = {};  // absolute path
  std::vector<std::string> arguments = {};
  absl::Duration patience = absl::Seconds(30);
  bool show_progress = false;  // what it writes to its standard error goes to ours as well, as it comes
};

// A program that ran to its end, whatever its exit code.
struct ProgramResult {
  os::Exit exit = {};
  std::string out = {};
  std::string err = {};  // its last 16 KiB
};

// How programs are found and run. Faked in tests. One thread.
class ProgramRunner {
 public:
  virtual ~ProgramRunner() = default;
  // Absolute path of a program in PATH. NOT_FOUND.
  virtual absl::StatusOr<std::string> Find(const std::string& name) = 0;
  // Runs it and waits. DEADLINE_EXCEEDED: it took longer than `patience`; RESOURCE_EXHAUSTED: it printed more than 1
  // MiB; CANCELLED: this process was told to end meanwhile; others as os::Spawn. After an error nothing of its
  // process group is left. What it started in groups of their own (a virtual machine) lives on, as after success.
  virtual absl::StatusOr<ProgramResult> Run(const ProgramCall& call) = 0;
};

// `environment` (NAME=VALUE) is what programs are given and where PATH is looked up. What ends a program before its
// time is a descriptor that is readable, `stop_fd`, which must outlive the runner; without it, SIGINT, SIGTERM and
// SIGHUP, which are then held back while a program runs. A process that waits for its signals elsewhere
// (os::StopSignals) needs the descriptor, or either would miss some of them.
std::unique_ptr<ProgramRunner> MakeProgramRunner(std::vector<std::string> environment, int stop_fd = -1);

}  // namespace loadstar::agent
