#include "agent/tuner/colima/colima.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <string_view>
#include <utility>

#include "agent/tuner/colima/colima_config.h"
#include "agent/tuner/colima/machine_tree.h"
#include "agent/tuner/host_tuner.h"
#include "agent/tuner/journal.h"
#include "agent/tuner/modules.h"
#include "agent/tuner/tune_step.h"
#include "agent/tuner/wish.h"
#include "lib/os/files.h"
#include "lib/os/lines.h"
#include "lib/spec/sysctl_key.h"
#include "lib/spec/text.h"

namespace loadstar::agent {
namespace {

using spec::Cat;

constexpr size_t kMostConfig = 1U << 20;
constexpr char kBootId[] = "/proc/sys/kernel/random/boot_id";

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

bool IsThere(const std::string& path) {
  struct stat facts {};
  return lstat(path.c_str(), &facts) == 0;
}

bool Fulfils(const std::string& value, const v1::SysctlSetting& setting) {
  return Fulfil(value, {WishOf(setting)}) == value;
}

void AddKeys(const v1::TuningProfile& profile, std::vector<std::string>* keys) {
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (std::find(keys->begin(), keys->end(), setting.key()) == keys->end()) keys->push_back(setting.key());
  }
}

std::vector<std::string> KeysOf(const v1::TuningProfile& profile) {
  std::vector<std::string> keys;
  AddKeys(profile, &keys);
  return keys;
}

std::vector<std::string> KeysOf(const MachineRecord& record) {
  std::vector<std::string> keys;
  for (const MachineRecord::Entry& entry : record.entries) AddKeys(entry.profile, &keys);
  return keys;
}

const v1::SysctlSetting* SettingOf(const v1::TuningProfile& profile, const std::string& key) {
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (setting.key() == key) return &setting;
  }
  return nullptr;
}

