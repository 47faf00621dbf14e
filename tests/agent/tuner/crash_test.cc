// Power is cut at every operation of the tuner, in every way: the next life must know every key and restore all of
// them.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

#include "tests/agent/tuner/fake_host.h"

namespace loadstar::agent {
namespace {

using Outcome = TuneStep::Outcome;
using Values = std::map<std::string, std::string>;

constexpr FakeHost::Death kDeaths[] = {FakeHost::Death::kBefore, FakeHost::Death::kInTheMiddle,
                                       FakeHost::Death::kAfter};

Values Initial() {
  return {{"a.one", "128"}, {"a.triple", "1\t2\t3"}, {"a.range", "32768\t60999"}, {"a.ports", ""}, {"a.coerced", "7"}};
}

FakeHost Host() {
  FakeHost host;
  host.values = Initial();
  host.coerced["a.coerced"] = [](const std::string& value) { return value == "100" ? "96" : value; };
  return host;
}

const v1::TuningProfile& First() {
  static const v1::TuningProfile profile =
      Profile("first", {Setting("a.one", {4096}), Setting("a.triple", {1, 20, 30}), Setting("a.coerced", {100}),
                        Setting("a.range", {1024, 65535}, v1::SYSCTL_POLICY_COVERS),
                        Setting("a.ports", {9100, 9103}, v1::SYSCTL_POLICY_INCLUDES)});
  return profile;
}

const v1::TuningProfile& Second() {
  static const v1::TuningProfile profile =
      Profile("second", {Setting("a.one", {1024}), Setting("a.triple", {5, 5, 50})});
  return profile;
}

// What the tuner does while the power is cut.
void Work(Tuner* tuner) {
  tuner->Apply(First());
  tuner->Apply(Second());
  tuner->Rollback("first", false);
  tuner->Rollback("second", false);
}

// How many operations that is when nothing happens.
int OperationsOfWork() {
  FakeHost host = Host();
  Tuner tuner(&host, &host, kEra);
  EXPECT_TRUE(tuner.Load().ok());
  Work(&tuner);
  EXPECT_EQ(host.values, Initial());
  return host.operations;
}

TEST(CrashTest, AtEveryBoundaryStatusIsExactAndRollbackRestoresAll) {
  const int operations = OperationsOfWork();
  ASSERT_GT(operations, 30);
  for (int operation = 0; operation < operations; ++operation) {
    for (const FakeHost::Death death : kDeaths) {
      SCOPED_TRACE(absl::StrCat("operation ", operation, ", death ", static_cast<int>(death)));
      FakeHost host = Host();
      {
        Tuner tuner(&host, &host, kEra);
        ASSERT_TRUE(tuner.Load().ok());
        host.DieAt(operation, death);
        Work(&tuner);
        ASSERT_TRUE(host.dead());
      }
      host.Revive();
      const Values at_death = host.values;
      Tuner tuner(&host, &host, kEra);
      ASSERT_TRUE(tuner.Load().ok());
      EXPECT_TRUE(tuner.problems().empty());
      EXPECT_EQ(host.values, at_death) << "the start wrote a key";
      // Every key that is not as it was is known, with what it was; and only the kernel's own version of a value that
      // was being put back may be called uncertain.
      Values known;
      for (const TuneStep& step : tuner.Status()) {
        EXPECT_EQ(step.after, host.values[step.key]) << step.key;
        EXPECT_EQ(step.outcome, step.after == "96" ? Outcome::kUncertain : Outcome::kApplied) << step.key;
        known[step.key] = step.outcome == Outcome::kUncertain ? Initial()[step.key] : step.before;
      }
      for (const auto& [key, value] : Initial()) {
        if (host.values[key] != value) {
          EXPECT_EQ(known[key], value) << key << " is not known to be changed";
        }
      }
      bool told = true;
      for (const char* profile : {"first", "second"}) {
        for (const TuneStep& step : tuner.Rollback(profile, false)) {
          // Between the write and the reading of what the kernel made of it nothing tells its value from somebody
          // else's.
          const bool open = step.key == "a.coerced" && step.before == "96" && step.outcome == Outcome::kUncertain;
          told &= !open;
          EXPECT_TRUE(open || step.outcome == Outcome::kRestored || step.outcome == Outcome::kKept)
              << step.key << " " << ToWord(step.outcome) << " " << step.why;
        }
      }
      if (!told) tuner.Rollback("first", true);
      EXPECT_EQ(host.values, Initial());
      EXPECT_EQ(host.journal, "");
    }
  }
}

TEST(CrashTest, ASecondCrashWhileTheFirstIsUndoneIsUndoneToo) {
  const int operations = OperationsOfWork();
  for (int operation = 0; operation < operations; operation += 3) {
    for (int second = 0; second < 30; ++second) {
      for (const FakeHost::Death death : kDeaths) {
        SCOPED_TRACE(absl::StrCat("operations ", operation, " and ", second, ", death ", static_cast<int>(death)));
        FakeHost host = Host();
        for (const int dies_at : {operation, second}) {
          host.Revive();
          host.DieAt(dies_at, death);
          Tuner tuner(&host, &host, kEra);
          if (!tuner.Load().ok()) continue;
          if (dies_at == operation) Work(&tuner);
          tuner.Rollback("second", false);
          tuner.Rollback("first", false);
        }
        host.Revive();
        Tuner tuner(&host, &host, kEra);
        ASSERT_TRUE(tuner.Load().ok());
        tuner.Rollback("first", true);  // see above
        tuner.Rollback("second", false);
        ASSERT_EQ(host.values, Initial());
      }
    }
  }
}

// --- random histories ---

struct Key {
  std::string name;
  v1::SysctlPolicy policy;
};
const std::vector<Key>& Keys() {
  static const std::vector<Key> keys = {{"k.size", v1::SYSCTL_POLICY_AT_LEAST},
                                        {"k.other", v1::SYSCTL_POLICY_AT_LEAST},
                                        {"k.mode", v1::SYSCTL_POLICY_EXACTLY},
                                        {"k.range", v1::SYSCTL_POLICY_COVERS},
                                        {"k.ports", v1::SYSCTL_POLICY_INCLUDES}};
  return keys;
}

// Profiles want even numbers and everybody else writes odd ones: what we set is never what somebody else wrote.
enum Parity : uint8_t { kEven, kOdd };

spec::SysctlKind KindOf(v1::SysctlPolicy policy) {
  if (policy == v1::SYSCTL_POLICY_COVERS) return spec::SysctlKind::kRange;
  return policy == v1::SYSCTL_POLICY_INCLUDES ? spec::SysctlKind::kPorts : spec::SysctlKind::kSize;
}

std::vector<uint64_t> RandomValues(v1::SysctlPolicy policy, Parity parity) {
  const auto number = [parity] { return 2 * *rc::gen::inRange<uint64_t>(1, 30) + parity; };
  if (policy == v1::SYSCTL_POLICY_AT_LEAST || policy == v1::SYSCTL_POLICY_EXACTLY) return {number()};
  const uint64_t one = number();
  const uint64_t other = number();
  return {std::min(one, other), std::max(one, other)};
}

std::string RandomText(v1::SysctlPolicy policy) {
  const std::vector<uint64_t> values = RandomValues(policy, kOdd);
  if (policy == v1::SYSCTL_POLICY_INCLUDES) {
    if (*rc::gen::inRange(0, 3) == 0) return "";
    return values[0] == values[1] ? absl::StrCat(values[0]) : absl::StrCat(values[0], "-", values[1]);
  }
  return values.size() == 1 ? absl::StrCat(values[0]) : absl::StrCat(values[0], "\t", values[1]);
}

// A history of a host: profiles come and go, the power is cut, somebody else writes. The model beside it knows of each
// key who wrote it last, and what it held when it was nobody's but the host's.
class History {
 public:
  History() {
    for (const Key& key : Keys()) host_.values[key.name] = theirs_[key.name] = RandomText(key.policy);
    for (const char* name : {"p", "q", "r"}) {
      std::vector<v1::SysctlSetting> settings;
      for (const Key& key : Keys()) {
        if (*rc::gen::inRange(0, 3) > 0)
          settings.push_back(Setting(key.name, RandomValues(key.policy, kEven), key.policy));
      }
      profiles_.push_back(Profile(name, settings));
    }
    host_.on_write = [this](const std::string& key, const std::string& before, const std::string& after) {
      Judge(key, before, after);
    };
    Start();
  }

