#include "agent/tuner/host_tuner.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/tuner/coupling.h"
#include "agent/tuner/persist.h"
#include "agent/tuner/tune_step.h"
#include "lib/spec/name.h"
#include "lib/spec/sysctl_key.h"

namespace loadstar::agent {
namespace {

using Outcome = TuneStep::Outcome;

// As the documents have it (lib/spec), and one for the ports that are reserved.
constexpr int kMaxSettings = 257;
constexpr int kMaxValues = 8192;

// The most files that the kernel lets any process have.
constexpr char kMostDescriptors[] = "fs.nr_open";

uint64_t NumberOr(const std::string& text, uint64_t otherwise) {
  uint64_t number = 0;
  return absl::SimpleAtoi(text, &number) ? number : otherwise;
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

void HostTuner::Load() {
  loaded_ = tuner_.Load();
  descriptors_.Load().IgnoreError();
  modules_.Load();
  if (options_.persistable) TidyPersisted(options_.root);
  // What the life before this one set is under its care still. Who took that meanwhile is met by the next order.
  for (const v1::SysctlScope scope : ChangedScopes()) options_.claim(scope).IgnoreError();
}

bool HostTuner::HasSettingOf(const std::string& module) const {
  return std::any_of(tuner_.keys().begin(), tuner_.keys().end(),
                     [&](const auto& known) { return spec::ModuleOf(known.first) == module; });
}

v1::SysctlScope HostTuner::ScopeOf(const TunedKey& tuned) const {
  return tuned.era == era_.Of(v1::SYSCTL_SCOPE_HOST) ? v1::SYSCTL_SCOPE_HOST : v1::SYSCTL_SCOPE_NETWORK_NAMESPACE;
}

// Those of keys that were written, and not of those that held what was wanted.
std::set<v1::SysctlScope> HostTuner::ChangedScopes() const {
  std::set<v1::SysctlScope> scopes;
  for (const auto& [key, tuned] : tuner_.keys()) {
    if (tuned.pending.has_value() || tuned.base != tuned.set) scopes.insert(ScopeOf(tuned));
  }
  return scopes;
}

absl::Status HostTuner::CarryOut(const v1::TuneHost& order, const Tell& tell) {
  if (!loaded_.ok()) return loaded_;
  if (!order.profile_name().empty() && !spec::IsName(order.profile_name())) {
    return absl::InvalidArgumentError(absl::StrCat("\"", order.profile_name(), "\" is no profile's name"));
  }
  for (const std::string& problem : tuner_.problems()) {
    tell(FinishedStep("", kJournalKey, v1::TUNE_OUTCOME_UNCERTAIN, problem));
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
    return absl::InvalidArgumentError(absl::StrCat("profile ", asked.name(), " is for a virtual machine"));
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
  const bool plans = order.action() == v1::TUNE_ACTION_PLAN;
  if (order.containers() && !plans) {
    return absl::InvalidArgumentError("containers are planned for; they are given their settings by what creates them");
  }
  if (const std::string why = WhyNotMeant(asked.when(), options_.kernel); !why.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("profile ", asked.name(), " is ", why));
  }
  const Parts parts = Sort(order, tell);
  std::vector<v1::TuneStep> refused;
  const v1::TuningProfile coupled = WithCouplings(parts.host, options_.listening());
  v1::TuningProfile profile = WithoutForbidden(coupled, &refused);
  if (order.load_modules()) LoadModules(profile, plans, tell);
  Claim(plans, &profile, &refused);
  if (v1::TuneStep step; !MayWiden(coupled, &profile, &step)) refused.push_back(std::move(step));
  const std::vector<TuneStep> steps = plans ? tuner_.Plan(profile) : tuner_.Apply(profile);
  options_.keep_claims(ChangedScopes());
  const auto value_of = [&](const std::string& key) {
    for (const TuneStep& step : steps) {
      if (step.key == key && step.outcome == Outcome::kChanged) return step.after;
    }
    return tree_.Read(key).value_or("");
  };
  std::set<std::string> keys;
  for (const TuneStep& step : steps) {
    keys.insert(step.key);
    v1::TuneStep wire = ToWire(step);
    if (plans && step.outcome == Outcome::kChanged) {
      wire.set_message(CouplingRemark(step.key, step.after, value_of));
    }
    const auto setting = settings.find(step.key);
    if (setting != settings.end()) {
      if (plans) wire.set_effect(setting->second->effect());
      const std::string& module = setting->second->module();
      // A limit of a module that is not loaded limits nothing.
      wire.set_obstacle(wire.obstacle() || (step.outcome == Outcome::kMissing && module.empty()));
      if (step.outcome == Outcome::kMissing && !module.empty() && spec::ModuleOf(step.key) == module) {
        wire.set_message(absl::StrCat(step.why, "; --load-modules loads it"));
      }
    }
    tell(std::move(wire));
  }
  for (v1::TuneStep& step : refused) tell(std::move(step));
  TellOtherTuners(asked.name(), keys, tell);
  if (order.containers()) {
    PlanContainer(order, parts.container, steps, tell);
    return absl::OkStatus();
  }
  if (asked.has_descriptors()) SetDescriptors(order, steps, tell);
  if (order.persist()) KeepForNextBoot(asked.name(), steps, plans, tell);
  if (!plans) RewriteFiles();
  return absl::OkStatus();
}

HostTuner::Parts HostTuner::Sort(const v1::TuneHost& order, const Tell& tell) const {
  const v1::TuningProfile& asked = order.profile();
  Parts parts;
  parts.host.set_name(asked.name());
  parts.container.set_name(asked.name());
  for (const v1::SysctlSetting& setting : asked.sysctls()) {
    std::string why = WhyNotMeant(setting.when(), options_.kernel);
    const bool for_container = setting.scope() == v1::SYSCTL_SCOPE_CONTAINER;
    if (setting.scope() == v1::SYSCTL_SCOPE_VIRTUAL_MACHINE) {
      why = "made in a Colima virtual machine alone";
    } else if (for_container && !order.containers()) {
      why = absl::StrCat("made in containers alone; see: loadstar tune plan ", asked.name(), " --containers");
    }
    if (!why.empty()) {
      tell(FinishedStep(asked.name(), setting.key(), v1::TUNE_OUTCOME_NOT_MEANT, why));
    } else if (for_container || (order.containers() && setting.scope() == v1::SYSCTL_SCOPE_NETWORK_NAMESPACE)) {
      *parts.container.add_sysctls() = setting;
    } else {
      *parts.host.add_sysctls() = setting;
    }
  }
  return parts;
}

v1::TuningProfile HostTuner::WithoutForbidden(const v1::TuningProfile& profile,
                                              std::vector<v1::TuneStep>* forbidden) const {
  v1::TuningProfile allowed;
  allowed.set_name(profile.name());
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (options_.allowed.count(setting.key()) > 0) {
      *allowed.add_sysctls() = setting;
      continue;
    }
    forbidden->push_back(
        FinishedStep(profile.name(), setting.key(), v1::TUNE_OUTCOME_FORBIDDEN, WhyForbidden("set it", setting.key())));
  }
  return allowed;
}

void HostTuner::LoadModules(const v1::TuningProfile& profile, bool plans, const Tell& tell) {
  std::map<std::string, std::string> missing;  // module to a key that it is to bring
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (setting.module().empty() || !absl::IsNotFound(tree_.Read(setting.key()).status())) continue;
    const auto [found, first] = missing.emplace(setting.module(), setting.key());
    if (!first && spec::ModuleOf(setting.key()) == setting.module()) found->second = setting.key();
  }
  for (const auto& [module, key] : missing) {
    v1::TuneStep step = NewStep(profile.name(), Modules::KeyOf(module));
    if (options_.allowed.count(kModulesAllowed) == 0) {
      Finish(&step, v1::TUNE_OUTCOME_FORBIDDEN, WhyForbidden("load modules", kModulesAllowed));
    } else if (spec::ModuleOf(key) != module) {
      Finish(&step, v1::TUNE_OUTCOME_FORBIDDEN,
             absl::StrCat("it is not known to bring ", key, "; \"modprobe ", module, "\" as root loads it"));
    } else {
      step = modules_.Add(profile.name(), module, plans);
      if (!plans && !step.obstacle() && absl::IsNotFound(tree_.Read(key).status())) {
        modules_.Rollback(profile.name(), {Modules::KeyOf(module)}, [](const std::string&) { return false; });
        step.set_after("");
        Finish(&step, v1::TUNE_OUTCOME_REFUSED,
               absl::StrCat("with it there is still no ", key, " here, so it was unloaded again"));
      }
    }
    tell(std::move(step));
  }
}

// Takes out of the profile what is under another agent's care.
void HostTuner::Claim(bool plans, v1::TuningProfile* profile, std::vector<v1::TuneStep>* refused) {
  std::set<std::string> to_change;
  for (const TuneStep& step : tuner_.Plan(*profile)) {
    if (step.outcome == Outcome::kChanged) to_change.insert(step.key);
  }
  v1::TuningProfile ours;
  ours.set_name(profile->name());
  std::map<v1::SysctlScope, absl::Status> claims;
  for (const v1::SysctlSetting& setting : profile->sysctls()) {
    absl::Status claimed;
    if (to_change.count(setting.key()) > 0) {
      const auto [claim, first] = claims.emplace(setting.scope(), absl::OkStatus());
      if (first) claim->second = plans ? options_.may_claim(setting.scope()) : options_.claim(setting.scope());
      claimed = claim->second;
    }
    if (claimed.ok()) {
      *ours.add_sysctls() = setting;
    } else {
      refused->push_back(
          FinishedStep(profile->name(), setting.key(), v1::TUNE_OUTCOME_NOT_TRIED, std::string(claimed.message())));
    }
  }
  *profile = std::move(ours);
}

std::vector<v1::TuneStep> HostTuner::NotOurs(const std::string& profile, const std::set<std::string>& only) {
  std::vector<v1::TuneStep> steps;
  for (const auto& [key, tuned] : tuner_.keys()) {
    const bool asked = tuned.IsClaimedBy(profile) && (only.empty() || only.count(key) > 0);
    if (!asked || (tuned.base == tuned.set && !tuned.pending.has_value())) continue;
    if (const absl::Status claimed = options_.claim(ScopeOf(tuned)); !claimed.ok()) {
      steps.push_back(
          FinishedStep(profile, key, v1::TUNE_OUTCOME_NOT_TRIED,
                       absl::StrCat(std::string(claimed.message()), "; --force takes it back all the same")));
    }
  }
  return steps;
}

void HostTuner::TellOtherTuners(const std::string& profile, const std::set<std::string>& keys, const Tell& tell) const {
  for (const OtherTuner& other : options_.other_tuners()) {
    std::vector<std::string> both;
    std::set_intersection(keys.begin(), keys.end(), other.keys.begin(), other.keys.end(), std::back_inserter(both));
    if (both.empty()) continue;
    tell(FinishedStep(profile, kOtherTunerKey, v1::TUNE_OUTCOME_CONTESTED,
                      absl::StrCat(other.name, " sets ", absl::StrJoin(both, ", "),
                                   " too, when it starts and when its profile changes; what is set here holds until "
                                   "then, and verify tells whether it does. ",
                                   other.off)));
  }
}

void HostTuner::PlanContainer(const v1::TuneHost& order, const v1::TuningProfile& profile,
                              const std::vector<TuneStep>& steps, const Tell& tell) {
  std::vector<std::string> keys;
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (DockerSets(setting.key())) keys.push_back(setting.key());
  }
  const absl::StatusOr<std::unique_ptr<SysctlTree>> fresh = options_.new_namespaces(keys);
  if (fresh.ok()) {
    for (v1::TuneStep& step : PlanContainerSysctls(profile, &tree_, fresh->get())) tell(std::move(step));
  } else if (!keys.empty()) {
    v1::TuneStep step = FinishedStep(
        profile.name(), kContainersKey, v1::TUNE_OUTCOME_UNSUITABLE,
        absl::StrCat(std::string(fresh.status().message()), ", so what a container begins with is not known",
                     absl::IsPermissionDenied(fresh.status()) ? "; the agent needs CAP_SYS_ADMIN for it" : ""));
    step.set_place(v1::TUNE_PLACE_CONTAINER);
    tell(std::move(step));
  }
  if (!order.profile().has_descriptors()) return;
  // As it will be when the host has the profile.
  std::string now = tree_.Read(kMostDescriptors).value_or("");
  for (const TuneStep& step : steps) {
    if (step.key == kMostDescriptors && step.outcome == Outcome::kChanged) now = step.after;
  }
  const uint64_t most = NumberOr(now, std::numeric_limits<uint64_t>::max());
  tell(PlanContainerDescriptors(order.profile(), descriptors_.OfContainers(most), most));
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
  std::string why = "is not made by this agent";
  const bool made = std::any_of(wanted->begin(), wanted->end(),
                                [](const v1::SysctlSetting& setting) { return setting.key() == kReservedPorts; });
  if (made) {
    const TuneStep planned = tuner_.Plan(reservation).front();
    if (planned.outcome == Outcome::kChanged || planned.outcome == Outcome::kFulfilled) return true;
    why = absl::StrCat("cannot be had: ", std::string(ToWord(planned.outcome)), " ", planned.why);
  }
  *step = FinishedStep(coupled.name(), std::string(kPortRange), v1::TUNE_OUTCOME_NOT_TRIED,
                       absl::StrCat("connections would take ports that somebody listens on, because ",
                                    std::string(kReservedPorts), " ", why));
  wanted->erase(range);
  return false;
}