void Append(std::vector<v1::TuneStep> more, std::vector<v1::TuneStep>* steps) {
  steps->insert(steps->end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

// What a configuration is to say does not depend on how large the machine happens to be by now, which until its next
// start may be as a profile wanted that was taken back since. Its disk cannot get smaller.
MachineFacts OfAnySize(MachineFacts facts) {
  if (facts.machine.has_value()) facts.machine->cpus = facts.machine->memory_bytes = 0;
  return facts;
}

ColimaOutcome Placed(ColimaOutcome outcome) {
  for (v1::TuneStep& step : outcome.steps) step.set_place(v1::TUNE_PLACE_VIRTUAL_MACHINE);
  return outcome;
}

ColimaOutcome Failed(absl::Status why) {
  ColimaOutcome outcome;
  outcome.failure = std::move(why);
  return outcome;
}

// A folder that was made for what may not come to be.
class MadeFolder {
 public:
  explicit MadeFolder(std::string path) : path_(std::move(path)), made_(!IsThere(path_)) {}
  MadeFolder(const MadeFolder&) = delete;
  MadeFolder& operator=(const MadeFolder&) = delete;
  // Removes it when nothing is in it.
  ~MadeFolder() {
    if (made_) rmdir(path_.c_str());
  }

 private:
  const std::string path_;
  const bool made_;
};

}  // namespace

// The settings of a running machine, and the boot that they are of.
struct Colima::Inside {
  Inside(ColimaCli* cli, const std::string& machine, std::unique_ptr<JournalStore> store, std::string boot_id)
      : tree(cli, machine),
        journal(std::move(store)),
        boot(std::move(boot_id)),
        // A machine's settings begin anew at each of its boots, those of its network namespace among them.
        tuner(&tree, journal.get(), {.of_host = boot, .of_network_namespace = boot}) {}

  bool Claims(const std::string& profile) const {
    return std::any_of(tuner.keys().begin(), tuner.keys().end(), [&](const auto& known) {
      const TunedKey& tuned = known.second;
      return tuned.IsClaimedBy(profile) || (tuned.pending.has_value() && tuned.pending->layer.profile == profile);
    });
  }

  MachineTree tree;
  const std::unique_ptr<JournalStore> journal;
  const std::string boot;
  Tuner tuner;
};

bool ColimaOutcome::ok() const {
  return failure.ok() &&
         std::none_of(steps.begin(), steps.end(), [](const v1::TuneStep& step) { return step.obstacle(); });
}

Colima::Colima(ColimaCli* cli, ColimaSettings settings)
    : cli_(*cli),
      settings_(std::move(settings)),
      folder_(settings_.folder.empty() ? settings_.config_path.substr(0, settings_.config_path.rfind('/'))
                                       : settings_.folder) {}

absl::StatusOr<os::Fd> Colima::Lock() const {
  absl::StatusOr<os::Fd> lock = LockMachine(folder_);
  if (absl::IsNotFound(lock.status())) return os::Fd();
  return lock;
}

void Colima::Tidy() const {
  for (const std::string& path :
       {RecordOf(folder_), JournalOf(folder_), settings_.config_path, OriginalOf(settings_.config_path)}) {
    os::RemoveUnfinished(path);
  }
}

absl::StatusOr<MachineFacts> Colima::Look(std::string* config) {
  MachineFacts facts;
  facts.host_cores = settings_.host_cores;
  facts.host_memory_bytes = settings_.host_memory_bytes;
  facts.hardware_virtualization = settings_.hardware_virtualization;
  absl::StatusOr<std::string> text = os::ReadFile(settings_.config_path, kMostConfig);
  if (absl::IsNotFound(text.status())) text = "";
  if (!text.ok()) return text.status();
  absl::StatusOr<ColimaConfig> read = ReadConfig(*text);
  if (!read.ok()) {
    return absl::FailedPreconditionError(Cat(settings_.config_path, " cannot be used: ", MessageOf(read.status())));
  }
  facts.config = *std::move(read);
  if (config != nullptr) *config = *std::move(text);

  absl::StatusOr<std::optional<Machine>> machine = cli_.Find(settings_.machine);
  if (!machine.ok()) return machine.status();
  facts.machine = *std::move(machine);
  if (!facts.machine.has_value() || !facts.machine->running()) return facts;

  absl::StatusOr<MachineDetails> details = cli_.Details(settings_.machine);
  if (!details.ok()) return details.status();
  facts.details = *std::move(details);
  // What another engine runs is not asked of docker.
  if (!facts.machine->runtime.starts_with("docker")) return facts;
  const absl::StatusOr<EngineLimits> limits = LimitsInside();
  if (!limits.ok()) return limits.status();
  facts.limits = *limits;
  const absl::StatusOr<std::optional<uint64_t>> containers = CountContainers();
  if (!containers.ok()) return containers.status();
  facts.containers = *containers;
  return facts;
}

absl::StatusOr<std::optional<uint64_t>> Colima::CountContainers() {
  const absl::StatusOr<ProgramResult> running = cli_.Inside(settings_.machine, {"sudo", "docker", "ps", "-q"});
  if (!running.ok()) return running.status();
  if (!running->exit.clean()) return std::nullopt;
  return os::Lines(running->out).size();
}

absl::Status Colima::WriteConfig(const MachineRecord& record, const std::string& before,
                                 const std::string& after) const {
  const std::string original = OriginalOf(settings_.config_path);
  // A file that there was not before Loadstar is nothing to be put back.
  if (record.had_config && IsThere(settings_.config_path) && !IsThere(original)) {
    if (absl::Status kept = os::WriteFileAtomically(original, before); !kept.ok()) return kept;
  }
  return os::WriteFileAtomically(settings_.config_path, after);
}

absl::StatusOr<std::string> Colima::Before(const MachineRecord& record, const std::string& now) const {
  if (!record.had_config) return std::string();
  absl::StatusOr<std::string> original = os::ReadFile(OriginalOf(settings_.config_path), kMostConfig);
  if (!absl::IsNotFound(original.status())) return original;
  const absl::StatusOr<ColimaConfig> config = ReadConfig(now);
  if (!config.ok()) return Unusable(config.status());
  // With nothing of ours in it, it is that file itself: it was put back, and a crash came before the record of that.
  return config->ours ? std::string() : now;
}

absl::Status Colima::Rebase(const std::string& bare, const std::string& left, MachineRecord* record) const {
  const std::string path = OriginalOf(settings_.config_path);
  if (record->had_config) {
    // Kept byte for byte, with its comments, for as long as it says the same.
    const absl::StatusOr<std::string> original = os::ReadFile(path, kMostConfig);
    if (original.ok() && SameConfig(*original, bare)) return absl::OkStatus();
  } else {
    const absl::StatusOr<RestoredConfig> unedited = RestoreConfig(left, left, "");
    if (!unedited.ok()) return Unusable(unedited.status());
    if (SameConfig(unedited->text, bare)) return absl::OkStatus();
  }
  if (absl::Status written = os::WriteFileAtomically(path, bare); !written.ok()) return written;
  record->had_config = true;
  return absl::OkStatus();
}

absl::Status Colima::KeepEdits(const std::string& now, MachineRecord* record) const {
  // Without a file there is nothing of anybody's in it.
  if (!IsThere(settings_.config_path)) return absl::OkStatus();
  const std::string left = record->LeftAs(now);
  const bool lost = record->had_config && !IsThere(OriginalOf(settings_.config_path));
  if (SameConfig(now, left) && !lost) return absl::OkStatus();
  const absl::StatusOr<std::string> before = Before(*record, now);
  if (!before.ok()) return before.status();
  const absl::StatusOr<RestoredConfig> bare = RestoreConfig(now, left, *before);
  if (!bare.ok()) return Unusable(bare.status());
  return Rebase(bare->text, left, record);
}

absl::Status Colima::CarryOut(const MachinePlan& plan) {
  if (plan.action == MachinePlan::Action::kRestart) {
    if (absl::Status stopped = cli_.StopToRestart(settings_.machine); !stopped.ok()) return stopped;
  }
  absl::Status started = cli_.Start(settings_.machine, plan.options);
  if (!started.ok() && plan.action == MachinePlan::Action::kRestart) {
    return absl::Status(started.code(), Cat(MessageOf(started),
                                            ". The virtual machine was stopped for a restart and is "
                                            "down now: `colima start --profile ",
                                            settings_.machine, "` brings it up with what it has"));
  }
  return started;
}

absl::StatusOr<MachineFacts> Colima::ReadBack(const v1::TuningProfile& profile, std::vector<v1::TuneStep>* steps) {
  absl::StatusOr<MachineFacts> facts = Look(nullptr);
  if (!facts.ok()) return facts.status();
  if (!facts->machine.has_value() || !facts->machine->running()) {
    return absl::UnavailableError(Cat("colima start succeeded, but colima list shows ", settings_.machine,
                                      facts->machine.has_value() ? " as " + facts->machine->status : " not at all"));
  }
  const MachinePlan now = PlanMachine(*facts, profile, settings_.vm_type, Restart::kRefused);
  for (const v1::TuneStep& is : now.steps) {
    if (!is.obstacle()) continue;
    for (v1::TuneStep& was : *steps) {
      if (was.key() != is.key() || was.obstacle()) continue;
      Finish(&was, v1::TUNE_OUTCOME_REFUSED, Cat("after the start it is ", spec::Quoted(is.before())));
    }
  }
  return facts;
}

absl::Status Colima::Unusable(const absl::Status& why) const {
  return absl::FailedPreconditionError(Cat(settings_.config_path, " cannot be used: ", MessageOf(why)));
}

std::string Colima::NotRunning(const MachineFacts& facts) const {
  if (!facts.machine.has_value()) return Cat("there is no virtual machine ", settings_.machine);
  return Cat("the virtual machine ", settings_.machine, " does not run (", spec::Escaped(facts.machine->status), ")");
}

MachineRecord Colima::With(const MachineRecord& record, const v1::TuningProfile& profile, bool load_modules) const {
  MachineRecord next = record;
  std::set<std::string> modules;
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (load_modules && MayLoad(setting)) modules.insert(setting.module());
  }
  for (MachineRecord::Entry& entry : next.entries) {
    if (entry.profile.name() != profile.name()) continue;
    entry.profile = profile;
    entry.configured = true;
    entry.modules = std::move(modules);
    return next;
  }
  next.entries.push_back({.profile = profile, .modules = std::move(modules)});
  return next;
}

bool Colima::MayLoad(const v1::SysctlSetting& setting) const {
  if (setting.module().empty()) return false;
  // Nobody else's profile makes root load just anything.
  return !settings_.allowed.has_value() ||
         (settings_.allowed->contains(HostTuner::kModulesAllowed) && spec::ModuleOf(setting.key()) == setting.module());
}

v1::TuneStep Colima::ConfigStep(const std::string& profile, const MachineRecord& before, const MachineRecord& after,
                                bool changes) const {
  v1::TuneStep step = StepOf(profile, kConfigKey, changes ? v1::TUNE_OUTCOME_CHANGED : v1::TUNE_OUTCOME_FULFILLED,
                             settings_.config_path);
  step.set_before(before.Names());
  step.set_after(after.Names());
  return step;
}

