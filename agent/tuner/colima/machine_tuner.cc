#include "agent/tuner/colima/machine_tuner.h"

#include <utility>

#include "agent/tuner/colima/machine_record.h"
#include "agent/tuner/host_tuner.h"
#include "agent/tuner/tune_step.h"
#include "lib/spec/name.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"

namespace loadstar::agent {
namespace {

using spec::Cat;

bool NeedsProfile(v1::TuneAction action) { return action == v1::TUNE_ACTION_PLAN || action == v1::TUNE_ACTION_APPLY; }

// The order as it is carried out, with all that its profile leaves to defaults, or what is wrong with it before
// anything is looked at. A profile is checked whole, because its keys and modules become arguments and a script that
// root runs.
absl::StatusOr<v1::TuneHost> Checked(const v1::TuneHost& order) {
  if (!order.profile_name().empty() && !spec::IsName(order.profile_name())) {
    return absl::InvalidArgumentError(Cat(spec::Quoted(order.profile_name()), " is no profile's name"));
  }
  if (order.containers()) {
    return absl::InvalidArgumentError(
        "containers are planned for by profiles without virtualMachine: what a container in the virtual machine begins "
        "with is not known here. Leave --containers out, or name a profile for hosts");
  }
  v1::TuneHost checked = order;
  if (!NeedsProfile(order.action())) return checked;
  const spec::Problems problems = spec::Complete(checked.mutable_profile());
  if (!problems.empty()) return absl::InvalidArgumentError(spec::ToString(problems));
  return checked;
}

}  // namespace

bool MachineTuner::HasApplied(const std::string& profile) const {
  const absl::StatusOr<ColimaSettings> settings = settings_();
  if (!settings.ok()) return false;
  const absl::StatusOr<MachineRecord> record = ReadRecord(settings->folder);
  if (!record.ok()) return true;
  return profile.empty() ? !record->entries.empty() : record->Find(profile) != nullptr;
}

absl::StatusOr<ColimaOutcome> MachineTuner::Act(const v1::TuneHost& order, Colima* colima) const {
  const Colima::Permissions permissions = {.allow_restart = order.allow_restart(),
                                           .load_modules = order.load_modules()};
  switch (order.action()) {
    case v1::TUNE_ACTION_PLAN:
      return colima->Plan(order.profile(), permissions);
    case v1::TUNE_ACTION_APPLY:
      return colima->Start(order.profile(), permissions);
    case v1::TUNE_ACTION_VERIFY:
      return colima->Report(order.profile_name(), /*try_out=*/true);
    case v1::TUNE_ACTION_STATUS:
      return colima->Report(order.profile_name(), /*try_out=*/false);
    case v1::TUNE_ACTION_ROLLBACK:
      return colima->Rollback(order.profile_name(), order.force(), {order.keys().begin(), order.keys().end()});
    default:
      return absl::InvalidArgumentError(
          "this agent does not know what is to be done: is it older than its coordinator?");
  }
}

absl::Status MachineTuner::CarryOut(const v1::TuneHost& order, const Tell& tell) {
  const absl::StatusOr<v1::TuneHost> checked = Checked(order);
  if (!checked.ok()) return checked.status();
  if (order.action() == v1::TUNE_ACTION_APPLY && allowed_.count(HostTuner::kVirtualMachineAllowed) == 0) {
    return absl::PermissionDeniedError(
        WhyForbidden("create, start or change a virtual machine", HostTuner::kVirtualMachineAllowed));
  }
  absl::StatusOr<ColimaSettings> settings = settings_();
  if (!settings.ok()) return settings.status();
  settings->allowed = allowed_;
  ColimaCli cli(&runner_, system_);
  if (absl::Status detected = cli.Detect(); !detected.ok()) return detected;
  Colima colima(&cli, *std::move(settings));
  absl::StatusOr<ColimaOutcome> outcome = Act(*checked, &colima);
  if (!outcome.ok()) return outcome.status();
  for (v1::TuneStep& step : outcome->steps) tell(std::move(step));
  return outcome->failure;
}

}  // namespace loadstar::agent
