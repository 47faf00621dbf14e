#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/tuner/condition.h"
#include "agent/tuner/container.h"
#include "agent/tuner/descriptors.h"
#include "agent/tuner/modules.h"
#include "agent/tuner/other_tuners.h"
#include "agent/tuner/persist.h"
#include "agent/tuner/probe.h"
#include "agent/tuner/tuner.h"
#include "loadstar/v1/agent_service.pb.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// Carries out what the coordinator asks of this host's settings, within what the host's own configuration allows: plan,
// apply, verify, rollback and status, with the sysctl.d file and what listeners make necessary. Owned by the thread
// that tunes.
class HostTuner {
 public:
  struct Options {
    // Where etc/sysctl.d is.
    std::string root = "/";
    // Settings for the next boot reach the namespace that this process is in (see InFirstNetworkNamespace).
    bool persistable = true;
    // What may be tuned, whatever a profile has in it: sysctls and the words below.
    std::set<std::string> allowed;
    KernelFacts kernel = {};
    // Ports on which somebody listens.
    std::function<std::vector<uint16_t>()> listening;
    // Tries a setting out; see TryOut.
    std::function<Probe(std::string_view key, std::string_view value)> try_out = TryOut;
    // See SettingsLock: Take, Ask and Keep.
    std::function<absl::Status(v1::SysctlScope)> claim = [](v1::SysctlScope) { return absl::OkStatus(); };
    std::function<absl::Status(v1::SysctlScope)> may_claim = [](v1::SysctlScope) { return absl::OkStatus(); };
    std::function<void(const std::set<v1::SysctlScope>&)> keep_claims = [](const std::set<v1::SysctlScope>&) {};
    std::function<std::vector<OtherTuner>()> other_tuners = [] { return std::vector<OtherTuner>(); };
    // See ReadNewNamespaces.
    std::function<absl::StatusOr<std::unique_ptr<SysctlTree>>(const std::vector<std::string>& keys)> new_namespaces =
        ReadNewNamespaces;
  };
  // Takes what becomes of each setting, in order.
  using Tell = std::function<void(v1::TuneStep step)>;

  // Keys of steps that are about no sysctl (a sysctl's name has a dot): the journal, the file for the next boot, and
  // limits of descriptors where they are not allowed; else those have keys of their own (descriptors.h).
  static constexpr char kJournalKey[] = "journal";
  static constexpr char kFileKey[] = "persistence";
  static constexpr char kDescriptorsAllowed[] = "descriptors";
  static constexpr char kModulesAllowed[] = "modules";
  static constexpr char kVirtualMachineAllowed[] = "virtual-machine";
  // Of the step that says what else that runs here sets the profile's settings.
  static constexpr char kOtherTunerKey[] = "other tuner";
  // Of the step that says why containers cannot be planned for.
  static constexpr char kContainersKey[] = "namespaces";
  // Of the step that says that a profile, or any, is not applied.
  static constexpr char kProfileKey[] = "profile";

  // All of them must outlive it.
  HostTuner(SysctlTree* tree, JournalStore* journal, Descriptors* descriptors, Modules* modules, const Era& era,
            Options options)
      : options_(std::move(options)),
        tree_(*tree),
        descriptors_(*descriptors),
        modules_(*modules),
        era_(era),
        tuner_(tree, journal, era) {}

  // Reads the journal and the records of descriptors and modules, once, before anything else. After an error of the
  // journal every order is refused with it; those of the descriptors' record are told in steps.
  void Load();

  // Tells a step for each setting and returns when all are done. An error: nothing was done, and why; INVALID_ARGUMENT
  // when the order cannot be understood.
  absl::Status CarryOut(const v1::TuneHost& order, const Tell& tell);
  // Whether the profile, or any when it is empty, is applied here or set at boot. After Load.
  bool HasApplied(const std::string& profile) const;

 private:
  // What of a profile is made where.
  struct Parts {
    v1::TuningProfile host;
    v1::TuningProfile container;
  };

  absl::Status Apply(const v1::TuneHost& order, const Tell& tell);
  // Tells what is meant for none of them.
  Parts Sort(const v1::TuneHost& order, const Tell& tell) const;
  v1::TuningProfile WithoutForbidden(const v1::TuningProfile& profile, std::vector<v1::TuneStep>* forbidden) const;
  void LoadModules(const v1::TuningProfile& profile, bool plans, const Tell& tell);
  void Claim(bool plans, v1::TuningProfile* profile, std::vector<v1::TuneStep>* refused);
  // Keys of the profile that are under another agent's care.
  std::vector<v1::TuneStep> NotOurs(const std::string& profile, const std::set<std::string>& only);
  bool HasSettingOf(const std::string& module) const;
  void UnloadModules(const std::set<std::string>& profiles, const std::set<std::string>& only, const Tell& tell);
  v1::SysctlScope ScopeOf(const TunedKey& tuned) const;
  std::set<v1::SysctlScope> ChangedScopes() const;
  void TellOtherTuners(const std::string& profile, const std::set<std::string>& keys, const Tell& tell) const;
  void PlanContainer(const v1::TuneHost& order, const v1::TuningProfile& profile, const std::vector<TuneStep>& steps,
                     const Tell& tell);
  void SetDescriptors(const v1::TuneHost& order, const std::vector<TuneStep>& steps, const Tell& tell);
  void KeepForNextBoot(const std::string& profile, const std::vector<TuneStep>& steps, bool plans, const Tell& tell);
  void TellRivals(const std::string& profile, const std::vector<TuneStep>& steps, const Tell& tell);
  void Rollback(const v1::TuneHost& order, const Tell& tell);
  void TellStatus(const std::string& profile, bool try_out, const Tell& tell);
  void TellFiles(const std::string& profile, const Tell& tell);
  std::set<std::string> Applied() const;
  std::set<std::string> Persisted() const;
  PersistentValues Held(const std::string& profile) const;
  void RewriteFiles();
  bool MayWiden(const v1::TuningProfile& coupled, v1::TuningProfile* profile, v1::TuneStep* step);

  const Options options_;
  SysctlTree& tree_;
  Descriptors& descriptors_;
  Modules& modules_;
  const Era era_;
  Tuner tuner_;
  absl::Status loaded_ = absl::FailedPreconditionError("the journal was not read");
};

}  // namespace loadstar::agent
