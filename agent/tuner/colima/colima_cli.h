// Everything of Colima's that is called is called here, by its version and the operating system. Facts of its command
// line that are not plain from its help: `start` on a running machine changes nothing and exits 0; a machine's name is
// shown without the prefix "colima-" that Lima's instance has; flags that exist on macOS only are errors elsewhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/tuner/colima/program_runner.h"

namespace loadstar::agent {

enum class HostSystem : uint8_t { kLinux, kMacOs };

struct ProgramVersion {
  uint32_t major = 0;
  uint32_t minor = 0;
  uint32_t patch = 0;

  bool operator==(const ProgramVersion&) const = default;
  bool operator<(const ProgramVersion& other) const {
    if (major != other.major) return major < other.major;
    return minor != other.minor ? minor < other.minor : patch < other.patch;
  }
};
std::string ToString(const ProgramVersion& version);

// A virtual machine as `colima list` tells of it.
struct Machine {
  std::string name;
  std::string status;  // "Running", "Stopped", "Broken"...
  std::string arch;
  uint64_t cpus = 0;
  uint64_t memory_bytes = 0;
  uint64_t disk_bytes = 0;
  std::string runtime;  // empty unless it runs
  std::string address;  // empty unless it has one of its own

  bool running() const { return status == "Running"; }
};

// What `colima status` tells of a running one besides.
struct MachineDetails {
  std::string driver;  // "QEMU", "macOS Virtualization.Framework"
  std::string mount_type;
  std::string docker_socket;
};

// What a machine is started with; 0 and empty: what its configuration says, or else Colima's default.
struct StartOptions {
  uint64_t cpus = 0;
  uint64_t memory_gib = 0;
  uint64_t disk_gib = 0;
  std::string vm_type = {};  // macOS alone
};

// ---- Pure: what the programs print. INVALID_ARGUMENT for everything else.

// The first number of three parts after `word`, as in "colima version 0.6.9" or "limactl version v1.0.2-beta".
absl::StatusOr<ProgramVersion> ParseVersion(std::string_view text, std::string_view word);
// `colima list --json`: an object a line, at most 1,000.
absl::StatusOr<std::vector<Machine>> ParseMachines(std::string_view text);
// `colima status --json`.
absl::StatusOr<MachineDetails> ParseDetails(std::string_view text);

// What a program said, as part of a sentence: without quotation marks, and what cannot be printed escaped.
std::string Said(std::string_view text);

// What the user calls a machine as Colima calls it: "colima" and "" are "default", and a prefix "colima-" goes. The
// rest has the form of a name (lib/spec/name.h), which is safe in a path and as an argument. INVALID_ARGUMENT.
absl::StatusOr<std::string> MachineName(std::string_view text);

// One thread. The runner must outlive it.
class ColimaCli {
 public:
  // `pause` lies between the stop and the start of a restart: Colima makes one itself, against a race in its own.
  ColimaCli(ProgramRunner* runner, HostSystem system, absl::Duration pause = absl::Seconds(3))
      : runner_(*runner), system_(system), pause_(pause) {}

  // Finds the programs and asks for their versions; to be called first. FAILED_PRECONDITION: one is missing or too old;
  // the text names all that are, and how to install them here.
  absl::Status Detect();
  HostSystem system() const { return system_; }
  // "Colima 0.10.1, Lima 1.2.1, Docker version 27.5.1"
  std::string Versions() const;

  // nullopt: there is no such machine.
  absl::StatusOr<std::optional<Machine>> Find(const std::string& machine);
  // Of one that runs.
  absl::StatusOr<MachineDetails> Details(const std::string& machine);
  // Creates it or starts it; what it says meanwhile goes to standard error. Does nothing, and succeeds, when it runs.
  absl::Status Start(const std::string& machine, const StartOptions& options);
  absl::Status Stop(const std::string& machine);
  // As Stop; then it may be started at once.
  absl::Status StopToRestart(const std::string& machine);
  // With its containers, their data and its configuration. Nobody is asked.
  absl::Status Delete(const std::string& machine);
  // Runs a command inside; its exit code is the result's. UNAVAILABLE: the machine does not run.
  absl::StatusOr<ProgramResult> Inside(const std::string& machine, std::vector<std::string> command,
                                       absl::Duration patience = absl::Seconds(60));

 private:
  absl::StatusOr<ProgramResult> Colima(std::vector<std::string> arguments, absl::Duration patience,
                                       bool show_progress = false);
  // As Colima, and an error unless it exits with 0.
  absl::StatusOr<std::string> Ask(std::vector<std::string> arguments, absl::Duration patience,
                                  bool show_progress = false);
  std::string HowToInstall(const std::string& program) const;

  ProgramRunner& runner_;
  const HostSystem system_;
  const absl::Duration pause_;
  std::string colima_;  // its path; empty until Detect has found it
  std::string docker_version_;
  ProgramVersion colima_version_;
  ProgramVersion lima_version_;
};

}  // namespace loadstar::agent
