#include "agent/tuner/tuner.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "agent/tuner/tune_step.h"

namespace loadstar::agent {
namespace {

using Kind = JournalRecord::Kind;
using Outcome = TuneStep::Outcome;

// Past this the journal is written anew, with what still counts.
constexpr size_t kJournalBytes = size_t{256} * 1024;

struct OutcomeWord {
  Outcome outcome;
  std::string_view word;
  v1::TuneOutcome wire;
};
constexpr std::array kWords = {
    OutcomeWord{Outcome::kChanged, "changed", v1::TUNE_OUTCOME_CHANGED},
    OutcomeWord{Outcome::kFulfilled, "fulfilled", v1::TUNE_OUTCOME_FULFILLED},
    OutcomeWord{Outcome::kMissing, "missing", v1::TUNE_OUTCOME_MISSING},
    OutcomeWord{Outcome::kReadOnly, "read-only", v1::TUNE_OUTCOME_READ_ONLY},
    OutcomeWord{Outcome::kUnsuitable, "unsuitable", v1::TUNE_OUTCOME_UNSUITABLE},
    OutcomeWord{Outcome::kContradicts, "contradicts", v1::TUNE_OUTCOME_CONTRADICTS},
    OutcomeWord{Outcome::kRefused, "refused", v1::TUNE_OUTCOME_REFUSED},
    OutcomeWord{Outcome::kNotTried, "not tried", v1::TUNE_OUTCOME_NOT_TRIED},
    OutcomeWord{Outcome::kRestored, "restored", v1::TUNE_OUTCOME_RESTORED},
    OutcomeWord{Outcome::kKept, "kept", v1::TUNE_OUTCOME_KEPT},
    OutcomeWord{Outcome::kApplied, "applied", v1::TUNE_OUTCOME_APPLIED},
    OutcomeWord{Outcome::kForeign, "changed by others", v1::TUNE_OUTCOME_FOREIGN},
    OutcomeWord{Outcome::kUncertain, "uncertain", v1::TUNE_OUTCOME_UNCERTAIN},
};

bool IsPlain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return absl::ascii_isprint(byte) || c == '\t';
  });
}

Outcome OutcomeOf(const absl::Status& status) {
  if (absl::IsNotFound(status)) return Outcome::kMissing;
  return absl::IsPermissionDenied(status) ? Outcome::kReadOnly : Outcome::kUnsuitable;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// What a step is returned with.
auto Ending(TuneStep* step) {
  return [step](Outcome outcome, std::string why) {
    step->outcome = outcome;
    step->why = std::move(why);
    return *step;
  };
}

}  // namespace

std::string_view ToWord(Outcome outcome) {
  for (const OutcomeWord& known : kWords) {
    if (known.outcome == outcome) return known.word;
  }
  return "";
}

v1::TuneOutcome ToWire(Outcome outcome) {
  for (const OutcomeWord& known : kWords) {
    if (known.outcome == outcome) return known.wire;
  }
  return v1::TUNE_OUTCOME_UNSPECIFIED;
}

v1::TuneStep ToWire(const TuneStep& step) {
  v1::TuneStep wire = FinishedStep(step.profile, step.key, ToWire(step.outcome), step.why);
  wire.set_before(step.before);
  wire.set_after(step.after);
  wire.set_lowers(step.lowers);
  wire.set_applied_before(step.applied_before);
  return wire;
}

absl::Status Tuner::Load() {
  const absl::StatusOr<std::string> text = journal_.Load();
  if (!text.ok()) return text.status();
  Replayed replayed = Replay(*text, era_);
  keys_ = std::move(replayed.keys);
  problems_ = std::move(replayed.problems);
  sequence_ = replayed.last_sequence;
  journal_bytes_ = text->size();
  // Before anything is appended: it would be glued to a torn line, and numbered on from a gap.
  const bool unclean = replayed.torn_end || !problems_.empty();
  if (!problems_.empty()) {
    const absl::StatusOr<std::string> kept = journal_.KeepDamaged(*text);
    if (!kept.ok()) return kept.status();
    problems_.push_back(absl::StrCat("the damaged journal is kept as ", *kept));
  }
  if (unclean || (keys_.empty() && !text->empty())) {
    if (absl::Status compacted = Compact(); !compacted.ok()) return compacted;
  }
  std::vector<std::string> pending;
  for (const auto& [key, tuned] : keys_) {
    if (tuned.pending.has_value()) pending.push_back(key);
  }
  for (const std::string& key : pending) Resolve(key);
  return keys_.empty() && journal_bytes_ > 0 ? Compact() : absl::OkStatus();
}