void HostTuner::SetDescriptors(const v1::TuneHost& order, const std::vector<TuneStep>& steps, const Tell& tell) {
  const v1::TuningProfile& profile = order.profile();
  if (options_.allowed.count(kDescriptorsAllowed) == 0) {
    tell(FinishedStep(profile.name(), kDescriptorsAllowed, v1::TUNE_OUTCOME_FORBIDDEN,
                      WhyForbidden("set them", kDescriptorsAllowed)));
    return;
  }
  // Limits of descriptors outlive a boot, and one above the kernel's keeps every container from starting.
  std::string most = tree_.Read(kMostDescriptors).value_or("");
  const auto tuned = tuner_.keys().find(kMostDescriptors);
  if (!order.persist() && tuned != tuner_.keys().end()) most = tuned->second.base;
  for (const TuneStep& step : steps) {
    if (step.key == kMostDescriptors && step.outcome == Outcome::kChanged) {
      most = order.persist() ? step.after : step.before;
    }
  }
  const uint64_t nr_open = NumberOr(most, std::numeric_limits<uint64_t>::max());
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
    tell(FinishedStep(profile, kFileKey, v1::TUNE_OUTCOME_UNSUITABLE,
                      "this agent is in a network namespace of its own, which no file sets at boot"));
    return;
  }
  const PersistentValues values = Held(profile);
  if ((plans ? ValuesOf(steps) : values).empty()) return;
  v1::TuneStep step = FinishedStep(profile, kFileKey, v1::TUNE_OUTCOME_CHANGED, "");
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
        FinishedStep(profile, rival.key, v1::TUNE_OUTCOME_FOREIGN,
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
  profiles.merge(modules_.Applied());
  return profiles;
}

