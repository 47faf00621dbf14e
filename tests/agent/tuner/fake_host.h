#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/tuner/tuner.h"

namespace loadstar::agent {

// A host without a kernel: keys and a journal that outlive the tuner, and a power switch. Every write to either is an
// operation; the one with the number `dies_at` is the last: it is done, done in part or not done, and nothing after it
// is.
class FakeHost final : public SysctlTree, public JournalStore {
 public:
  enum class Death { kBefore, kInTheMiddle, kAfter };

  // --- SysctlTree ---
  absl::StatusOr<std::string> Read(const std::string& key) override {
    if (dead_) return absl::UnavailableError("dead");
    const auto found = values.find(key);
    if (found == values.end()) return absl::NotFoundError(absl::StrCat("no ", key));
    return found->second;
  }
  bool Writable(const std::string& key) override { return !read_only.contains(key); }
  absl::Status Write(const std::string& key, const std::string& value) override {
    return Operate([&](Death death) {
      if (death == Death::kBefore || death == Death::kInTheMiddle) return absl::OkStatus();
      if (refused.contains(key)) return absl::InvalidArgumentError("refused");
      if (on_write) on_write(key, values[key], value);
      const auto made = coerced.find(key);
      values[key] = made == coerced.end() ? value : made->second(value);
      return absl::OkStatus();
    });
  }

  // --- JournalStore ---
  absl::StatusOr<std::string> Load() override { return journal; }
  absl::Status Append(std::string_view line) override {
    if (full) return absl::ResourceExhaustedError("the disk is full");
    return Operate([&](Death death) {
      if (death == Death::kBefore) return absl::OkStatus();
      journal += death == Death::kInTheMiddle ? line.substr(0, line.size() / 2) : line;
      return absl::OkStatus();
    });
  }
  absl::Status Replace(std::string_view text) override {
    if (full || replace_fails) return absl::ResourceExhaustedError("the disk is full");
    return Operate([&](Death death) {
      if (death == Death::kAfter) journal = text;
      return absl::OkStatus();
    });
  }

  absl::StatusOr<std::string> KeepDamaged(std::string_view text) override {
    if (full) return absl::ResourceExhaustedError("the disk is full");
    const absl::Status kept = Operate([&](Death death) {
      if (death == Death::kAfter) damaged = text;
      return absl::OkStatus();
    });
    return kept.ok() ? absl::StatusOr<std::string>("journal.damaged") : kept;
  }

  void DieAt(int operation, Death how) {
    dies_at_ = operation;
    how_ = how;
  }
  // Power again; keys and journal are as they were.
  void Revive() {
    dead_ = false;
    dies_at_ = -1;
    operations = 0;
  }
  bool dead() const { return dead_; }

  std::map<std::string, std::string> values;
  std::set<std::string> read_only;
  std::set<std::string> refused;                                                  // writes fail
  std::map<std::string, std::function<std::string(const std::string&)>> coerced;  // what the kernel makes of a value
  std::function<void(const std::string& key, const std::string& before, const std::string& after)> on_write;
  std::string journal;
  std::string damaged;
  bool full = false;
  bool replace_fails = false;
  int operations = 0;

 private:
  absl::Status Operate(const std::function<absl::Status(Death)>& work) {
    if (dead_) return absl::UnavailableError("dead");
    if (operations++ == dies_at_) {
      dead_ = true;
      (void)work(how_);
      return absl::UnavailableError("dead");
    }
    return work(Death::kAfter);
  }

  bool dead_ = false;
  int dies_at_ = -1;
  Death how_ = Death::kAfter;
};

// The first boot of the host.
inline const Era kEra{.of_host = "boot-1", .of_network_namespace = "boot-1/namespace-1"};

inline v1::SysctlSetting Setting(const std::string& key, std::vector<uint64_t> values,
                                 v1::SysctlPolicy policy = v1::SYSCTL_POLICY_AT_LEAST) {
  v1::SysctlSetting setting;
  setting.set_key(key);
  setting.mutable_values()->Add(values.begin(), values.end());
  setting.set_policy(policy);
  return setting;
}

inline v1::TuningProfile Profile(const std::string& name, const std::vector<v1::SysctlSetting>& settings) {
  v1::TuningProfile profile;
  profile.set_name(name);
  for (const v1::SysctlSetting& setting : settings) *profile.add_sysctls() = setting;
  return profile;
}

inline std::vector<std::string> Words(const std::vector<TuneStep>& steps) {
  std::vector<std::string> words;
  words.reserve(steps.size());
  for (const TuneStep& step : steps) words.push_back(absl::StrCat(step.key, " ", std::string(ToWord(step.outcome))));
  return words;
}

}  // namespace loadstar::agent
