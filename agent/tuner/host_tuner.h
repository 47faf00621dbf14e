#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/tuner/descriptors.h"
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
    // What may be tuned, whatever a profile has in it: sysctls, and kDescriptorsAllowed.
    std::set<std::string> allowed;
    // Ports on which somebody listens.
    std::function<std::vector<uint16_t>()> listening;
    // Tries a setting out; see TryOut.
    std::function<Probe(std::string_view key, std::string_view value)> try_out = TryOut;
  };
  // Takes what becomes of each setting, in order.
  using Tell = std::function<void(v1::TuneStep step)>;

  // Keys of steps that are about no sysctl (a sysctl's name has a dot): the journal, the file for the next boot, and
  // limits of descriptors where they are not allowed; else those have keys of their own (descriptors.h).
  static constexpr char kJournalKey[] = "journal";
  static constexpr char kFileKey[] = "persistence";
  static constexpr char kDescriptorsAllowed[] = "descriptors";
  // Of the step that says that a profile, or any, is not applied.
  static constexpr char kProfileKey[] = "profile";

  // Tree, journal and descriptors must outlive it.
  HostTuner(SysctlTree* tree, JournalStore* journal, Descriptors* descriptors, Era era, Options options)
      : options_(std::move(options)), tree_(*tree), descriptors_(*descriptors), tuner_(tree, journal, std::move(era)) {}

  // Reads the journal and the record of descriptors, once, before anything else. After an error of the journal every
  // order is refused with it; the record's are told in steps.
  void Load() {
    loaded_ = tuner_.Load();
    descriptors_.Load().IgnoreError();
  }

  // Tells a step for each setting and returns when all are done. An error: nothing was done, and why; INVALID_ARGUMENT
  // when the order cannot be understood.
  absl::Status CarryOut(const v1::TuneHost& order, const Tell& tell);

 private:
  absl::Status Apply(const v1::TuneHost& order, const Tell& tell);
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
  Tuner tuner_;
  absl::Status loaded_ = absl::FailedPreconditionError("the journal was not read");
};

}  // namespace loadstar::agent
