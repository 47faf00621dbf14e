// How many files a process may have open, beyond this agent's own processes: what Docker starts its containers with and
// what systemd starts the engine's services with. A profile only raises, also above what containers inherit; profiles
// are layered and go in any order; every write is recorded before it is made (tuned_file.h), so that a crash at any
// moment leaves a host whose state Status tells and Rollback takes back byte for byte. What somebody else changed since
// is theirs: it is reported and left.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/tuner/command.h"
#include "agent/tuner/host_files.h"
#include "agent/tuner/tuned_file.h"
#include "lib/os/limits.h"
#include "lib/os/proc.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// Owned by the thread that tunes; blocks for as long as the commands that it runs take. A profile's name is safe as
// part of a file's name (lib/spec/name.h).
class Descriptors {
 public:
  // Keys of steps. A service that this host does not have, or that systemd does not run here, has no step.
  static constexpr char kAgentKey[] = "agent descriptors";
  static constexpr char kDockerKey[] = "docker default-ulimits nofile";
  static constexpr char kContainerdUnitKey[] = "systemd containerd.service LimitNOFILE";
  static constexpr char kDockerUnitKey[] = "systemd docker.service LimitNOFILE";
  // Of the one step that tells why nothing can be done.
  static constexpr char kRecordKey[] = "descriptors";

  struct Options {
    // The record of what was changed, a path of `files`; its folder is there. Nobody else may read it: it holds the
    // files' old texts.
    std::string record;
    os::Proc proc = os::Proc();
    // systemctl and dockerd. Restarting Docker may take a while.
    CommandRunner run = MakeCommandRunner(std::chrono::minutes(5));
    // Of this process.
    std::function<absl::StatusOr<os::DescriptorLimit>()> own_limit = os::ReadDescriptorLimit;
  };

  // `files` must outlive it.
  Descriptors(HostFiles* files, Options options) : files_(*files), options_(std::move(options)) {}

  // Reads the record, once, before anything else. After an error (DATA_LOSS: it is damaged) nothing is changed any more
  // and every call returns one step that says why.
  absl::Status Load();

  // What Apply would do now. `nr_open`: fs.nr_open as it is, or as it will be when the profile's sysctls were set.
  // Changes nothing; the commands that it runs ask only.
  std::vector<v1::TuneStep> Plan(const std::string& profile, const v1::DescriptorLimits& wanted, uint64_t nr_open);
  // A step for each place, each on its own: one that fails is as it was before. What runs takes a new limit when it is
  // started again, which the messages say; that is done here only with `allow_restart`, and only where it runs.
  std::vector<v1::TuneStep> Apply(const std::string& profile, const v1::DescriptorLimits& wanted, uint64_t nr_open,
                                  bool allow_restart);
  // Takes a profile's wishes back. `force`: also where somebody else changed the file since, whose change is then lost.
  // `only`: of these keys alone; empty: of all.
  std::vector<v1::TuneStep> Rollback(const std::string& profile, bool force, const std::set<std::string>& only = {});
  // A step for each place of each profile that is applied.
  std::vector<v1::TuneStep> Status();

  // What a container begins with that says nothing of it itself; 0: not known. An error: daemon.json cannot be read.
  absl::StatusOr<os::DescriptorLimit> OfContainers(uint64_t nr_open) const;

  // Profiles that are applied, and whether one is to a key (of a step).
  std::set<std::string> Applied() const;
  bool IsApplied(const std::string& profile, const std::string& key) const;

 private:
  struct Place;
  struct Decision;
  struct Unit {
    os::DescriptorLimit limit;
    bool found = false;
  };
  static const std::vector<Place>& Places();

  // The step that says why nothing can be done; nullopt when something can.
  std::optional<v1::TuneStep> Refusal(const std::string& profile, const os::DescriptorLimit& wanted) const;
  v1::TuneStep AgentStep(const std::string& profile, const os::DescriptorLimit& wanted, uint64_t nr_open) const;
  // nullopt: there is no such service.
  std::optional<Decision> Decide(const Place& place, const std::string& profile, const os::DescriptorLimit& wanted,
                                 uint64_t nr_open);
  v1::TuneStep Execute(Decision* decision);
  v1::TuneStep Release(const Place& place, const std::string& profile, bool force);
  v1::TuneStep StatusOf(const Place& place, const std::string& profile);
  // Restarts what runs without having read what was written, where that is allowed, and says so in the steps, or says
  // that it is to be restarted.
  void Restart(bool allow_restart, std::vector<v1::TuneStep>* steps);

  // The limit of containers with this text in daemon.json; empty when that is not known.
  static std::string Describe(const std::optional<std::string>& text, const os::DescriptorLimit& inherited);
  // What the place's file is to hold; nullopt: it is not to be there.
  absl::StatusOr<std::optional<std::string>> Compose(const Place& place, const TunedFile& file) const;
  absl::StatusOr<std::optional<HostFile>> ReadIfThere(const std::string& path) const;
  absl::Status Put(const std::string& path, const std::optional<std::string>& text, const os::FileAccess& access);
  // The copy for people.
  absl::Status BackUp(const TunedFile& file);
  // Whether what was written is taken, and what the user should know of that.
  absl::StatusOr<std::string> Settle(const Place& place, const os::DescriptorLimit& wanted) const;
  absl::StatusOr<std::string> Validate(const std::string& path) const;
  // Puts back what a pending write replaced; `before` is what was known then.
  absl::Status Revert(const Place& place, const TunedFile& file, const std::optional<TunedFile>& before,
                      const os::FileAccess& access);
  // Makes durable what is known of the path from now on; nullopt: nothing.
  absl::Status Record(const std::string& path, const std::optional<TunedFile>& file);

  bool DockerIsHere() const;
  // Why daemon.json cannot take the limit; empty when it can.
  std::string FlagInTheWay() const;
  std::optional<os::ProcessStat> FindProcess(const std::string& name) const;
  // The limit of containers for which daemon.json says nothing, as far as it can be told; else 0.
  os::DescriptorLimit InheritedByContainers(uint64_t nr_open) const;
  // Which process it is, never the same twice; empty when there is none.
  std::string RunningProcess(const std::string& name) const;
  bool SystemdRuns() const { return files_.Exists("/run/systemd/system"); }
  // The output of a command that succeeded.
  absl::StatusOr<std::string> Output(const std::vector<std::string>& command) const;
  absl::StatusOr<Unit> Show(const std::string& unit) const;

  HostFiles& files_;
  const Options options_;
  TunedFiles known_;
  absl::Status loaded_ = absl::FailedPreconditionError("the record of descriptor limits was not read");
};

}  // namespace loadstar::agent
