// agent/tuner/colima: a Colima virtual machine made ready for a load. What it is to be stands in its colima.yaml, which
// also makes the kernel's settings at each boot; those of a running machine are made at once, through `colima ssh`, by
// the same Tuner and under the same kind of journal as a host's. It compares before it does anything, because `colima
// start` on a running machine changes nothing and says that all is well, and it reads back afterwards. Nothing is
// restarted unless that is allowed, and nothing gets smaller.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/tuner/colima/colima_cli.h"
#include "agent/tuner/colima/colima_plan.h"
#include "agent/tuner/colima/machine_record.h"
#include "agent/tuner/tuner.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

struct ColimaSettings {
  std::string machine;      // see MachineName
  std::string config_path;  // of its colima.yaml
  std::string folder = {};  // that Colima keeps it in; empty: the one that config_path is in
  std::string vm_type = {};
  uint64_t host_cores = 0;  // see MachineFacts
  uint64_t host_memory_bytes = 0;
  bool hardware_virtualization = true;
  // What may be set in it, as HostTuner::Options::allowed; absent: everything.
  std::optional<std::set<std::string>> allowed = {};
};

// What an operation came to. `steps` holds what was done before `failure`, if there is one; an operation whose steps
// have no obstacle and which did not fail has done everything.
struct ColimaOutcome {
  std::vector<v1::TuneStep> steps;
  std::string message;  // for people
  absl::Status failure;

  bool ok() const;
};

// What `clean` would take away.
struct Leftovers {
  std::optional<Machine> machine;
  std::optional<uint64_t> containers;  // that run in it; absent when that is not known
  bool config = false;                 // a colima.yaml with our script in it, or one that we replaced

  bool any() const { return machine.has_value() || config; }
};

// One thread. `cli` must have detected its programs, and outlive it.
//
// An operation has the machine's folder for itself (LockMachine). Apart from Stop and Clean it works on profiles, of
// which several can be applied; the record (machine_record.h) says which are. What is undone when:
//   settings inside      the journal has what they were before, until the machine ends; later, see colima.yaml
//   colima.yaml          as it was before, at once; it makes nothing inside before the next start
//   CPUs, memory         with the next start, as colima.yaml then says
//   disk, the machine    never: a disk does not shrink, and only Clean deletes
class Colima {
 public:
  struct Permissions {
    bool allow_restart = false;
    bool load_modules = false;  // those that bring settings, into the running kernel
  };
  // Of steps that are about no sysctl, beside those of PlanMachine.
  static constexpr char kConfigKey[] = "colima.yaml";
  static constexpr char kMachineKey[] = "virtualMachine";

  Colima(ColimaCli* cli, ColimaSettings settings);

  // What Start would do now. Changes nothing and starts nothing.
  ColimaOutcome Plan(const v1::TuningProfile& profile, const Permissions& permissions);
  // Writes the configuration, brings the machine up (creates, starts, or restarts it when that is needed and allowed),
  // makes the settings inside and tries out what came of it.
  ColimaOutcome Start(const v1::TuningProfile& profile, const Permissions& permissions);
  // The same of a machine as it is: one that does not run is not started, and has everything with its next start.
  ColimaOutcome Configure(const v1::TuningProfile& profile);
  // Compares what runs with the profile, applied or not. Changes nothing. Not running is a failure.
  ColimaOutcome Status(const v1::TuningProfile& profile);
  // Compares what runs with the profile of that name that is applied, or with all that are when it is empty. Changes
  // nothing.
  ColimaOutcome Report(const std::string& profile, bool try_out);
  // Takes the profile of that name back, or all when it is empty, the last one first. `force`: also where somebody else
  // changed a setting or colima.yaml since. `only`: of these steps' keys alone; empty: of all. Never restarts the
  // machine, and never deletes it.
  ColimaOutcome Rollback(const std::string& profile, bool force, const std::set<std::string>& only);
  // Not there or not running is success.
  ColimaOutcome Stop();
  absl::StatusOr<Leftovers> FindLeftovers();
  // Deletes the machine with its containers and their data, and takes the configuration back where Colima leaves it.
  ColimaOutcome Clean(const Leftovers& leftovers);

 private:
  struct Inside;