bool HostTuner::HasApplied(const std::string& profile) const {
  std::set<std::string> profiles = Applied();
  profiles.merge(Persisted());
  return profile.empty() ? !profiles.empty() : profiles.count(profile) > 0;
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
    std::set<std::string> theirs;
    if (!order.force()) {
      for (v1::TuneStep& step : NotOurs(profile, only)) {
        applied = true;
        theirs.insert(step.key());
        tell(std::move(step));
      }
    }
    for (const TuneStep& step : tuner_.Rollback(profile, order.force(), only, theirs)) {
      applied = true;
      tell(ToWire(step));
    }
    if ((!only.empty() && only.count(kFileKey) == 0) || Persisted().count(profile) == 0) continue;
    v1::TuneStep step = FinishedStep(profile, kFileKey, v1::TUNE_OUTCOME_RESTORED, "");
    step.set_before(PersistentPath(profile));
    // What a file set at boot was never in the journal, nor what was there before.
    if (!applied) step.set_message("what it set at the last boot stays until the next one");
    if (absl::Status removed = Unpersist(options_.root, profile); !removed.ok()) {
      step = FinishedStep(profile, kFileKey, v1::TUNE_OUTCOME_REFUSED, std::string(removed.message()));
      step.set_after(PersistentPath(profile));
    }
    tell(std::move(step));
  }
  UnloadModules(profiles, only, tell);
  RewriteFiles();
  options_.keep_claims(ChangedScopes());
}

