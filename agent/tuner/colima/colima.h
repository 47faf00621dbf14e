// agent/tuner/colima: a Colima virtual machine made ready for a load. What it is to be stands in its colima.yaml, which
// also makes the kernel's settings at each boot; those of a running machine are made at once, through `colima ssh`. It
// compares before it does anything, because `colima start` on a running machine changes nothing and says that all is
// well, and it reads back afterwards. Nothing is restarted unless that is allowed, and nothing gets smaller.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/tuner/colima/colima_cli.h"
#include "agent/tuner/colima/colima_plan.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

struct ColimaSettings {
  std::string machine;      // see MachineName
  std::string config_path;  // of its colima.yaml
  std::string vm_type = {};
  uint64_t host_cores = 0;  // see MachineFacts
  uint64_t host_memory_bytes = 0;
  bool hardware_virtualization = true;
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
class Colima {
 public:
  Colima(ColimaCli* cli, ColimaSettings settings) : cli_(*cli), settings_(std::move(settings)) {}

  // Writes the configuration, brings the machine up (creates, starts, or restarts it when that is needed and allowed),
  // makes the settings inside and tries out what came of it.
  ColimaOutcome Start(const v1::TuningProfile& profile, bool allow_restart);
  // The same of a machine as it is: one that does not run is not started, and has everything with its next start.
  ColimaOutcome Configure(const v1::TuningProfile& profile);
  // Compares what runs with the profile. Changes nothing. Not running is a failure.
  ColimaOutcome Status(const v1::TuningProfile& profile);
  // Not there or not running is success.
  ColimaOutcome Stop();
  absl::StatusOr<Leftovers> FindLeftovers();
  // Deletes the machine with its containers and their data, and takes the configuration back where Colima leaves it.
  ColimaOutcome Clean(const Leftovers& leftovers);

 private:
  using Values = std::map<std::string, std::string>;

  absl::StatusOr<MachineFacts> Look(std::string* config);
  ColimaOutcome BringTo(const v1::TuningProfile& profile, Restart restart);
  absl::Status WriteConfig(const std::string& before, const std::string& after);
  absl::Status CarryOut(const MachinePlan& plan);
  // What a machine that was just started is, with what it does not have of the plan all the same marked in `steps`.
  absl::StatusOr<MachineFacts> ReadBack(const v1::TuningProfile& profile, std::vector<v1::TuneStep>* steps);

  absl::StatusOr<Values> ReadInside(const std::vector<std::string>& keys);
  absl::Status TuneInside(const v1::TuningProfile& profile, std::vector<v1::TuneStep>* steps);
  absl::StatusOr<std::string> WriteInside(const std::string& key, const std::string& value);
  absl::Status LoadModules(const v1::TuningProfile& profile, Values* values);
  absl::StatusOr<EngineLimits> LimitsInside();
  // Whether the engine gives a container these limits, and the kernel a process.
  absl::Status TryDescriptors(const v1::TuningProfile& profile, const EngineLimits& engine,
                              std::vector<v1::TuneStep>* steps);

  ColimaCli& cli_;
  const ColimaSettings settings_;
};

}  // namespace loadstar::agent
