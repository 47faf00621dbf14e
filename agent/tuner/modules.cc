#include "agent/tuner/modules.h"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/tuner/tune_step.h"
#include "lib/os/files.h"
#include "lib/spec/name.h"

namespace loadstar::agent {
namespace {

constexpr size_t kMostText = size_t{64} * 1024;

}  // namespace

void Modules::Load() {
  const absl::StatusOr<std::string> text = os::ReadFile(options_.record, kMostText);
  if (!text.ok()) return;
  std::istringstream lines(*text);
  std::string era;
  std::string profile;
  std::string module;
  while (lines >> era >> profile >> module) {
    if (era == options_.era && spec::IsName(profile)) loaded_.emplace(profile, module);
  }
}

absl::Status Modules::Record(Loaded loaded) {
  std::string text;
  for (const auto& [profile, module] : loaded) absl::StrAppend(&text, options_.era, " ", profile, " ", module, "\n");
  absl::Status recorded = os::WriteFileAtomically(options_.record, text);
  if (recorded.ok()) loaded_ = std::move(loaded);
  return recorded;
}

v1::TuneStep Modules::Add(const std::string& profile, const std::string& module, bool plans) {
  v1::TuneStep step = FinishedStep(profile, KeyOf(module), v1::TUNE_OUTCOME_CHANGED, "");
  step.set_after("loaded");
  if (plans) return step;
  const auto refuse = [&step](v1::TuneOutcome outcome, const std::string& why) {
    step.set_after("");
    Finish(&step, outcome, why);
    return step;
  };
  const Loaded before = loaded_;
  Loaded with = loaded_;
  with.emplace(profile, module);
  if (const absl::Status recorded = Record(std::move(with)); !recorded.ok()) {
    return refuse(v1::TUNE_OUTCOME_NOT_TRIED, std::string(recorded.message()));
  }
  // Without --first-time it succeeds when the module is loaded already.
  const absl::StatusOr<CommandResult> loaded = options_.run({"modprobe", "--first-time", "--", module});
  if (loaded.ok() && loaded->code == 0) return step;
  // One that was killed may have loaded it.
  if (loaded.ok() || !IsLoaded(module)) Record(before).IgnoreError();
  return refuse(v1::TUNE_OUTCOME_REFUSED, loaded.ok() ? absl::StrCat("modprobe failed: ", OneLine(loaded->output))
                                                      : std::string(loaded.status().message()));
}

bool Modules::IsLoaded(const std::string& module) const {
  std::string name = module;
  std::replace(name.begin(), name.end(), '-', '_');
  return std::filesystem::exists(absl::StrCat(options_.loaded_folder, "/", name));
}

std::vector<v1::TuneStep> Modules::Rollback(const std::string& profile, const std::set<std::string>& only,
                                            const std::function<bool(const std::string& module)>& in_use) {
  std::vector<v1::TuneStep> steps;
  const Loaded before = loaded_;
  for (const auto& entry : before) {
    const std::string& module = entry.second;
    if (entry.first != profile || (!only.empty() && only.count(KeyOf(module)) == 0)) continue;
    v1::TuneStep& step = steps.emplace_back(FinishedStep(profile, KeyOf(module), v1::TUNE_OUTCOME_RESTORED, ""));
    step.set_before("loaded");
    if (in_use(module)) {
      // It goes with the last setting of it: the record stays.
      step.set_after("loaded");
      Finish(&step, v1::TUNE_OUTCOME_KEPT, "settings of it are still applied");
      continue;
    }
    const absl::StatusOr<CommandResult> gone = options_.run({"modprobe", "-r", "--", module});
    if (!gone.ok() || gone->code != 0) {
      step.set_after("loaded");
      Finish(&step, v1::TUNE_OUTCOME_KEPT,
             absl::StrCat("it stays until the next boot: ",
                          gone.ok() ? OneLine(gone->output) : std::string(gone.status().message())));
    }
    Loaded without = loaded_;
    without.erase(entry);
    if (const absl::Status recorded = Record(std::move(without)); !recorded.ok()) {
      Finish(&step, v1::TUNE_OUTCOME_UNCERTAIN, std::string(recorded.message()));
    }
  }
  return steps;
}

std::vector<v1::TuneStep> Modules::Status() const {
  std::vector<v1::TuneStep> steps;
  for (const auto& [profile, module] : loaded_) {
    v1::TuneStep& step = steps.emplace_back(FinishedStep(profile, KeyOf(module), v1::TUNE_OUTCOME_APPLIED, ""));
    step.set_after("loaded");
  }
  return steps;
}

std::set<std::string> Modules::Applied() const {
  std::set<std::string> profiles;
  for (const auto& [profile, module] : loaded_) profiles.insert(profile);
  return profiles;
}

}  // namespace loadstar::agent