  void Step() {
    switch (*rc::gen::inRange(0, 7)) {
      case 0:
      case 1:
      case 2: {
        const v1::TuningProfile& profile = AnyProfile();
        applying_ = &profile;
        MaybeDying([&] { tuner_->Apply(profile); });
        applying_ = nullptr;
        break;
      }
      case 3:
      case 4:
        rolled_back_ = AnyProfile().name();
        MaybeDying([&] { tuner_->Rollback(rolled_back_, false); });
        break;
      case 5:
        Start();
        break;
      default:
        WriteAsSomebodyElse();
    }
  }

  // Everything is rolled back: what nobody else touched is as it was, and what somebody else wrote is what they wrote.
  void End() {
    for (const bool forced : {false, true}) {
      forced_ = forced;
      for (const v1::TuningProfile& profile : profiles_) {
        rolled_back_ = profile.name();
        tuner_->Rollback(rolled_back_, forced);
      }
      for (const auto& [key, value] : host_.values) {
        const bool left = tuner_->keys().contains(key);  // somebody else's, or one they wrote to while a step was open
        if (left) {
          RC_ASSERT(foreign_[key] && !forced);
        } else if (!forced) {
          RC_ASSERT(value == theirs_[key]);
        }
      }
    }
  }

 private:
  const v1::TuningProfile& AnyProfile() { return profiles_[*rc::gen::inRange<size_t>(0, profiles_.size())]; }