v1::TuningProfile Colima::Admitted(const v1::TuningProfile& profile, std::vector<v1::TuneStep>* steps) const {
  const auto forbids = [this](const std::string& key) {
    return settings_.allowed.has_value() && !settings_.allowed->contains(key);
  };
  const auto forbidden = [&](const std::string& key) {
    steps->push_back(StepOf(profile.name(), key, v1::TUNE_OUTCOME_FORBIDDEN, WhyForbidden("set it", key)));
  };
  v1::TuningProfile admitted = profile;
  admitted.clear_sysctls();
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (setting.scope() == v1::SYSCTL_SCOPE_CONTAINER) {
      steps->push_back(
          StepOf(profile.name(), setting.key(), v1::TUNE_OUTCOME_NOT_MEANT, "it is made in containers alone"));
    } else if (forbids(setting.key())) {
      forbidden(setting.key());
    } else {
      *admitted.add_sysctls() = setting;
    }
  }
  if (profile.has_descriptors() && forbids(HostTuner::kDescriptorsAllowed)) {
    forbidden(HostTuner::kDescriptorsAllowed);
    admitted.clear_descriptors();
  }
  return admitted;
}

v1::TuneStep Colima::StepOf(const std::string& profile, const std::string& key, v1::TuneOutcome outcome,
                            std::string message) {
  v1::TuneStep step = FinishedStep(profile, key, outcome, std::move(message));
  step.set_place(v1::TUNE_PLACE_VIRTUAL_MACHINE);
  return step;
}

v1::TuneStep Colima::ToStep(const TuneStep& step, const v1::SysctlSetting* setting, bool load_modules) {
  v1::TuneStep wire = ToWire(step);
  wire.set_place(v1::TUNE_PLACE_VIRTUAL_MACHINE);
  if (step.outcome != TuneStep::Outcome::kMissing || setting == nullptr) return wire;
  // A limit of a module that is not loaded limits nothing, unless it was to be loaded.
  wire.set_obstacle(setting->module().empty() || load_modules);
  std::string why = "the virtual machine's kernel has no such setting";
  if (!setting->module().empty()) {
    why = Cat("the module ", setting->module(), " is not loaded in the virtual machine",
              load_modules ? "" : ", so it limits nothing; apply --load-modules loads it, if it is to be used at all");
  }
  wire.set_message(std::move(why));
  return wire;
}

absl::StatusOr<std::unique_ptr<Colima::Inside>> Colima::Enter(const std::vector<std::string>& keys, bool looks) {
  const absl::StatusOr<ProgramResult> boot = cli_.Inside(settings_.machine, {"sudo", "cat", kBootId});
  if (!boot.ok()) return boot.status();
  std::string boot_id(spec::Trim(boot->out));
  if (!boot->exit.clean() || boot_id.empty()) {
    return absl::UnavailableError(Cat("the boot of the virtual machine ", settings_.machine,
                                      " is not known, and so not what was set in it: cat ", kBootId, " inside ",
                                      os::ToString(boot->exit), ": ", Said(boot->err)));
  }
  const std::string path = JournalOf(folder_);
  auto inside = std::make_unique<Inside>(
      &cli_, settings_.machine, looks && !IsThere(path) ? MakeNoJournal() : MakeJournalFile(path), std::move(boot_id));
  if (absl::Status read = inside->tree.Prefetch(keys); !read.ok()) return read;
  if (absl::Status loaded = inside->tuner.Load(); !loaded.ok()) return loaded;
  return inside;
}

void Colima::TellProblems(const Inside& inside, std::vector<v1::TuneStep>* steps) {
  for (const std::string& problem : inside.tuner.problems()) {
    steps->push_back(StepOf("", HostTuner::kJournalKey, v1::TUNE_OUTCOME_UNCERTAIN, problem));
  }
}

absl::StatusOr<std::unique_ptr<Colima::Inside>> Colima::EnterIfItRuns(const MachineFacts& facts,
                                                                      const std::vector<std::string>& keys, bool looks,
                                                                      std::vector<v1::TuneStep>* steps) {
  if (!facts.machine.has_value() || !facts.machine->running()) return nullptr;
  absl::StatusOr<std::unique_ptr<Inside>> inside = Enter(keys, looks);
  if (inside.ok()) TellProblems(**inside, steps);
  return inside;
}

absl::Status Colima::LoadModules(const v1::TuningProfile& profile, bool plans, Inside* inside,
                                 std::vector<v1::TuneStep>* steps) {
  std::set<std::string> modules;
  std::set<std::string> forbidden;
  std::vector<std::string> keys;
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (setting.module().empty() || !absl::IsNotFound(inside->tree.Read(setting.key()).status())) continue;
    (MayLoad(setting) ? modules : forbidden).insert(setting.module());
    keys.push_back(setting.key());
  }
  for (const std::string& module : forbidden) {
    if (modules.contains(module)) continue;
    steps->push_back(StepOf(
        profile.name(), Modules::KeyOf(module), v1::TUNE_OUTCOME_FORBIDDEN,
        Cat("this agent may not load it, or it is not known to bring the profile's settings; it "
            "has to be started with --allow-tuning ",
            HostTuner::kModulesAllowed, ", and \"sudo modprobe ", module, "\" inside loads what it does not know")));
  }
  for (const std::string& module : modules) {
    v1::TuneStep step = StepOf(profile.name(), Modules::KeyOf(module), v1::TUNE_OUTCOME_CHANGED,
                               "it stays loaded until the virtual machine's next start");
    if (!plans) {
      const absl::StatusOr<ProgramResult> loaded = cli_.Inside(settings_.machine, {"sudo", "modprobe", "--", module});
      if (!loaded.ok()) return loaded.status();
      if (!loaded->exit.clean()) {
        Finish(&step, v1::TUNE_OUTCOME_REFUSED,
               Cat("modprobe ", os::ToString(loaded->exit), " in the virtual machine: ", Said(loaded->err)));
      }
    }
    if (!step.obstacle()) step.set_after("loaded");
    steps->push_back(std::move(step));
  }
  // Whether they brought them; with -e an answer without any of them is a good one.
  return modules.empty() || plans ? absl::OkStatus() : inside->tree.Prefetch(keys);
}

absl::Status Colima::TuneInside(const v1::TuningProfile& profile, bool load_modules, Inside* inside,
                                std::vector<v1::TuneStep>* steps) {
  TellProblems(*inside, steps);
  if (load_modules) {
    if (absl::Status loaded = LoadModules(profile, /*plans=*/false, inside, steps); !loaded.ok()) return loaded;
  }
  for (const TuneStep& step : inside->tuner.Apply(profile)) {
    v1::TuneStep& told = steps->emplace_back(ToStep(step, SettingOf(profile, step.key), load_modules));
    // What could not be read any more was not touched either.
    const bool untouched = step.outcome == TuneStep::Outcome::kUnsuitable;
    if (untouched && !inside->tree.failure().ok() && step.why == MessageOf(inside->tree.failure())) {
      Finish(&told, v1::TUNE_OUTCOME_NOT_TRIED, told.message());
    }
  }
  return inside->tree.failure();
}

