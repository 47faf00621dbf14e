// agent/tuner: makes this host ready for a load, and puts it back exactly. A profile's settings are wishes (wish.h); a
// key holds what fulfils the wishes of all profiles that were applied, and what it held before them when none is left.
// Every write is announced in the journal (journal.h) before it is made and confirmed after it was read back, so that a
// crash at any moment leaves a host of which the next life knows every key. What somebody else changed since is theirs:
// it is reported and left.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/tuner/journal.h"
#include "agent/tuner/sysctl_tree.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// What becomes, became or was to become of one key.
struct TuneStep {
  enum class Outcome : uint8_t {
    // Plan and Apply.
    kChanged,      // from `before` to `after`
    kFulfilled,    // it holds what is wanted
    kMissing,      // this kernel, or this network namespace, has no such key
    kReadOnly,     // it cannot be written here, or not by this process
    kUnsuitable,   // what it holds is not of the kind that is wanted
    kContradicts,  // a profile that is applied wants something else exactly
    kRefused,      // the kernel did not take the value; the key is as it was
    kNotTried,     // the journal could not be written: nothing was changed
    // Rollback.
    kRestored,  // from `before` to `after`
    kKept,      // another profile wants what it holds
    // All, and Status.
    kApplied,    // it holds what was set: `after`; before any profile it held `before`
    kForeign,    // somebody else changed it since: `after` is what it holds now. Left alone.
    kUncertain,  // it cannot be told whether it holds what was set: a step on it was interrupted and it holds neither
                 // what was before nor what was to come, or the journal is damaged there. Left alone.
  };
  std::string profile = {};
  std::string key = {};
  Outcome outcome = Outcome::kFulfilled;
  std::string before = {};
  std::string after = {};
  bool applied_before = false;  // Plan and Apply: the profile had a claim on the key already
  bool lowers = false;          // kChanged: a number goes down or a range gets smaller, as the profile asks
  std::string why = {};         // what the user should know; empty where the outcome says it all
};
std::string_view ToWord(TuneStep::Outcome outcome);
v1::TuneOutcome ToWire(TuneStep::Outcome outcome);
v1::TuneStep ToWire(const TuneStep& step);

// Owned by the thread that tunes; tree and journal must outlive it.
class Tuner {
 public:
  Tuner(SysctlTree* tree, JournalStore* journal, Era era) : tree_(*tree), journal_(*journal), era_(std::move(era)) {}

  // Reads the journal. Call it first; nothing may be applied when it fails.
  absl::Status Load();
  // What of the journal could not be used, in words, and where the damaged text is kept.
  const std::vector<std::string>& problems() const { return problems_; }
  const TunedKeys& keys() const { return keys_; }

  // What Apply would do now. Changes no key.
  std::vector<TuneStep> Plan(const v1::TuningProfile& profile);
  // Goes on past keys that cannot be had; stops when the journal fails.
  std::vector<TuneStep> Apply(const v1::TuningProfile& profile);
  // Takes a profile's wishes back, the last one first. `force`: also where somebody else changed the key since, or
  // where that is uncertain. `only`: of these keys alone; empty: of all. `spared`: not of these.
  std::vector<TuneStep> Rollback(const std::string& profile, bool force, const std::set<std::string>& only = {},
                                 const std::set<std::string>& spared = {});
  // One step for each key of each profile that is applied: kApplied, kForeign or kUncertain, and kMissing when the key
  // has gone (its module was unloaded).
  std::vector<TuneStep> Status();

 private:
  struct Decision {
    TuneStep step;
    Wish wish = {};
    std::string base = {};
    std::string era = {};
    std::vector<Wish> wishes = {};  // of all profiles, this one's included
    bool joins = false;             // kFulfilled, and not known yet
  };

  Decision Decide(const std::string& profile, const v1::SysctlSetting& setting);
  TuneStep Execute(const Decision& decision);
  TuneStep Release(const std::string& profile, const std::string& key, bool force);
  TuneStep StatusOf(const std::string& key, const TunedKey& tuned, const Layer& layer);
  // Why it cannot be told what the key's value is; empty where it can.
  static std::string Doubt(const TunedKey& tuned, const std::string& now);
  // Brings a step whose end is not known to an end where what the key holds tells it. Writes no key.
  void Resolve(const std::string& key);
  // Writes again what a pending step was to replace, in place of `found`, which the key holds. An error when the key
  // does not read so afterwards.
  absl::Status PutBack(const std::string& profile, const std::string& key, const std::string& found);
  absl::Status Record(JournalRecord record);
  absl::Status Compact();

  SysctlTree& tree_;
  JournalStore& journal_;
  const Era era_;
  TunedKeys keys_;
  std::vector<std::string> problems_;
  uint64_t sequence_ = 0;
  size_t journal_bytes_ = 0;
};

}  // namespace loadstar::agent