absl::Status Tuner::Compact() {
  uint64_t sequence = sequence_;
  const std::string text = Compacted(keys_, &sequence);
  if (absl::Status replaced = journal_.Replace(text); !replaced.ok()) return replaced;
  sequence_ = sequence;
  journal_bytes_ = text.size();
  return absl::OkStatus();
}

absl::Status Tuner::Record(JournalRecord record) {
  if (record.era.empty()) record.era = keys_.at(record.key).era;
  const std::string line = ToLine(record, sequence_ + 1);
  if (absl::Status appended = journal_.Append(line); !appended.ok()) return appended;
  ++sequence_;
  journal_bytes_ += line.size();
  (void)Follow(record, sequence_, &keys_);
  return absl::OkStatus();
}

std::string Tuner::Doubt(const TunedKey& tuned, const std::string& now) {
  if (tuned.pending.has_value()) {
    const Pending& pending = *tuned.pending;
    return absl::StrCat("it was interrupted while it was being ", pending.releasing ? "rolled back" : "changed",
                        " from \"", pending.from, "\" to \"", pending.to, "\", and now holds \"", now,
                        "\"; rollback --force writes \"", pending.from, "\" first");
  }
  if (!tuned.doubted) return "";
  return absl::StrCat("the journal is damaged where it tells of it; as far as it is known it was \"", tuned.base,
                      "\" before and set to \"", tuned.set, "\"");
}

void Tuner::Resolve(const std::string& key) {
  const auto found = keys_.find(key);
  if (found == keys_.end() || !found->second.pending.has_value()) return;
  const Pending pending = *found->second.pending;
  const absl::StatusOr<std::string> now = tree_.Read(key);
  if (!now.ok()) return;
  // A journal that cannot be written leaves the step open, which is no less true.
  if (!pending.found.has_value() && SameValue(*now, pending.to)) {
    (void)Record({.kind = pending.releasing ? Kind::kReleased : Kind::kApplied,
                  .profile = pending.layer.profile,
                  .key = key,
                  .to = *now});
  } else if (*now == pending.from) {
    (void)Record({.kind = Kind::kDropped, .profile = pending.layer.profile, .key = key});
  }
}

absl::Status Tuner::PutBack(const std::string& profile, const std::string& key, const std::string& found) {
  const Pending pending = *keys_.at(key).pending;
  if (pending.found != found && IsPlain(found)) {
    absl::Status noted = Record({.kind = Kind::kFound, .profile = profile, .key = key, .to = found});
    if (!noted.ok()) return noted;
  }
  if (absl::Status written = tree_.Write(key, pending.from); !written.ok()) return written;
  const absl::StatusOr<std::string> now = tree_.Read(key);
  if (!now.ok()) return now.status();
  if (*now != pending.from) {
    return absl::AbortedError(absl::StrCat(key, " holds \"", *now, "\" after \"", pending.from, "\" was written"));
  }
  return Record({.kind = Kind::kDropped, .profile = profile, .key = key});
}

Tuner::Decision Tuner::Decide(const std::string& profile, const v1::SysctlSetting& setting) {
  Decision decision{.step = {.profile = profile, .key = setting.key()}, .wish = WishOf(setting)};
  TuneStep& step = decision.step;
  const auto end = [&](Outcome outcome, std::string why) {
    Ending (&step)(outcome, std::move(why));
    return decision;
  };
  const absl::StatusOr<std::string> now = tree_.Read(setting.key());
  if (absl::IsNotFound(now.status())) {
    return end(Outcome::kMissing, setting.module().empty()
                                      ? "this kernel, or this network namespace, has no such key"
                                      : absl::StrCat("it comes with the module ", setting.module(),
                                                     ", and limits nothing where that is not loaded"));
  }
  if (!now.ok()) return end(OutcomeOf(now.status()), Message(now.status()));
  step.before = step.after = *now;
  if (!IsPlain(*now)) return end(Outcome::kUnsuitable, "it holds what is no text");
  const auto tuned = keys_.find(setting.key());
  const bool known = tuned != keys_.end();
  if (known) {
    if (std::string doubt = Doubt(tuned->second, *now); !doubt.empty()) return end(Outcome::kUncertain, doubt);
  }
  // What somebody else wrote since is the base from here on.
  const bool ours = known && tuned->second.set == *now;
  decision.base = ours ? tuned->second.base : *now;
  decision.era = known ? tuned->second.era : era_.Of(setting.scope());
  bool applied = false;
  if (known) {
    for (const Layer& layer : tuned->second.layers) {
      if (layer.profile == profile) {
        step.applied_before = true;
        applied = ours && layer.wish == decision.wish;
        continue;
      }
      if (Contradict(layer.wish, decision.wish)) {
        return end(Outcome::kContradicts,
                   absl::StrCat("profile ", layer.profile, " wants it otherwise; roll that back first"));
      }
      decision.wishes.push_back(layer.wish);
    }
  }
  decision.wishes.push_back(decision.wish);
  const std::optional<std::string> target = Fulfil(decision.base, decision.wishes);
  if (!target.has_value()) {
    return end(Outcome::kUnsuitable, absl::StrCat("it holds \"", *now, "\", which is not of the kind that is wanted"));
  }
  if (SameValue(*target, *now)) {
    decision.joins = !applied;
    return end(Outcome::kFulfilled, "");
  }
  if (std::max(now->size(), target->size()) > kLongestSysctl) {
    return end(Outcome::kUnsuitable,
               absl::StrCat("its list is longer than the ", kLongestSysctl, " bytes that the kernel takes at once"));
  }
  step.after = *target;
  if (!tree_.Writable(setting.key())) return end(Outcome::kReadOnly, "it cannot be written here by this agent");
  step.lowers = Lowers(*now, *target, spec::SysctlKindOf(setting.key()));
  return end(Outcome::kChanged, "");
}