absl::StatusOr<EngineLimits> Colima::LimitsInside() {
  const absl::StatusOr<ProgramResult> file = cli_.Inside(settings_.machine, {"sudo", "cat", "/etc/docker/daemon.json"});
  if (!file.ok()) return file.status();
  // Without the file the engine has its defaults.
  return file->exit.clean() ? ReadEngineLimits(file->out) : EngineLimits{};
}

absl::Status Colima::TryDescriptors(const v1::TuningProfile& profile, const EngineLimits& engine,
                                    std::vector<v1::TuneStep>* steps) {
  const v1::DescriptorLimits& wanted = profile.descriptors();
  const absl::StatusOr<ProgramResult> tried = cli_.Inside(
      settings_.machine,
      {"sudo", "prlimit", Cat("--nofile=", wanted.soft(), ":", wanted.hard()), "sh", "-c", "ulimit -Sn; ulimit -Hn"});
  if (!tried.ok()) return tried.status();
  v1::TuneStep& step = steps->emplace_back(StepOf(profile.name(), "descriptors.verify", v1::TUNE_OUTCOME_WORKS));
  step.set_after(Cat(wanted.soft(), " ", wanted.hard()));
  const std::string expected = Cat(wanted.soft(), "\n", wanted.hard());
  if (engine.soft < wanted.soft() || engine.hard < wanted.hard()) {
    Finish(&step, v1::TUNE_OUTCOME_FAILS,
           "the running engine's /etc/docker/daemon.json does not have them as default-ulimits: containers get less");
  } else if (!tried->exit.clean() || spec::Trim(tried->out) != expected) {
    Finish(&step, v1::TUNE_OUTCOME_FAILS,
           Cat("no process inside can have them: prlimit ", os::ToString(tried->exit), ": ",
               Said(tried->err.empty() ? tried->out : tried->err)));
  } else {
    step.set_message("a process inside has them, and the engine gives them to containers that are made from now on");
  }
  return absl::OkStatus();
}

ColimaOutcome Colima::Plan(const v1::TuningProfile& profile, const Permissions& permissions) {
  const absl::StatusOr<os::Fd> lock = Lock();
  if (!lock.ok()) return Failed(lock.status());
  ColimaOutcome outcome;
  std::vector<v1::TuneStep> left_out;
  const v1::TuningProfile admitted = Admitted(profile, &left_out);
  std::string before;
  const absl::StatusOr<MachineFacts> facts = Look(&before);
  if (!facts.ok()) return Failed(facts.status());
  const absl::StatusOr<MachineRecord> record = ReadRecord(folder_);
  if (!record.ok()) return Failed(record.status());
  const MachineRecord next = With(*record, admitted, permissions.load_modules);
  const MachineRecord::Entry* known = record->Find(profile.name());
  MachinePlan plan = PlanMachine(*facts, next.Together(), settings_.vm_type,
                                 permissions.allow_restart ? Restart::kAllowed : Restart::kRefused);
  outcome.steps = std::move(plan.steps);
  if (plan.action != MachinePlan::Action::kBlocked) {
    const absl::StatusOr<std::string> after = MergeConfig(before, next.Together(), plan.options);
    if (!after.ok()) return Failed(Unusable(after.status()));
    outcome.steps.push_back(ConfigStep(profile.name(), *record, next, *after != before));
    if (facts->machine.has_value() && facts->machine->running()) {
      const absl::StatusOr<std::unique_ptr<Inside>> inside = Enter(KeysOf(admitted), /*looks=*/true);
      if (!inside.ok()) return Failed(inside.status());
      if (permissions.load_modules) {
        const absl::Status told = LoadModules(admitted, /*plans=*/true, inside->get(), &outcome.steps);
        if (!told.ok()) return Failed(told);
      }
      for (const TuneStep& step : (*inside)->tuner.Plan(admitted)) {
        const v1::SysctlSetting* setting = SettingOf(admitted, step.key);
        const bool loads = permissions.load_modules && setting != nullptr && MayLoad(*setting);
        v1::TuneStep& told = outcome.steps.emplace_back(ToStep(step, setting, permissions.load_modules && !loads));
        if (step.outcome != TuneStep::Outcome::kMissing || !loads) continue;
        told.set_message(Cat("the module ", setting->module(), " is loaded in the virtual machine for it"));
      }
      if (!(*inside)->tree.failure().ok()) return Failed((*inside)->tree.failure());
    } else {
      const bool same = known != nullptr && *known == *next.Find(profile.name());
      for (const v1::SysctlSetting& setting : admitted.sysctls()) {
        v1::TuneStep& step = outcome.steps.emplace_back(
            StepOf(profile.name(), setting.key(), same ? v1::TUNE_OUTCOME_FULFILLED : v1::TUNE_OUTCOME_CHANGED,
                   "made when the virtual machine starts, unless it has more by itself"));
        step.set_after(WantedText(setting));
      }
    }
  }
  Append(std::move(left_out), &outcome.steps);
  for (v1::TuneStep& step : outcome.steps) {
    step.set_profile(profile.name());
    step.set_applied_before(step.applied_before() || known != nullptr);
    const v1::SysctlSetting* setting = SettingOf(profile, step.key());
    if (setting != nullptr) step.set_effect(setting->effect());
  }
  return Placed(std::move(outcome));
}