  // The lock, or an empty descriptor where there is no folder to be at odds about.
  absl::StatusOr<os::Fd> Lock() const;
  // With the lock: takes away what an agent that was killed left beside its files.
  void Tidy() const;
  absl::StatusOr<MachineFacts> Look(std::string* config);
  // Those that run in the machine, which must run; nullopt when its engine does not tell.
  absl::StatusOr<std::optional<uint64_t>> CountContainers();
  ColimaOutcome BringTo(const v1::TuningProfile& profile, Restart restart, bool load_modules);
  // `record` tells of it already.
  absl::Status WriteConfig(const MachineRecord& record, const std::string& before, const std::string& after) const;
  // What the configuration was before Loadstar, as far as that is known; `now` is what it is.
  absl::StatusOr<std::string> Before(const MachineRecord& record, const std::string& now) const;
  // What somebody else changed in the configuration since it was left becomes part of what it was before Loadstar,
  // which the last rollback puts back. `bare` is the configuration without what is ours. Writes the original, not the
  // record.
  absl::Status Rebase(const std::string& bare, const std::string& left, MachineRecord* record) const;
  // Rebase of a configuration that is about to be written anew.
  absl::Status KeepEdits(const std::string& now, MachineRecord* record) const;
  absl::Status CarryOut(const MachinePlan& plan);
  // What a machine that was just started is, with what it does not have of the plan all the same marked in `steps`.
  absl::StatusOr<MachineFacts> ReadBack(const v1::TuningProfile& profile, std::vector<v1::TuneStep>* steps);

  // The part of a profile that is to be had in the machine; what is left out is told in `steps`.
  v1::TuningProfile Admitted(const v1::TuningProfile& profile, std::vector<v1::TuneStep>* steps) const;
  absl::Status Unusable(const absl::Status& why) const;
  std::string NotRunning(const MachineFacts& facts) const;
  // The record with the profile in it, in its old place when it is there already. `load_modules`: those that may be are
  // loaded at each boot as well.
  MachineRecord With(const MachineRecord& record, const v1::TuningProfile& profile, bool load_modules) const;
  // Whether the module that brings the setting may be loaded, now and at each boot.
  bool MayLoad(const v1::SysctlSetting& setting) const;
  v1::TuneStep ConfigStep(const std::string& profile, const MachineRecord& before, const MachineRecord& after,
                          bool changes) const;
  // A step about the machine.
  static v1::TuneStep StepOf(const std::string& profile, const std::string& key, v1::TuneOutcome outcome,
                             std::string message = "");
  // One of the tuner's, of a setting inside. `load_modules`: that was tried.
  static v1::TuneStep ToStep(const TuneStep& step, const v1::SysctlSetting* setting, bool load_modules);
  // The settings of a machine that runs, with these keys read. `looks`: nothing will be written.
  absl::StatusOr<std::unique_ptr<Inside>> Enter(const std::vector<std::string>& keys, bool looks);
  // What of its journal could not be used.
  static void TellProblems(const Inside& inside, std::vector<v1::TuneStep>* steps);
  // As Enter, with the journal's problems told; nullptr when the machine does not run.
  absl::StatusOr<std::unique_ptr<Inside>> EnterIfItRuns(const MachineFacts& facts, const std::vector<std::string>& keys,
                                                        bool looks, std::vector<v1::TuneStep>* steps);
  // Loads those of settings that are missing inside, or, for a plan, says that it would.
  absl::Status LoadModules(const v1::TuningProfile& profile, bool plans, Inside* inside,
                           std::vector<v1::TuneStep>* steps);
  absl::Status TuneInside(const v1::TuningProfile& profile, bool load_modules, Inside* inside,
                          std::vector<v1::TuneStep>* steps);
  absl::StatusOr<EngineLimits> LimitsInside();
  // Whether the engine gives a container these limits, and the kernel a process.
  absl::Status TryDescriptors(const v1::TuningProfile& profile, const EngineLimits& engine,
                              std::vector<v1::TuneStep>* steps);
  absl::Status Compare(const v1::TuningProfile& profile, const MachineFacts& facts, bool applied, bool try_out,
                       Inside* inside, std::vector<v1::TuneStep>* steps);

  void RollBackInside(const MachineRecord::Entry& entry, bool force, const std::set<std::string>& only, Inside* inside,
                      std::vector<v1::TuneStep>* steps);
  // What became of a colima.yaml that all of ours was taken out of.
  struct TakenOut {
    std::string text;  // empty: it is gone
    std::string said;
  };
  // `force`: also where somebody else changed it. `removes`: a file that there was not before goes, and does not stay
  // for a machine that depends on it.
  absl::StatusOr<TakenOut> TakeOut(const MachineRecord& record, bool force, bool removes) const;
  // The same of what the profile alone has in it, of others that stay. Returns what is to be said.
  absl::StatusOr<std::string> TakePartOut(bool force, const MachineRecord& before, MachineFacts* facts,
                                          MachineRecord* record) const;
  // Takes what the profile has in colima.yaml out of it and of the record.
  absl::StatusOr<v1::TuneStep> TakeBackConfig(const std::string& profile, bool force, MachineFacts* facts,
                                              MachineRecord* record);
  void TellWhatStays(const v1::TuningProfile& profile, const MachineFacts& facts, const MachineRecord& record,
                     const std::set<std::string>& only, std::vector<v1::TuneStep>* steps) const;

  ColimaCli& cli_;
  const ColimaSettings settings_;
  const std::string folder_;
};

}  // namespace loadstar::agent