// Those of these profiles, and of any whose module stayed because of settings of others that are gone by now.
void HostTuner::UnloadModules(const std::set<std::string>& profiles, const std::set<std::string>& only,
                              const Tell& tell) {
  for (const std::string& profile : modules_.Applied()) {
    const bool asked = profiles.count(profile) > 0;
    const bool has_settings = std::any_of(tuner_.keys().begin(), tuner_.keys().end(),
                                          [&](const auto& known) { return known.second.IsClaimedBy(profile); });
    if (!asked && has_settings) continue;
    const auto in_use = [this](const std::string& module) { return HasSettingOf(module); };
    for (v1::TuneStep& step : modules_.Rollback(profile, asked ? only : std::set<std::string>(), in_use)) {
      tell(std::move(step));
    }
  }
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
  std::set<std::string> keys;
  for (const TuneStep& step : tuner_.Status()) {
    if (!profile.empty() && step.profile != profile) continue;
    any = true;
    keys.insert(step.key);
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
  std::vector<v1::TuneStep> others = descriptors_.Status();
  for (v1::TuneStep& step : modules_.Status()) others.push_back(std::move(step));
  for (v1::TuneStep& step : others) {
    if (!profile.empty() && step.profile() != profile) continue;
    any = true;
    tell(std::move(step));
  }
  TellOtherTuners(profile, keys, tell);
  if (any || (profile.empty() && !try_out)) return;
  v1::TuneStep nothing = FinishedStep(
      profile, kProfileKey, v1::TUNE_OUTCOME_MISSING,
      profile.empty() ? "nothing is applied here, so there is nothing to verify" : "this profile is not applied here");
  nothing.set_obstacle(true);
  tell(std::move(nothing));
}

void HostTuner::TellFiles(const std::string& profile, const Tell& tell) {
  const std::vector<TuneStep> status = tuner_.Status();
  for (const std::string& persisted : Persisted()) {
    if (!profile.empty() && persisted != profile) continue;
    v1::TuneStep step = FinishedStep(persisted, kFileKey, v1::TUNE_OUTCOME_APPLIED, "");
    step.set_after(PersistentPath(persisted));
    tell(std::move(step));
    std::vector<TuneStep> own;
    std::copy_if(status.begin(), status.end(), std::back_inserter(own),
                 [&](const TuneStep& each) { return each.profile == persisted; });
    TellRivals(persisted, own, tell);
  }
}

}  // namespace loadstar::agent
