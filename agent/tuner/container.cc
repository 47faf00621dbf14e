#include "agent/tuner/container.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/tuner/coupling.h"
#include "agent/tuner/descriptor_limit.h"
#include "agent/tuner/tune_step.h"
#include "agent/tuner/tuner.h"

namespace loadstar::agent {
namespace {

class KnownValues final : public SysctlTree {
 public:
  absl::StatusOr<std::string> Read(const std::string& key) override {
    const auto found = values.find(key);
    return found == values.end() ? absl::NotFoundError(absl::StrCat("no ", key)) : found->second;
  }
  bool Writable(const std::string& key) override { return writable.count(key) > 0; }
  absl::Status Write(const std::string& key, const std::string& /*value*/) override {
    return absl::PermissionDeniedError(absl::StrCat(key, " is of a namespace that is gone"));
  }

  std::map<std::string, absl::StatusOr<std::string>> values;
  std::set<std::string> writable;
};

}  // namespace

bool DockerSets(std::string_view key) {
  constexpr std::array<std::string_view, 8> kIpc = {
      "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
      "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
  };
  if (key.starts_with("net.") || key.starts_with("fs.mqueue.")) return true;
  for (const std::string_view known : kIpc) {
    if (known == key) return true;
  }
  return false;
}

absl::StatusOr<std::unique_ptr<SysctlTree>> ReadNewNamespaces(const std::vector<std::string>& keys) {
  auto known = std::make_unique<KnownValues>();
  int error = 0;
  // A thread that goes away takes its namespaces with it; /proc/sys shows each thread those that it is in.
  std::thread inside([&] {
    if (unshare(CLONE_NEWNET | CLONE_NEWIPC) != 0) {
      error = errno;
      return;
    }
    const std::unique_ptr<SysctlTree> tree = MakeProcSysctlTree();
    for (const std::string& key : keys) {
      known->values.emplace(key, tree->Read(key));
      if (tree->Writable(key)) known->writable.insert(key);
    }
  });
  inside.join();
  if (error != 0) return absl::ErrnoToStatus(error, "cannot make namespaces as a container has them");
  return known;
}

std::vector<v1::TuneStep> PlanContainerSysctls(const v1::TuningProfile& profile, SysctlTree* host, SysctlTree* fresh) {
  const std::unique_ptr<JournalStore> none = MakeNoJournal();
  std::vector<v1::TuneStep> plan;
  for (const TuneStep& step : Tuner(fresh, none.get(), Era()).Plan(profile)) plan.push_back(ToWire(step));
  const bool reserves = std::any_of(profile.sysctls().begin(), profile.sysctls().end(),
                                    [](const v1::SysctlSetting& setting) { return setting.key() == kReservedPorts; });
  for (size_t i = 0; i < plan.size(); ++i) {
    const v1::SysctlSetting& setting = profile.sysctls(static_cast<int>(i));
    v1::TuneStep& step = plan[i];
    step.set_place(v1::TUNE_PLACE_CONTAINER);
    step.set_effect(setting.effect());
    if (!DockerSets(setting.key())) {
      Finish(&step, v1::TUNE_OUTCOME_UNSUITABLE,
             "Docker sets no such key for a container: it is the host's, and the profile has to say scope: host");
    } else if (step.outcome() == v1::TUNE_OUTCOME_MISSING && host->Read(setting.key()).ok()) {
      step.set_obstacle(true);
      step.set_message(
          "a namespace has none of its own here, and Docker would not start the container: it is the host's, and "
          "the profile has to say scope: host");
    } else if (step.outcome() == v1::TUNE_OUTCOME_MISSING) {
      step.set_obstacle(setting.module().empty());
    } else if (step.outcome() == v1::TUNE_OUTCOME_READ_ONLY) {
      step.set_message("a container cannot set it: it is the host's, and the profile has to say scope: host");
    } else if (step.outcome() == v1::TUNE_OUTCOME_CHANGED && setting.key() == kPortRange && !reserves) {
      step.set_message(absl::StrCat("what the container listens on above ", setting.values(0), " belongs into its ",
                                    std::string(kReservedPorts)));
    }
  }
  return plan;
}

v1::TuneStep PlanContainerDescriptors(const v1::TuningProfile& profile, const absl::StatusOr<os::DescriptorLimit>& has,
                                      uint64_t most) {
  v1::TuneStep step = FinishedStep(profile.name(), kContainerDescriptorsKey, v1::TUNE_OUTCOME_FULFILLED, "");
  step.set_place(v1::TUNE_PLACE_CONTAINER);
  if (!has.ok()) {
    Finish(&step, v1::TUNE_OUTCOME_UNSUITABLE, std::string(has.status().message()));
    return step;
  }
  const os::DescriptorLimit wanted = {.soft = profile.descriptors().soft(), .hard = profile.descriptors().hard()};
  const os::DescriptorLimit after = SurelyMost(*has, wanted);
  if (has->soft > 0) {
    step.set_before(ToText(*has));
  } else if (has->hard > 0) {
    step.set_message(absl::StrCat("a container begins with the hard limit ", has->hard,
                                  "; its soft one cannot be told, and the hard one is not less"));
  }
  step.set_after(ToText(after));
  if (after.hard > most) {
    Finish(&step, v1::TUNE_OUTCOME_REFUSED,
           absl::StrCat("fs.nr_open is ", most, ", and no container would start with more: raise it first"));
  } else if (!Covers(*has, wanted)) {
    step.set_outcome(v1::TUNE_OUTCOME_CHANGED);
  }
  return step;
}

}  // namespace loadstar::agent
