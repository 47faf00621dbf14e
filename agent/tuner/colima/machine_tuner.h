#pragma once

#include <functional>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/tuner/colima/colima.h"
#include "agent/tuner/colima/colima_cli.h"
#include "agent/tuner/colima/program_runner.h"
#include "loadstar/v1/agent_service.pb.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// Carries out what the coordinator asks of the Colima virtual machine of this host, as HostTuner does of the host
// itself: profiles that have one are for it. Owned by the thread that tunes.
class MachineTuner {
 public:
  // Takes what becomes of each setting, in order.
  using Tell = std::function<void(v1::TuneStep step)>;
  // Asked before each order, because where Colima has a machine depends on which folders there are.
  using Settings = std::function<absl::StatusOr<ColimaSettings>()>;

  // The runner must outlive it. `allowed`: see HostTuner::Options.
  MachineTuner(ProgramRunner* runner, HostSystem system, Settings settings, std::set<std::string> allowed)
      : runner_(*runner), system_(system), settings_(std::move(settings)), allowed_(std::move(allowed)) {}

  // Whether the profile, or any when it is empty, is applied to the machine. Looks at one file; calls no program.
  // True as well when that file cannot be read: the order that follows then says so.
  bool HasApplied(const std::string& profile) const;
  // As HostTuner::CarryOut. After an error some steps may have been told, which were done. FAILED_PRECONDITION: a
  // program is not installed or too old, and how to install it.
  absl::Status CarryOut(const v1::TuneHost& order, const Tell& tell);

 private:
  absl::StatusOr<ColimaOutcome> Act(const v1::TuneHost& order, Colima* colima) const;

  ProgramRunner& runner_;
  const HostSystem system_;
  const Settings settings_;
  const std::set<std::string> allowed_;
};

}  // namespace loadstar::agent