ColimaOutcome Colima::BringTo(const v1::TuningProfile& profile, Restart restart, bool load_modules) {
  const MadeFolder made(folder_);
  if (absl::Status folder = os::MakeFolders(folder_); !folder.ok()) return Failed(std::move(folder));
  const absl::StatusOr<os::Fd> lock = Lock();
  if (!lock.ok()) return Failed(lock.status());
  Tidy();
  ColimaOutcome outcome;
  const auto failed = [&outcome](absl::Status why) {
    outcome.failure = std::move(why);
    return Placed(std::move(outcome));
  };
  std::string before;
  absl::StatusOr<MachineFacts> facts = Look(&before);
  if (!facts.ok()) return failed(facts.status());
  const absl::StatusOr<MachineRecord> record = ReadRecord(folder_);
  if (!record.ok()) return failed(record.status());
  MachineRecord next = With(*record, profile, load_modules);
  const bool applied_before = record->Find(profile.name()) != nullptr;
  const auto mark = [&] {
    for (v1::TuneStep& step : outcome.steps) {
      step.set_profile(profile.name());
      step.set_applied_before(step.applied_before() || applied_before);
    }
  };
  MachinePlan plan = PlanMachine(*facts, next.Together(), settings_.vm_type, restart);
  outcome.steps = std::move(plan.steps);
  mark();
  if (plan.action == MachinePlan::Action::kBlocked) {
    outcome.message = Cat("the virtual machine ", settings_.machine, " cannot become what is wanted; nothing was done");
    return Placed(std::move(outcome));
  }
  const absl::StatusOr<std::string> after = MergeConfig(before, next.Together(), plan.options);
  if (!after.ok()) return failed(Unusable(after.status()));
  const bool starts = plan.action != MachinePlan::Action::kNothing;
  const bool runs = facts->machine.has_value() && facts->machine->running();
  std::unique_ptr<Inside> inside;
  if (runs && !starts) {
    absl::StatusOr<std::unique_ptr<Inside>> entered = Enter(KeysOf(profile), /*looks=*/false);
    if (!entered.ok()) return failed(entered.status());
    inside = *std::move(entered);
    if (!applied_before) next.entries.back().applied_in = inside->boot;
  }

  if (record->Names().empty()) {
    next.had_config = IsThere(settings_.config_path) || IsThere(OriginalOf(settings_.config_path));
  } else if (absl::Status kept = KeepEdits(before, &next); !kept.ok()) {
    return failed(std::move(kept));
  }
  next.created = next.created || plan.action == MachinePlan::Action::kCreate;
  next.left = *after;
  if (*after != before) next.earlier = before;
  v1::TuneStep config = ConfigStep(profile.name(), *record, next, *after != before);
  config.set_applied_before(applied_before);
  if (!(next == *record)) {
    if (absl::Status written = WriteRecord(folder_, next); !written.ok()) return failed(std::move(written));
  }
  if (*after != before) {
    if (absl::Status written = WriteConfig(next, before, *after); !written.ok()) return failed(std::move(written));
  }
  outcome.steps.push_back(std::move(config));

  if (starts) {
    absl::Status carried = CarryOut(plan);
    // Colima writes it in its own way at each start, also at one that fails. That is no edit of the user's.
    if (absl::StatusOr<std::string> left = os::ReadFile(settings_.config_path, kMostConfig); left.ok()) {
      next.left = *std::move(left);
      absl::Status written = WriteRecord(folder_, next);
      if (carried.ok() && !written.ok()) return failed(std::move(written));
    }
    if (!carried.ok()) {
      for (v1::TuneStep& step : outcome.steps) {
        if (step.outcome() != v1::TUNE_OUTCOME_CHANGED || step.key() == kConfigKey) continue;
        Finish(&step, v1::TUNE_OUTCOME_NOT_TRIED, "the virtual machine did not come up");
      }
      return failed(std::move(carried));
    }
    facts = ReadBack(next.Together(), &outcome.steps);
    if (!facts.ok()) return failed(facts.status());
    absl::StatusOr<std::unique_ptr<Inside>> entered = Enter(KeysOf(profile), /*looks=*/false);
    if (!entered.ok()) return failed(entered.status());
    inside = *std::move(entered);
  } else if (!runs) {
    outcome.message =
        Cat("the virtual machine ", settings_.machine, facts->machine.has_value() ? " does not run" : " is not there",
            "; its configuration is ready for the next start");
    return Placed(std::move(outcome));
  }
  if (absl::Status tuned = TuneInside(profile, load_modules, inside.get(), &outcome.steps); !tuned.ok()) {
    return failed(std::move(tuned));
  }
  if (profile.has_descriptors()) {
    const EngineLimits engine = facts->limits.value_or(EngineLimits{});
    if (absl::Status tried = TryDescriptors(profile, engine, &outcome.steps); !tried.ok()) {
      return failed(std::move(tried));
    }
  }
  outcome.message = Cat("the virtual machine ", settings_.machine, " runs ",
                        outcome.ok() ? "with all of " : "without all of ", profile.name());
  return Placed(std::move(outcome));
}

ColimaOutcome Colima::Start(const v1::TuningProfile& profile, const Permissions& permissions) {
  std::vector<v1::TuneStep> left_out;
  ColimaOutcome outcome =
      BringTo(Admitted(profile, &left_out), permissions.allow_restart ? Restart::kAllowed : Restart::kRefused,
              permissions.load_modules);
  Append(std::move(left_out), &outcome.steps);
  return outcome;
}

ColimaOutcome Colima::Configure(const v1::TuningProfile& profile) {
  std::vector<v1::TuneStep> left_out;
  ColimaOutcome outcome = BringTo(Admitted(profile, &left_out), Restart::kNever, /*load_modules=*/true);
  Append(std::move(left_out), &outcome.steps);
  return outcome;
}

absl::Status Colima::Compare(const v1::TuningProfile& profile, const MachineFacts& facts, bool applied, bool try_out,
                             Inside* inside, std::vector<v1::TuneStep>* steps) {
  const v1::TuneOutcome good = applied ? v1::TUNE_OUTCOME_APPLIED : v1::TUNE_OUTCOME_FULFILLED;
  for (v1::TuneStep& step : PlanMachine(facts, profile, settings_.vm_type, Restart::kNever).steps) {
    if (step.outcome() == v1::TUNE_OUTCOME_FULFILLED) step.set_outcome(good);
    steps->push_back(std::move(step));
  }
  // A profile that is not applied is only compared: who made it so does not matter.
  const std::vector<TuneStep> journaled = applied ? inside->tuner.Status() : std::vector<TuneStep>();
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    const auto known = std::find_if(journaled.begin(), journaled.end(), [&](const TuneStep& step) {
      return step.profile == profile.name() && step.key == setting.key();
    });
    if (known != journaled.end()) {
      steps->push_back(ToStep(*known, &setting, false));
      continue;
    }
    // Made by the configuration when the machine started, or not made.
    const absl::StatusOr<std::string> has = inside->tree.Read(setting.key());
    if (!has.ok()) {
      const bool missing = absl::IsNotFound(has.status());
      steps->push_back(ToStep({.profile = profile.name(),
                               .key = setting.key(),
                               .outcome = missing ? TuneStep::Outcome::kMissing : TuneStep::Outcome::kUnsuitable,
                               .why = MessageOf(has.status())},
                              &setting, false));
      continue;
    }
    v1::TuneStep& step = steps->emplace_back(StepOf(profile.name(), setting.key(), good));
    step.set_after(*has);
    if (Fulfils(*has, setting)) continue;
    step.set_before(*has);
    const std::optional<std::string> wanted = Fulfil(*has, {WishOf(setting)});
    step.set_after(wanted.value_or(""));
    if (wanted.has_value()) {
      Finish(&step, v1::TUNE_OUTCOME_FAILS, "it does not hold what the profile wants");
    } else {
      Finish(&step, v1::TUNE_OUTCOME_UNSUITABLE,
             Cat("it holds ", spec::Quoted(*has), ", which is not of the kind that is wanted"));
    }
  }
  if (!inside->tree.failure().ok()) return inside->tree.failure();
  if (!try_out || !profile.has_descriptors()) return absl::OkStatus();
  return TryDescriptors(profile, facts.limits.value_or(EngineLimits{}), steps);
}