  void Start() {
    tuner_ = std::make_unique<Tuner>(&host_, &host_, kEra);
    RC_ASSERT(tuner_->Load().ok());
    RC_ASSERT(tuner_->problems().empty());
  }

  void MaybeDying(const std::function<void()>& work) {
    host_.operations = 0;
    host_.full = *rc::gen::inRange(0, 8) == 0;
    if (*rc::gen::inRange(0, 2) == 0) host_.DieAt(*rc::gen::inRange(0, 15), kDeaths[*rc::gen::inRange(0, 3)]);
    work();
    host_.full = false;
    const bool died = host_.dead();
    host_.Revive();
    if (died) Start();
  }

  void WriteAsSomebodyElse() {
    const Key& key = Keys()[*rc::gen::inRange<size_t>(0, Keys().size())];
    const std::string text = RandomText(key.policy);
    if (host_.values[key.name] == text) return;
    host_.values[key.name] = theirs_[key.name] = text;
    foreign_[key.name] = true;
  }

  // Every write of the tuner.
  void Judge(const std::string& key, const std::string& before, const std::string& after) {
    if (applying_ == nullptr) {
      RC_ASSERT(forced_ || !foreign_[key]);  // rollback writes nothing that somebody else wrote since
      if (forced_) foreign_[key] = false;
      if (const auto known = tuner_->keys().find(key); known != tuner_->keys().end()) {
        for (const Layer& layer : known->second.layers) {
          RC_ASSERT(layer.profile == rolled_back_ || Fulfil(after, {layer.wish}) == after || forced_);
        }
      }
      return;
    }
    foreign_[key] = false;  // an apply takes what it finds for the host's own value
    for (const v1::SysctlSetting& setting : applying_->sysctls()) {
      if (setting.key() == key && setting.policy() != v1::SYSCTL_POLICY_EXACTLY) {
        RC_ASSERT(!Lowers(before, after, KindOf(setting.policy())));
      }
    }
  }

  FakeHost host_;
  std::vector<v1::TuningProfile> profiles_;
  std::unique_ptr<Tuner> tuner_;
  const v1::TuningProfile* applying_ = nullptr;
  std::string rolled_back_;
  bool forced_ = false;
  Values theirs_;                        // what each key held before us, or what somebody else wrote last
  std::map<std::string, bool> foreign_;  // somebody else wrote it after us
};

TEST(TuningHistories, LowerNothingUnaskedRestoreExactlyAndLeaveWhatOthersWrote) {
  // 10,000 histories of 12 steps, unless the environment says otherwise. Set while there is no other thread.
  setenv("RC_PARAMS", "max_success=10000", 0);  // NOLINT(concurrency-mt-unsafe)
  EXPECT_TRUE(rc::check("tuning histories", [] {
    History history;
    for (int i = 0; i < 12; ++i) history.Step();
    history.End();
  }));
}

}  // namespace
}  // namespace loadstar::agent