TuneStep Tuner::Execute(const Decision& decision) {
  TuneStep step = decision.step;
  const auto end = Ending(&step);
  if (decision.joins) {
    const absl::Status joined = Record({.kind = Kind::kJoined,
                                        .profile = step.profile,
                                        .key = step.key,
                                        .era = decision.era,
                                        .wish = decision.wish,
                                        .base = decision.base,
                                        .to = step.before});
    return joined.ok() ? step : end(Outcome::kNotTried, Message(joined));
  }
  if (step.outcome != Outcome::kChanged) return step;
  const absl::Status announced = Record({.kind = Kind::kApplying,
                                         .profile = step.profile,
                                         .key = step.key,
                                         .era = decision.era,
                                         .wish = decision.wish,
                                         .base = decision.base,
                                         .from = step.before,
                                         .to = step.after});
  if (!announced.ok()) return end(Outcome::kNotTried, Message(announced));
  const absl::Status written = tree_.Write(step.key, step.after);
  const absl::StatusOr<std::string> now = tree_.Read(step.key);
  if (!now.ok()) return end(Outcome::kUncertain, Message(now.status()));
  const std::string asked = std::exchange(step.after, *now);
  if (*now == step.before) {
    const absl::Status dropped = Record({.kind = Kind::kDropped, .profile = step.profile, .key = step.key});
    if (!dropped.ok()) return end(Outcome::kRefused, Message(dropped));
    return end(Outcome::kRefused, written.ok() ? "the kernel took the value and kept its own" : Message(written));
  }
  // Some values are rounded up.
  if (SameValue(*now, asked) || (written.ok() && Fulfil(*now, decision.wishes) == *now)) {
    const absl::Status confirmed =
        Record({.kind = Kind::kApplied, .profile = step.profile, .key = step.key, .to = *now});
    // It is done; the next life finds that out by itself.
    return confirmed.ok() ? step : end(Outcome::kChanged, Message(confirmed));
  }
  if (const absl::Status back = PutBack(step.profile, step.key, *now); !back.ok()) {
    return end(Outcome::kUncertain, Message(back));
  }
  return end(Outcome::kRefused,
             absl::StrCat("the kernel made \"", *now, "\" of \"", asked, "\"; what was before stands again"));
}

std::vector<TuneStep> Tuner::Plan(const v1::TuningProfile& profile) {
  std::vector<TuneStep> steps;
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    Resolve(setting.key());
    steps.push_back(Decide(profile.name(), setting).step);
  }
  return steps;
}

std::vector<TuneStep> Tuner::Apply(const v1::TuningProfile& profile) {
  std::vector<TuneStep> steps;
  std::string failure;
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    Resolve(setting.key());
    Decision decision = Decide(profile.name(), setting);
    if (!failure.empty() && (decision.joins || decision.step.outcome == Outcome::kChanged)) {
      decision.step.outcome = Outcome::kNotTried;
      decision.step.why = failure;
      decision.joins = false;
    }
    steps.push_back(Execute(decision));
    if (steps.back().outcome == Outcome::kNotTried) failure = steps.back().why;
  }
  if (journal_bytes_ > kJournalBytes) (void)Compact();
  return steps;
}