ColimaOutcome Colima::Status(const v1::TuningProfile& profile) {
  const absl::StatusOr<os::Fd> lock = Lock();
  if (!lock.ok()) return Failed(lock.status());
  const absl::StatusOr<MachineFacts> facts = Look(nullptr);
  if (!facts.ok()) return Failed(facts.status());
  if (!facts->machine.has_value() || !facts->machine->running()) return Failed(absl::NotFoundError(NotRunning(*facts)));
  ColimaOutcome outcome;
  std::vector<v1::TuneStep> left_out;
  const v1::TuningProfile admitted = Admitted(profile, &left_out);
  const absl::StatusOr<std::unique_ptr<Inside>> inside = Enter(KeysOf(admitted), /*looks=*/true);
  if (!inside.ok()) return Failed(inside.status());
  outcome.failure = Compare(admitted, *facts, /*applied=*/false, /*try_out=*/true, inside->get(), &outcome.steps);
  Append(std::move(left_out), &outcome.steps);
  outcome.message =
      Cat("the virtual machine ", settings_.machine, " runs on ", facts->details->driver, " with ",
          facts->containers.has_value() ? std::to_string(*facts->containers) : std::string("an unknown number of"),
          " running containers, engine ", facts->details->docker_socket);
  return Placed(std::move(outcome));
}

ColimaOutcome Colima::Report(const std::string& profile, bool try_out) {
  const absl::StatusOr<os::Fd> lock = Lock();
  if (!lock.ok()) return Failed(lock.status());
  const absl::StatusOr<MachineRecord> record = ReadRecord(folder_);
  if (!record.ok()) return Failed(record.status());
  std::string config;
  const absl::StatusOr<MachineFacts> facts = Look(&config);
  if (!facts.ok()) return Failed(facts.status());
  ColimaOutcome outcome;
  absl::StatusOr<std::unique_ptr<Inside>> entered =
      EnterIfItRuns(*facts, KeysOf(*record), /*looks=*/true, &outcome.steps);
  if (!entered.ok()) return Failed(entered.status());
  const std::unique_ptr<Inside> inside = *std::move(entered);
  const v1::TuningProfile all = record->Together();
  const StartOptions options = PlanMachine(OfAnySize(*facts), all, settings_.vm_type, Restart::kNever).options;
  const absl::StatusOr<std::string> wanted = MergeConfig(config, all, options);
  for (const MachineRecord::Entry& entry : record->entries) {
    const std::string& name = entry.profile.name();
    if (!profile.empty() && name != profile) continue;
    if (entry.configured) {
      const bool stands = wanted.ok() && *wanted == config;
      v1::TuneStep& step = outcome.steps.emplace_back(
          StepOf(name, kConfigKey, stands ? v1::TUNE_OUTCOME_APPLIED : v1::TUNE_OUTCOME_FOREIGN,
                 stands ? settings_.config_path
                        : Cat(settings_.config_path, " does not ask for all of it any more; apply writes it again")));
      step.set_after(record->Names());
    }
    if (inside == nullptr) {
      v1::TuneStep& step = outcome.steps.emplace_back(StepOf(
          name, kMachineKey, v1::TUNE_OUTCOME_MISSING,
          Cat(NotRunning(*facts), entry.configured
                                      ? "; what is applied to it is made when it starts"
                                      : "; what was set in it ended with it, and its next start is without it")));
      step.set_obstacle(true);  // a setting may well be missing, but not all of them
      continue;
    }
    outcome.failure = Compare(entry.profile, *facts, /*applied=*/true, try_out, inside.get(), &outcome.steps);
    if (!outcome.failure.ok()) break;
  }
  return Placed(std::move(outcome));
}

void Colima::RollBackInside(const MachineRecord::Entry& entry, bool force, const std::set<std::string>& only,
                            Inside* inside, std::vector<v1::TuneStep>* steps) {
  const v1::TuningProfile& profile = entry.profile;
  const bool made_at_start = entry.applied_in != inside->boot;
  constexpr char kMadeAtStart[] =
      "the configuration made it when the virtual machine started; with the next start it is what it is without";
  std::set<std::string> journaled;
  for (const TuneStep& step : inside->tuner.Rollback(profile.name(), force, only)) {
    const v1::SysctlSetting* setting = SettingOf(profile, step.key);
    journaled.insert(step.key);
    v1::TuneStep& told = steps->emplace_back(ToStep(step, setting, false));
    // The journal begins with what it found, which is not what the kernel had by itself.
    if (!made_at_start || setting == nullptr || step.outcome != TuneStep::Outcome::kRestored) continue;
    if (!Fulfils(step.after, *setting)) continue;
    Finish(&told, v1::TUNE_OUTCOME_KEPT, kMadeAtStart);
  }
  if (!made_at_start) return;
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (journaled.contains(setting.key()) || (!only.empty() && !only.contains(setting.key()))) continue;
    const absl::StatusOr<std::string> has = inside->tree.Read(setting.key());
    if (!has.ok() || !Fulfils(*has, setting)) continue;
    v1::TuneStep& step =
        steps->emplace_back(StepOf(profile.name(), setting.key(), v1::TUNE_OUTCOME_KEPT, kMadeAtStart));
    step.set_before(*has);
    step.set_after(*has);
  }
}

absl::StatusOr<Colima::TakenOut> Colima::TakeOut(const MachineRecord& record, bool force, bool removes) const {
  const std::string& path = settings_.config_path;
  const std::string original = OriginalOf(path);
  // One beside a file that there was not before is none of ours to be put back.
  const bool known = record.had_config && IsThere(original);
  TakenOut taken;
  absl::StatusOr<std::string> now = os::ReadFile(path, kMostConfig);
  if (!now.ok() && !absl::IsNotFound(now.status())) return now.status();
  const absl::StatusOr<ColimaConfig> config = ReadConfig(now.value_or(""));
  if (!config.ok()) return Unusable(config.status());
  const bool untouched = now.ok() && (force || SameConfig(*now, record.LeftAs(*now)));
  if (known && (!now.ok() || untouched)) {
    absl::StatusOr<std::string> was = os::ReadFile(original, kMostConfig);
    if (!was.ok()) return was.status();
    if (std::rename(original.c_str(), path.c_str()) != 0) {
      return absl::ErrnoToStatus(errno, Cat("cannot put ", original, " back"));
    }
    taken.text = *std::move(was);
    taken.said = Cat(path, now.ok() ? "" : ", which was gone,", " is again what it was before Loadstar");
    return taken;
  }
  if (!now.ok()) {
    taken.said = Cat(path, " is gone already");
  } else if (!record.had_config && untouched && config->ours && removes) {
    if (absl::Status removed = os::RemoveTree(path); !removed.ok()) return removed;
    taken.said = Cat(path, " is removed; there was none before");
  } else {
    const absl::StatusOr<std::string> before = Before(record, *now);
    if (!before.ok()) return before.status();
    const absl::StatusOr<RestoredConfig> restored = RestoreConfig(*now, force ? *now : record.LeftAs(*now), *before);
    if (!restored.ok()) return Unusable(restored.status());
    if (restored->text != *now) {
      if (absl::Status written = os::WriteFileAtomically(path, restored->text); !written.ok()) return written;
    }
    taken.text = restored->text;
    taken.said = config->ours ? Cat("what Loadstar wrote to ", path, " is taken back; the rest of it was left")
                              : Cat(path, " has nothing of Loadstar's in it any more");
    if (config->ours && record.had_config && !known) {
      taken.said += Cat("; what it was before is not known, because ", original, " is gone");
    }
    if (!restored->kept.empty()) {
      taken.said += Cat("; left because somebody else changed it since: ", spec::JoinWords(restored->kept, ", "));
    }
  }
  if (absl::Status removed = os::RemoveTree(original); !removed.ok()) return removed;
  return taken;
}

