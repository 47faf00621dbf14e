#include "agent/tuner/host_tuner.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/tuner/coupling.h"
#include "agent/tuner/persist.h"
#include "lib/spec/name.h"
#include "lib/spec/sysctl_key.h"

namespace loadstar::agent {
namespace {

using Outcome = TuneStep::Outcome;

// As the documents have it (lib/spec), and one for the ports that are reserved.
constexpr int kMaxSettings = 257;
constexpr int kMaxValues = 8192;

// Whether a profile is not in effect because of this outcome.
bool IsObstacle(v1::TuneOutcome outcome) {
  switch (outcome) {
    case v1::TUNE_OUTCOME_READ_ONLY:
    case v1::TUNE_OUTCOME_UNSUITABLE:
    case v1::TUNE_OUTCOME_CONTRADICTS:
    case v1::TUNE_OUTCOME_REFUSED:
    case v1::TUNE_OUTCOME_NOT_TRIED:
    case v1::TUNE_OUTCOME_FORBIDDEN:
    case v1::TUNE_OUTCOME_FOREIGN:
    case v1::TUNE_OUTCOME_UNCERTAIN:
    case v1::TUNE_OUTCOME_FAILS:
      return true;
    default:
      return false;
  }
}

v1::TuneStep ToWire(const TuneStep& step) {
  v1::TuneStep wire;
  wire.set_profile(step.profile);
  wire.set_key(step.key);
  wire.set_outcome(ToWire(step.outcome));
  wire.set_before(step.before);
  wire.set_after(step.after);
  wire.set_lowers(step.lowers);
  wire.set_obstacle(IsObstacle(wire.outcome()));
  wire.set_message(step.why);
  wire.set_applied_before(step.applied_before);
  return wire;
}

v1::TuneStep OtherStep(const std::string& profile, const std::string& key, v1::TuneOutcome outcome,
                       std::string message) {
  v1::TuneStep step;
  step.set_profile(profile);
  step.set_key(key);
  step.set_outcome(outcome);
  step.set_obstacle(IsObstacle(outcome));
  step.set_message(std::move(message));
  return step;
}

// What the steps' keys hold that hold what is wanted.
PersistentValues ValuesOf(const std::vector<TuneStep>& steps) {
  PersistentValues values;
  for (const TuneStep& step : steps) {
    const bool holds = step.outcome == Outcome::kChanged || step.outcome == Outcome::kFulfilled;
    if (holds || step.outcome == Outcome::kApplied) values.emplace_back(step.key, step.after);
  }
  return values;
}

}  // namespace

absl::Status HostTuner::CarryOut(const v1::TuneHost& order, const Tell& tell) {
  if (!loaded_.ok()) return loaded_;
  if (!order.profile_name().empty() && !spec::IsName(order.profile_name())) {
    return absl::InvalidArgumentError(absl::StrCat("\"", order.profile_name(), "\" is no profile's name"));
  }
  for (const std::string& problem : tuner_.problems()) {
    tell(OtherStep("", kJournalKey, v1::TUNE_OUTCOME_UNCERTAIN, problem));
  }
  switch (order.action()) {
    case v1::TUNE_ACTION_PLAN:
    case v1::TUNE_ACTION_APPLY:
      return Apply(order, tell);
    case v1::TUNE_ACTION_VERIFY:
      TellStatus(order.profile_name(), true, tell);
      return absl::OkStatus();
    case v1::TUNE_ACTION_STATUS:
      TellStatus(order.profile_name(), false, tell);
      TellFiles(order.profile_name(), tell);
      return absl::OkStatus();
    case v1::TUNE_ACTION_ROLLBACK:
      Rollback(order, tell);
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(
          "this agent does not know what is to be done: is it older than its coordinator?");
  }
}

absl::Status HostTuner::Apply(const v1::TuneHost& order, const Tell& tell) {
  const v1::TuningProfile& asked = order.profile();
  if (!spec::IsName(asked.name())) {
    return absl::InvalidArgumentError(absl::StrCat("\"", asked.name(), "\" is no profile's name"));
  }
  if (asked.has_virtual_machine()) {
    return absl::FailedPreconditionError(absl::StrCat("profile ", asked.name(),
                                                      " is for a Colima virtual machine; it is applied with: "
                                                      "deploy/colima-setup.sh start"));
  }
  std::map<std::string, const v1::SysctlSetting*> settings;
  for (const v1::SysctlSetting& setting : asked.sysctls()) {
    if (!spec::IsSysctlKey(setting.key()) || setting.values_size() > kMaxValues) {
      return absl::InvalidArgumentError(absl::StrCat("\"", setting.key(), "\" is no setting that can be made"));
    }
    settings[setting.key()] = &setting;
  }
  if (asked.sysctls_size() > kMaxSettings) {
    return absl::InvalidArgumentError(absl::StrCat("a profile has at most ", kMaxSettings, " settings"));
  }
  const v1::TuningProfile coupled = WithCouplings(asked, options_.listening());
  v1::TuningProfile profile = coupled;
  std::vector<v1::TuneStep> forbidden;
  auto* wanted = profile.mutable_sysctls();
  for (auto setting = wanted->begin(); setting != wanted->end();) {
    if (options_.allowed.count(setting->key()) > 0) {
      ++setting;
      continue;
    }
    forbidden.push_back(OtherStep(
        asked.name(), setting->key(), v1::TUNE_OUTCOME_FORBIDDEN,
        absl::StrCat("this agent may not set it; start it with --allow-tuning ", setting->key(), " to allow it")));
    setting = wanted->erase(setting);
  }
  if (v1::TuneStep step; !MayWiden(coupled, &profile, &step)) forbidden.push_back(std::move(step));
  const bool plans = order.action() == v1::TUNE_ACTION_PLAN;
  const std::vector<TuneStep> steps = plans ? tuner_.Plan(profile) : tuner_.Apply(profile);
  for (const TuneStep& step : steps) {
    v1::TuneStep wire = ToWire(step);
    const auto setting = settings.find(step.key);
    if (setting != settings.end()) {
      if (plans) wire.set_effect(setting->second->effect());
      // A limit of a module that is not loaded limits nothing.
      wire.set_obstacle(wire.obstacle() || (step.outcome == Outcome::kMissing && setting->second->module().empty()));
    }
    tell(std::move(wire));
  }
  for (v1::TuneStep& step : forbidden) tell(std::move(step));
  if (asked.has_descriptors()) SetDescriptors(order, steps, tell);
  if (order.persist()) KeepForNextBoot(asked.name(), steps, plans, tell);
  if (!plans) RewriteFiles();
  return absl::OkStatus();
}

// A wider range of ports takes in those that somebody listens on: without their reservation it is not made. False when
// it was taken out of the profile; then *step says why.
bool HostTuner::MayWiden(const v1::TuningProfile& coupled, v1::TuningProfile* profile, v1::TuneStep* step) {
  v1::TuningProfile reservation;
  reservation.set_name(coupled.name());
  for (const v1::SysctlSetting& setting : coupled.sysctls()) {
    if (setting.key() == kReservedPorts) *reservation.add_sysctls() = setting;
  }
  auto* wanted = profile->mutable_sysctls();
  const auto range = std::find_if(wanted->begin(), wanted->end(),
                                  [&](const v1::SysctlSetting& setting) { return setting.key() == kPortRange; });
  if (range == wanted->end() || reservation.sysctls().empty()) return true;
  std::string why = "may not be set by this agent";
  if (options_.allowed.count(std::string(kReservedPorts)) > 0) {
    const TuneStep planned = tuner_.Plan(reservation).front();
    if (planned.outcome == Outcome::kChanged || planned.outcome == Outcome::kFulfilled) return true;
    why = absl::StrCat("cannot be had: ", std::string(ToWord(planned.outcome)), " ", planned.why);
  }
  *step = OtherStep(coupled.name(), std::string(kPortRange), v1::TUNE_OUTCOME_NOT_TRIED,
                    absl::StrCat("connections would take ports that somebody listens on, because ",
                                 std::string(kReservedPorts), " ", why));
  wanted->erase(range);
  return false;
}

void HostTuner::SetDescriptors(const v1::TuneHost& order, const std::vector<TuneStep>& steps, const Tell& tell) {
  const v1::TuningProfile& profile = order.profile();
  if (options_.allowed.count(kDescriptorsAllowed) == 0) {
    tell(OtherStep(profile.name(), kDescriptorsAllowed, v1::TUNE_OUTCOME_FORBIDDEN,
                   absl::StrCat("this agent may not set them; start it with --allow-tuning ", kDescriptorsAllowed,
                                " to allow it")));
    return;
  }
  // As it is, or as the profile makes it.
  constexpr char kMost[] = "fs.nr_open";
  std::string most = tree_.Read(kMost).value_or("");
  // Limits of descriptors outlive a boot, and one above the kernel's keeps every container from starting.
  const auto tuned = tuner_.keys().find(kMost);
  if (!order.persist() && tuned != tuner_.keys().end()) most = tuned->second.base;
  for (const TuneStep& step : steps) {
    if (step.key == kMost && step.outcome == Outcome::kChanged) most = order.persist() ? step.after : step.before;
  }
  uint64_t nr_open = 0;
  if (!absl::SimpleAtoi(most, &nr_open)) nr_open = std::numeric_limits<uint64_t>::max();
  std::set<std::string> applied;
  for (const char* key : {Descriptors::kDockerKey, Descriptors::kContainerdUnitKey, Descriptors::kDockerUnitKey}) {
    if (descriptors_.IsApplied(profile.name(), key)) applied.insert(key);
  }
  const bool plans = order.action() == v1::TUNE_ACTION_PLAN;
  for (v1::TuneStep& step :
       plans ? descriptors_.Plan(profile.name(), profile.descriptors(), nr_open)
             : descriptors_.Apply(profile.name(), profile.descriptors(), nr_open, order.allow_restart())) {
    step.set_applied_before(applied.count(step.key()) > 0);
    tell(std::move(step));
  }
}

void HostTuner::KeepForNextBoot(const std::string& profile, const std::vector<TuneStep>& steps, bool plans,
                                const Tell& tell) {
  if (!options_.persistable) {
    tell(OtherStep(profile, kFileKey, v1::TUNE_OUTCOME_UNSUITABLE,
                   "this agent is in a network namespace of its own, which no file sets at boot"));
    return;
  }
  const PersistentValues values = Held(profile);
  if ((plans ? ValuesOf(steps) : values).empty()) return;
  v1::TuneStep step = OtherStep(profile, kFileKey, v1::TUNE_OUTCOME_CHANGED, "");
  step.set_after(PersistentPath(profile));
  step.set_applied_before(IsPersisted(options_.root, profile));
  if (step.applied_before()) step.set_before(step.after());
  const bool will_change = plans && std::any_of(steps.begin(), steps.end(),
                                                [](const TuneStep& each) { return each.outcome == Outcome::kChanged; });
  if (!will_change && Holds(options_.root, profile, values)) {
    step.set_outcome(v1::TUNE_OUTCOME_FULFILLED);
    tell(std::move(step));
    return TellRivals(profile, steps, tell);
  }
  const absl::Status written = plans ? absl::OkStatus() : Persist(options_.root, profile, values);
  if (!written.ok()) {
    step.set_outcome(v1::TUNE_OUTCOME_REFUSED);
    step.set_obstacle(true);
    step.set_message(std::string(written.message()));
    step.set_after(step.before());
    tell(std::move(step));
    return;
  }
  tell(std::move(step));
  TellRivals(profile, steps, tell);
}

void HostTuner::TellRivals(const std::string& profile, const std::vector<TuneStep>& steps, const Tell& tell) {
  // Files of profiles that are applied are kept in agreement: see RewriteFiles.
  std::set<std::string> own;
  for (const std::string& applied : Applied()) own.insert(PersistentPath(applied));
  for (const Rival& rival : FindRivals(options_.root, profile, ValuesOf(steps))) {
    if (own.count(rival.file) > 0) continue;
    v1::TuneStep step =
        OtherStep(profile, rival.key, v1::TUNE_OUTCOME_FOREIGN,
                  absl::StrCat("at the next boot ", rival.file, ":", rival.line, " sets it to \"", rival.value,
                               "\", because it is read after ", PersistentPath(profile), "; change that line"));
    step.set_after(rival.value);
    tell(std::move(step));
  }
}

std::set<std::string> HostTuner::Applied() const {
  std::set<std::string> profiles;
  for (const auto& [key, tuned] : tuner_.keys()) {
    for (const Layer& layer : tuned.layers) profiles.insert(layer.profile);
    if (tuned.pending.has_value()) profiles.insert(tuned.pending->layer.profile);
  }
  profiles.merge(descriptors_.Applied());
  return profiles;
}

void HostTuner::Rollback(const v1::TuneHost& order, const Tell& tell) {
  const std::set<std::string> only(order.keys().begin(), order.keys().end());
  std::set<std::string> profiles = {order.profile_name()};
  if (order.profile_name().empty()) {
    profiles = Applied();
    profiles.merge(Persisted());
    // Of a record that cannot be read it is not known whose limits it has.
    if (profiles.empty()) profiles = {""};
  }
  for (const std::string& profile : profiles) {
    bool applied = false;
    for (v1::TuneStep& step : descriptors_.Rollback(profile, order.force(), only)) tell(std::move(step));
    for (const TuneStep& step : tuner_.Rollback(profile, order.force(), only)) {
      applied = true;
      tell(ToWire(step));
    }
    if ((!only.empty() && only.count(kFileKey) == 0) || Persisted().count(profile) == 0) continue;
    v1::TuneStep step = OtherStep(profile, kFileKey, v1::TUNE_OUTCOME_RESTORED, "");
    step.set_before(PersistentPath(profile));
    // What a file set at boot was never in the journal, nor what was there before.
    if (!applied) step.set_message("what it set at the last boot stays until the next one");
    if (absl::Status removed = Unpersist(options_.root, profile); !removed.ok()) {
      step = OtherStep(profile, kFileKey, v1::TUNE_OUTCOME_REFUSED, std::string(removed.message()));
      step.set_after(PersistentPath(profile));
    }
    tell(std::move(step));
  }
  RewriteFiles();
}

std::set<std::string> HostTuner::Persisted() const {
  if (!options_.persistable) return {};  // they are of the namespace that the host booted with
  const std::vector<std::string> profiles = PersistedProfiles(options_.root);
  return {profiles.begin(), profiles.end()};
}

// A key holds what all profiles want together, and so must each of their files: the last one that is read counts. Every
// key that the profile has a claim to, also where nothing had to be changed, because what made it so may be gone after
// a boot.
PersistentValues HostTuner::Held(const std::string& profile) const {
  PersistentValues values;
  for (const std::string& key : InOrder(tuner_.keys())) {
    const TunedKey& tuned = tuner_.keys().at(key);
    if (tuned.IsClaimedBy(profile) && !tuned.pending.has_value()) values.emplace_back(key, tuned.set);
  }
  return values;
}

void HostTuner::RewriteFiles() {
  for (const std::string& profile : Persisted()) {
    const PersistentValues values = Held(profile);
    // After a boot the journal knows nothing of it.
    if (values.empty() || Holds(options_.root, profile, values)) continue;
    Persist(options_.root, profile, values).IgnoreError();  // then the old values stay, and status names the rival
  }
}

void HostTuner::TellStatus(const std::string& profile, bool try_out, const Tell& tell) {
  bool any = false;
  for (const TuneStep& step : tuner_.Status()) {
    if (!profile.empty() && step.profile != profile) continue;
    any = true;
    v1::TuneStep wire = ToWire(step);
    if (try_out && step.outcome == Outcome::kApplied) {
      const Probe probe = options_.try_out(step.key, step.after);
      if (probe.outcome == Probe::Outcome::kWorks) wire.set_outcome(v1::TUNE_OUTCOME_WORKS);
      if (probe.outcome == Probe::Outcome::kFails) wire.set_outcome(v1::TUNE_OUTCOME_FAILS);
      wire.set_obstacle(IsObstacle(wire.outcome()));
      wire.set_message(probe.what);
    }
    tell(std::move(wire));
  }
  for (v1::TuneStep& step : descriptors_.Status()) {
    if (!profile.empty() && step.profile() != profile) continue;
    any = true;
    tell(std::move(step));
  }
  if (any || (profile.empty() && !try_out)) return;
  v1::TuneStep nothing = OtherStep(
      profile, kProfileKey, v1::TUNE_OUTCOME_MISSING,
      profile.empty() ? "nothing is applied here, so there is nothing to verify" : "this profile is not applied here");
  nothing.set_obstacle(true);
  tell(std::move(nothing));
}

void HostTuner::TellFiles(const std::string& profile, const Tell& tell) {
  const std::vector<TuneStep> status = tuner_.Status();
  for (const std::string& persisted : Persisted()) {
    if (!profile.empty() && persisted != profile) continue;
    v1::TuneStep step = OtherStep(persisted, kFileKey, v1::TUNE_OUTCOME_APPLIED, "");
    step.set_after(PersistentPath(persisted));
    tell(std::move(step));
    std::vector<TuneStep> own;
    std::copy_if(status.begin(), status.end(), std::back_inserter(own),
                 [&](const TuneStep& each) { return each.profile == persisted; });
    TellRivals(persisted, own, tell);
  }
}

}  // namespace loadstar::agent