TuneStep Tuner::Release(const std::string& profile, const std::string& key, bool force) {
  TuneStep step{.profile = profile, .key = key};
  const auto end = Ending(&step);
  Resolve(key);
  absl::StatusOr<std::string> now = tree_.Read(key);
  if (!now.ok()) return end(OutcomeOf(now.status()), Message(now.status()));
  step.before = step.after = *now;
  auto tuned = keys_.find(key);
  if (tuned != keys_.end() && tuned->second.pending.has_value()) {
    const Pending pending = *tuned->second.pending;
    if (pending.found != *now && !force) return end(Outcome::kUncertain, Doubt(tuned->second, *now));
    if (absl::Status back = PutBack(pending.layer.profile, key, *now); !back.ok()) {
      return end(Outcome::kUncertain, Message(back));
    }
    now = step.after = pending.from;
    tuned = keys_.find(key);
  }
  if (tuned == keys_.end() || !tuned->second.IsClaimedBy(profile)) return end(Outcome::kRestored, "");
  const TunedKey known = tuned->second;
  if (known.doubted && !force) return end(Outcome::kUncertain, Doubt(known, *now));
  std::vector<Wish> others;
  for (const Layer& layer : known.layers) {
    if (layer.profile != profile) others.push_back(layer.wish);
  }
  // A key that was never written is not ours to restore, whatever it holds by now.
  const bool untouched = known.base == known.set && !known.doubted;
  const std::string target = untouched ? *now : Fulfil(known.base, others).value_or(known.base);
  if (*now != known.set && *now != target && !force) {
    return end(Outcome::kForeign, absl::StrCat("it was set to \"", known.set, "\", and somebody else wrote \"", *now,
                                               "\" since; rollback --force writes \"", target, "\""));
  }
  if (!IsPlain(*now)) return end(Outcome::kUnsuitable, "it holds what is no text");
  const absl::Status announced =
      Record({.kind = Kind::kReleasing, .profile = profile, .key = key, .from = *now, .to = target});
  if (!announced.ok()) return end(Outcome::kNotTried, Message(announced));
  const absl::Status written = *now == target ? absl::OkStatus() : tree_.Write(key, target);
  const absl::StatusOr<std::string> then = tree_.Read(key);
  if (!then.ok()) return end(Outcome::kUncertain, Message(then.status()));
  step.after = *then;
  if (SameValue(*then, target)) {
    const absl::Status confirmed = Record({.kind = Kind::kReleased, .profile = profile, .key = key, .to = *then});
    return end(others.empty() ? Outcome::kRestored : Outcome::kKept, confirmed.ok() ? "" : Message(confirmed));
  }
  if (*then == *now) {
    (void)Record({.kind = Kind::kDropped, .profile = profile, .key = key});
    return end(Outcome::kRefused, written.ok() ? "the kernel took the value and kept its own" : Message(written));
  }
  if (const absl::Status back = PutBack(profile, key, *then); !back.ok())
    return end(Outcome::kUncertain, Message(back));
  step.after = *now;
  return end(Outcome::kRefused,
             absl::StrCat("the kernel made \"", *then, "\" of \"", target, "\"; what was before stands again"));
}

std::vector<TuneStep> Tuner::Rollback(const std::string& profile, bool force, const std::set<std::string>& only,
                                      const std::set<std::string>& spared) {
  std::vector<std::string> names = InOrder(keys_);
  std::reverse(names.begin(), names.end());
  std::vector<TuneStep> steps;
  for (const std::string& key : names) {
    if ((!only.empty() && only.count(key) == 0) || spared.count(key) > 0) continue;
    const TunedKey& tuned = keys_.at(key);
    const bool pending = tuned.pending.has_value() && tuned.pending->layer.profile == profile;
    if (pending || tuned.IsClaimedBy(profile)) steps.push_back(Release(profile, key, force));
  }
  if (keys_.empty() && journal_bytes_ > 0) (void)Compact();
  return steps;
}

TuneStep Tuner::StatusOf(const std::string& key, const TunedKey& tuned, const Layer& layer) {
  TuneStep step{.profile = layer.profile, .key = key, .before = tuned.base};
  const auto end = Ending(&step);
  const absl::StatusOr<std::string> now = tree_.Read(key);
  if (!now.ok()) return end(OutcomeOf(now.status()), Message(now.status()));
  step.after = *now;
  if (std::string doubt = Doubt(tuned, *now); !doubt.empty()) return end(Outcome::kUncertain, std::move(doubt));
  if (*now == tuned.set) return end(Outcome::kApplied, "");
  return end(Outcome::kForeign, absl::StrCat("it was set to \"", tuned.set, "\""));
}

std::vector<TuneStep> Tuner::Status() {
  std::vector<TuneStep> steps;
  for (const std::string& key : InOrder(keys_)) {
    Resolve(key);
    const auto found = keys_.find(key);
    if (found == keys_.end()) continue;  // it turned out that nothing was done
    const TunedKey& tuned = found->second;
    for (const Layer& layer : tuned.layers) steps.push_back(StatusOf(key, tuned, layer));
    if (tuned.pending.has_value() && !tuned.IsClaimedBy(tuned.pending->layer.profile)) {
      steps.push_back(StatusOf(key, tuned, tuned.pending->layer));
    }
  }
  return steps;
}

}  // namespace loadstar::agent