absl::StatusOr<std::string> Colima::TakePartOut(bool force, const MachineRecord& before, MachineFacts* facts,
                                                MachineRecord* record) const {
  const std::string& path = settings_.config_path;
  const absl::StatusOr<std::string> now = os::ReadFile(path, kMostConfig);
  // Whoever removed it wanted it gone; the profiles that stay are written again by an apply.
  if (absl::IsNotFound(now.status())) return Cat(path, " is gone; apply writes it again for ", record->Names());
  if (!now.ok()) return now.status();
  const std::string left = record->LeftAs(*now);
  const absl::StatusOr<std::string> was = Before(*record, *now);
  if (!was.ok()) return was.status();
  const absl::StatusOr<RestoredConfig> restored = RestoreConfig(*now, force ? *now : left, *was);
  if (!restored.ok()) return Unusable(restored.status());
  if (!SameConfig(*now, left)) {
    if (absl::Status kept = Rebase(restored->text, left, record); !kept.ok()) return kept;
  }
  const absl::StatusOr<ColimaConfig> config = ReadConfig(restored->text);
  if (!config.ok()) return Unusable(config.status());
  facts->config = *config;
  const v1::TuningProfile others = record->Together();
  const StartOptions options = PlanMachine(OfAnySize(*facts), others, settings_.vm_type, Restart::kNever).options;
  const absl::StatusOr<std::string> text = MergeConfig(restored->text, others, options);
  if (!text.ok()) return Unusable(text.status());
  facts->config = ReadConfig(*text).value_or(ColimaConfig{});
  record->left = *text;
  if (*text != *now) {
    // The profile is still in it until it is written: see MachineRecord::earlier.
    record->earlier = *now;
    MachineRecord pending = before;
    pending.had_config = record->had_config;
    pending.left = record->left;
    pending.earlier = record->earlier;
    if (absl::Status written = WriteRecord(folder_, pending); !written.ok()) return written;
    if (absl::Status written = os::WriteFileAtomically(path, *text); !written.ok()) return written;
  }
  std::string said = path;
  if (!restored->kept.empty()) {
    said += Cat("; left because somebody else changed it since: ", spec::JoinWords(restored->kept, ", "));
  }
  return said;
}

absl::StatusOr<v1::TuneStep> Colima::TakeBackConfig(const std::string& profile, bool force, MachineFacts* facts,
                                                    MachineRecord* record) {
  v1::TuneStep step = StepOf(profile, kConfigKey, v1::TUNE_OUTCOME_RESTORED);
  step.set_before(record->Names());
  const MachineRecord before = *record;
  for (MachineRecord::Entry& entry : record->entries) {
    if (entry.profile.name() == profile) entry.configured = false;
  }
  step.set_after(record->Names());
  if (!record->Names().empty()) {
    absl::StatusOr<std::string> said = TakePartOut(force, before, facts, record);
    if (!said.ok()) return said.status();
    step.set_message(*std::move(said));
  } else {
    absl::StatusOr<TakenOut> taken = TakeOut(*record, force, /*removes=*/!facts->machine.has_value());
    if (!taken.ok()) return taken.status();
    step.set_message(std::move(taken->said));
    record->left.clear();
    record->earlier.clear();
    facts->config = ReadConfig(taken->text).value_or(ColimaConfig{});
  }
  return step;
}

void Colima::TellWhatStays(const v1::TuningProfile& profile, const MachineFacts& facts, const MachineRecord& record,
                           const std::set<std::string>& only, std::vector<v1::TuneStep>* steps) const {
  if (!facts.machine.has_value()) return;
  constexpr uint64_t kGib = 1ULL << 30;
  const auto stays = [&](const std::string& key, const std::string& value, const std::string& why) {
    if (!only.empty() && !only.contains(key)) return;
    v1::TuneStep& step = steps->emplace_back(StepOf(profile.name(), key, v1::TUNE_OUTCOME_KEPT, why));
    step.set_before(value);
    step.set_after(value);
  };
  const auto next = [](uint64_t says, const char* unit) {
    return says == 0 ? std::string("with the next start it is Colima's default, as colima.yaml says nothing of it")
                     : Cat("with the next start it is what colima.yaml says: ", says, unit);
  };
  const Machine& machine = *facts.machine;
  if (profile.has_virtual_machine()) {
    if (facts.config.cpus != machine.cpus) {
      stays("virtualMachine.cpus", std::to_string(machine.cpus), next(facts.config.cpus, ""));
    }
    const auto memory_gib = static_cast<uint64_t>(facts.config.memory_gib);
    if (memory_gib != machine.memory_bytes / kGib) {
      stays("virtualMachine.memory", Cat(machine.memory_bytes / kGib, " GiB"), next(memory_gib, " GiB"));
    }
    if (facts.config.disk_gib != machine.disk_bytes / kGib) {
      stays("virtualMachine.disk", Cat(machine.disk_bytes / kGib, " GiB"), "a disk never gets smaller");
    }
  }
  const EngineLimits limits = facts.limits.value_or(EngineLimits{});
  const bool as_configured =
      limits.soft == facts.config.soft_descriptors && limits.hard == facts.config.hard_descriptors;
  if (profile.has_descriptors() && machine.running() && !as_configured) {
    stays(HostTuner::kDescriptorsAllowed, Cat(limits.soft, " ", limits.hard),
          "the running engine keeps them until the virtual machine is started again, with what colima.yaml then says");
  }
  if (record.created && record.Names().empty()) {
    stays(kMachineKey, machine.status,
          "Loadstar created it; it stays, with everything in it, until deploy/colima-setup.sh clean deletes it");
  }
}

ColimaOutcome Colima::Rollback(const std::string& profile, bool force, const std::set<std::string>& only) {
  const absl::StatusOr<os::Fd> lock = Lock();
  if (!lock.ok()) return Failed(lock.status());
  Tidy();
  absl::StatusOr<MachineRecord> record = ReadRecord(folder_);
  if (!record.ok()) return Failed(record.status());
  std::vector<std::string> names;
  for (const MachineRecord::Entry& entry : record->entries) {
    if (profile.empty() || entry.profile.name() == profile) names.insert(names.begin(), entry.profile.name());
  }
  ColimaOutcome outcome;
  if (names.empty()) return outcome;
  absl::StatusOr<MachineFacts> facts = Look(nullptr);
  if (!facts.ok()) return Failed(facts.status());
  absl::StatusOr<std::unique_ptr<Inside>> entered =
      EnterIfItRuns(*facts, KeysOf(*record), /*looks=*/false, &outcome.steps);
  if (!entered.ok()) return Failed(entered.status());
  const std::unique_ptr<Inside> inside = *std::move(entered);
  for (const std::string& name : names) {
    const MachineRecord::Entry entry = *record->Find(name);
    if (inside != nullptr) {
      RollBackInside(entry, force, only, inside.get(), &outcome.steps);
      outcome.failure = inside->tree.failure();
      if (!outcome.failure.ok()) break;
    }
    if (entry.configured && (only.empty() || only.contains(kConfigKey))) {
      absl::StatusOr<v1::TuneStep> config = TakeBackConfig(name, force, &*facts, &*record);
      if (!config.ok()) {
        outcome.failure = config.status();
        break;
      }
      outcome.steps.push_back(*std::move(config));
      TellWhatStays(entry.profile, *facts, *record, only, &outcome.steps);
    }
    // Known for as long as something of it is left to be put back.
    std::erase_if(record->entries, [&](const MachineRecord::Entry& each) {
      return each.profile.name() == name && !each.configured && (inside == nullptr || !inside->Claims(name));
    });
    outcome.failure = WriteRecord(folder_, *record);
    if (!outcome.failure.ok()) break;
  }
  // The settings of a machine that does not run ended with it.
  if (record->entries.empty() && (inside == nullptr || inside->tuner.keys().empty())) {
    os::RemoveTree(JournalOf(folder_)).IgnoreError();  // an empty one does no harm
    if (!facts->machine.has_value()) rmdir(folder_.c_str());
  }
  return Placed(std::move(outcome));
}

ColimaOutcome Colima::Stop() {
  const absl::StatusOr<os::Fd> lock = Lock();
  if (!lock.ok()) return Failed(lock.status());
  ColimaOutcome outcome;
  const absl::StatusOr<std::optional<Machine>> machine = cli_.Find(settings_.machine);
  if (!machine.ok()) {
    outcome.failure = machine.status();
  } else if (!machine->has_value()) {
    outcome.message = Cat("there is no virtual machine ", settings_.machine, "; nothing to stop");
  } else if ((*machine)->status == "Stopped") {
    outcome.message = Cat("the virtual machine ", settings_.machine, " does not run; nothing to stop");
  } else if (outcome.failure = cli_.Stop(settings_.machine); outcome.failure.ok()) {
    const absl::StatusOr<std::optional<Machine>> after = cli_.Find(settings_.machine);
    if (!after.ok()) {
      outcome.failure = after.status();
    } else if (after->has_value() && (*after)->running()) {
      outcome.failure = absl::UnavailableError("colima stop succeeded, but colima list shows it running");
    } else {
      outcome.message = Cat("the virtual machine ", settings_.machine, " is stopped; what is in it stays");
    }
  }
  return outcome;
}

absl::StatusOr<Leftovers> Colima::FindLeftovers() {
  Leftovers leftovers;
  absl::StatusOr<std::optional<Machine>> machine = cli_.Find(settings_.machine);
  if (!machine.ok()) return machine.status();
  leftovers.machine = *std::move(machine);
  if (leftovers.machine.has_value() && leftovers.machine->running()) {
    leftovers.containers = CountContainers().value_or(std::nullopt);
  }
  const absl::StatusOr<std::string> text = os::ReadFile(settings_.config_path, kMostConfig);
  leftovers.config = IsThere(OriginalOf(settings_.config_path)) || IsThere(RecordOf(folder_));
  if (text.ok()) {
    const absl::StatusOr<ColimaConfig> config = ReadConfig(*text);
    leftovers.config = leftovers.config || (config.ok() && config->ours);
  }
  return leftovers;
}

ColimaOutcome Colima::Clean(const Leftovers& leftovers) {
  const absl::StatusOr<os::Fd> lock = Lock();
  if (!lock.ok()) return Failed(lock.status());
  Tidy();
  // Before anything is deleted, which the record may be with: without it nobody can tell what is whose.
  absl::StatusOr<MachineRecord> record = ReadRecord(folder_);
  if (!record.ok()) return Failed(record.status());
  ColimaOutcome outcome;
  if (leftovers.machine.has_value()) {
    outcome.failure = cli_.Delete(settings_.machine);
    if (!outcome.failure.ok()) return outcome;
    const absl::StatusOr<std::optional<Machine>> after = cli_.Find(settings_.machine);
    if (!after.ok() || after->has_value()) {
      outcome.failure = after.ok() ? absl::UnavailableError("colima delete succeeded, but colima list still shows it")
                                   : after.status();
      return outcome;
    }
  }
  // Colima removes the folder with a machine, but not a file that it only has a link to.
  const std::string original = OriginalOf(settings_.config_path);
  const std::string text = os::ReadFile(settings_.config_path, kMostConfig).value_or("");
  const absl::StatusOr<ColimaConfig> config = ReadConfig(text);
  std::string said;
  const bool is_there = IsThere(settings_.config_path);
  const bool ours = config.ok() && config->ours;
  if (record->entries.empty() && IsThere(original)) {
    // Somebody moved the record away: what there is of an original is all that is known.
    record->had_config = true;
    if (ours) record->left = text;
    if (is_there && !ours) {
      said = Cat(original, " is left, because ", settings_.config_path, " has nothing of Loadstar's in it");
    }
  }
  if (!record->Names().empty() || ours || (!is_there && IsThere(original))) {
    absl::StatusOr<TakenOut> taken = TakeOut(*record, /*force=*/false, /*removes=*/true);
    if (taken.ok()) {
      said = std::move(taken->said);
    } else {
      outcome.failure = taken.status();
    }
  }
  // The record last: until then all of this can be done again.
  const std::string journal = JournalOf(folder_);
  for (const std::string& path : {journal, journal + ".damaged", RecordOf(folder_)}) {
    if (outcome.failure.ok()) outcome.failure = os::RemoveTree(path);
  }
  rmdir(folder_.c_str());  // when nothing else is in it
  outcome.message = leftovers.machine.has_value() ? Cat("the virtual machine ", settings_.machine, " is deleted")
                                                  : Cat("the configuration of ", settings_.machine, " is taken back");
  if (!said.empty()) outcome.message += Cat("; ", said);
  return outcome;
}

}  // namespace loadstar::agent
