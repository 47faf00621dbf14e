#include "agent/tuner/colima/colima.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <set>
#include <string_view>
#include <utility>

#include "agent/tuner/colima/colima_config.h"
#include "agent/tuner/wish.h"
#include "lib/os/files.h"
#include "lib/spec/sysctl_key.h"
#include "lib/spec/text.h"

namespace loadstar::agent {
namespace {

using spec::Cat;

constexpr size_t kMostConfig = 1U << 20;
constexpr char kConfigKey[] = "colima.yaml";  // its step's

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

// What the user had before we changed it.
std::string OriginalOf(const std::string& config_path) { return config_path + ".before-loadstar"; }
bool IsThere(const std::string& path) {
  struct stat facts {};
  return lstat(path.c_str(), &facts) == 0;
}

// The lines of a text, without their ends.
std::vector<std::string> Lines(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// What a program said, as part of a sentence.
std::string Said(const std::string& text) {
  std::string plain(spec::Trim(text));
  std::replace(plain.begin(), plain.end(), '"', '\'');
  return spec::Escaped(plain);
}

// As sysctl(8) is given it: with blanks where the kernel has tabs.
std::string Blanked(std::string value) {
  std::replace(value.begin(), value.end(), '\t', ' ');
  return value;
}

v1::TuneStep StepOf(const v1::TuningProfile& profile, const std::string& key) {
  v1::TuneStep step;
  step.set_profile(profile.name());
  step.set_key(key);
  return step;
}

void Hinder(v1::TuneStep* step, v1::TuneOutcome outcome, std::string why) {
  step->set_outcome(outcome);
  step->set_obstacle(true);
  step->set_message(std::move(why));
}

// What is in the way before a setting could be made; nothing when nothing is.
std::optional<v1::TuneStep> Unfit(const v1::TuningProfile& profile, const v1::SysctlSetting& setting,
                                  const std::map<std::string, std::string>& values) {
  v1::TuneStep step = StepOf(profile, setting.key());
  const auto found = values.find(setting.key());
  if (found == values.end()) {
    Hinder(&step, v1::TUNE_OUTCOME_MISSING,
           setting.module().empty() ? std::string("the virtual machine's kernel has no such setting")
                                    : Cat("the module ", setting.module(), " is not loaded in the virtual machine"));
    return step;
  }
  if (Fulfil(found->second, {WishOf(setting)}).has_value()) return std::nullopt;
  step.set_before(found->second);
  Hinder(&step, v1::TUNE_OUTCOME_UNSUITABLE,
         Cat("it holds ", spec::Quoted(found->second), ", which is of another kind"));
  return step;
}

bool Fulfils(const std::string& value, const v1::SysctlSetting& setting) {
  return Fulfil(value, {WishOf(setting)}) == value;
}

std::vector<std::string> KeysOf(const v1::TuningProfile& profile) {
  std::vector<std::string> keys;
  for (const v1::SysctlSetting& setting : profile.sysctls()) keys.push_back(setting.key());
  return keys;
}

}  // namespace

bool ColimaOutcome::ok() const {
  return failure.ok() &&
         std::none_of(steps.begin(), steps.end(), [](const v1::TuneStep& step) { return step.obstacle(); });
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
  const absl::StatusOr<ProgramResult> running = cli_.Inside(settings_.machine, {"sudo", "docker", "ps", "-q"});
  if (!running.ok()) return running.status();
  if (running->exit.clean()) facts.containers = Lines(running->out).size();
  return facts;
}

absl::Status Colima::WriteConfig(const std::string& before, const std::string& after) {
  const size_t slash = settings_.config_path.rfind('/');
  if (absl::Status made = os::MakeFolders(settings_.config_path.substr(0, slash)); !made.ok()) return made;
  const std::string original = OriginalOf(settings_.config_path);
  if (IsThere(settings_.config_path) && !IsThere(original)) {
    if (absl::Status kept = os::WriteFileAtomically(original, before); !kept.ok()) return kept;
  }
  return os::WriteFileAtomically(settings_.config_path, after);
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
      Hinder(&was, v1::TUNE_OUTCOME_REFUSED, Cat("after the start it is ", spec::Quoted(is.before())));
    }
  }
  return facts;
}

absl::StatusOr<Colima::Values> Colima::ReadInside(const std::vector<std::string>& keys) {
  std::vector<std::string> command = {"sudo", "sysctl", "-e"};
  command.insert(command.end(), keys.begin(), keys.end());
  const absl::StatusOr<ProgramResult> result = cli_.Inside(settings_.machine, std::move(command));
  if (!result.ok()) return result.status();
  Values values;
  constexpr std::string_view kIs = " =";
  for (const std::string& line : Lines(result->out)) {
    const size_t at = line.find(kIs);
    if (at == std::string::npos) continue;
    values[line.substr(0, at)] = std::string(spec::Trim(std::string_view(line).substr(at + kIs.size())));
  }
  if (!result->exit.clean() && values.empty()) {
    return absl::UnavailableError(
        Cat("the settings inside cannot be read: sysctl ", os::ToString(result->exit), ": ", Said(result->err)));
  }
  return values;
}

absl::StatusOr<std::string> Colima::WriteInside(const std::string& key, const std::string& value) {
  const absl::StatusOr<ProgramResult> result =
      cli_.Inside(settings_.machine, {"sudo", "sysctl", "-w", Cat(key, "=", Blanked(value))});
  if (!result.ok()) return result.status();
  return Said(result->err);
}

absl::Status Colima::LoadModules(const v1::TuningProfile& profile, Values* values) {
  std::set<std::string> modules;
  std::vector<std::string> keys;
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (setting.module().empty() || values->contains(setting.key())) continue;
    modules.insert(setting.module());
    keys.push_back(setting.key());
  }
  if (modules.empty()) return absl::OkStatus();
  for (const std::string& module : modules) {
    // Whether it worked is seen by the keys.
    const absl::StatusOr<ProgramResult> loaded = cli_.Inside(settings_.machine, {"sudo", "modprobe", "--", module});
    if (!loaded.ok()) return loaded.status();
  }
  absl::StatusOr<Values> more = ReadInside(keys);
  if (!more.ok()) return more.status();
  values->merge(*more);
  return absl::OkStatus();
}

absl::Status Colima::TuneInside(const v1::TuningProfile& profile, std::vector<v1::TuneStep>* steps) {
  absl::StatusOr<Values> before = ReadInside(KeysOf(profile));
  if (!before.ok()) return before.status();
  if (absl::Status loaded = LoadModules(profile, &*before); !loaded.ok()) return loaded;
  std::map<std::string, std::string> complaints;
  std::vector<std::string> written;
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (Unfit(profile, setting, *before).has_value()) continue;
    const std::string& now = before->at(setting.key());
    const std::string wanted = Fulfil(now, {WishOf(setting)}).value_or(now);
    if (wanted == now) continue;
    absl::StatusOr<std::string> complaint = WriteInside(setting.key(), wanted);
    if (!complaint.ok()) return complaint.status();
    complaints[setting.key()] = *std::move(complaint);
    written.push_back(setting.key());
  }
  Values after = *before;
  if (!written.empty()) {
    absl::StatusOr<Values> read = ReadInside(KeysOf(profile));
    if (!read.ok()) return read.status();
    after = *std::move(read);
  }
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (std::optional<v1::TuneStep> unfit = Unfit(profile, setting, *before); unfit.has_value()) {
      steps->push_back(*std::move(unfit));
      continue;
    }
    v1::TuneStep& step = steps->emplace_back(StepOf(profile, setting.key()));
    const std::string& had = before->at(setting.key());
    const std::string has = after.contains(setting.key()) ? after.at(setting.key()) : "";
    step.set_before(had);
    step.set_after(has);
    if (Fulfils(has, setting)) {
      const bool changed = !SameValue(had, has);
      step.set_outcome(changed ? v1::TUNE_OUTCOME_CHANGED : v1::TUNE_OUTCOME_FULFILLED);
      step.set_lowers(changed && Lowers(had, has, spec::SysctlKindOf(setting.key())));
      continue;
    }
    const std::string& complaint = complaints[setting.key()];
    const std::string said = complaint.empty() ? "" : Cat(" (", complaint, ")");
    if (SameValue(had, has)) {
      Hinder(&step, v1::TUNE_OUTCOME_REFUSED, Cat("the kernel did not take the value", said));
      continue;
    }
    const absl::StatusOr<std::string> back = WriteInside(setting.key(), had);
    if (!back.ok()) return back.status();
    Hinder(&step, v1::TUNE_OUTCOME_REFUSED,
           Cat("the kernel made ", spec::Quoted(has), " of it", said, "; what was before was written again"));
  }
  return absl::OkStatus();
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
  v1::TuneStep& step = steps->emplace_back(StepOf(profile, "descriptors.verify"));
  step.set_after(Cat(wanted.soft(), " ", wanted.hard()));
  const std::vector<std::string> expected = {std::to_string(wanted.soft()), std::to_string(wanted.hard())};
  if (engine.soft < wanted.soft() || engine.hard < wanted.hard()) {
    Hinder(&step, v1::TUNE_OUTCOME_FAILS,
           "the running engine's /etc/docker/daemon.json does not have them as default-ulimits: containers get less");
  } else if (!tried->exit.clean() || Lines(tried->out) != expected) {
    Hinder(&step, v1::TUNE_OUTCOME_FAILS,
           Cat("no process inside can have them: prlimit ", os::ToString(tried->exit), ": ",
               Said(tried->err.empty() ? tried->out : tried->err)));
  } else {
    step.set_outcome(v1::TUNE_OUTCOME_WORKS);
    step.set_message("a process inside has them, and the engine gives them to containers that are made from now on");
  }
  return absl::OkStatus();
}

ColimaOutcome Colima::BringTo(const v1::TuningProfile& profile, Restart restart) {
  ColimaOutcome outcome;
  const auto failed = [&outcome](absl::Status why) {
    outcome.failure = std::move(why);
    return std::move(outcome);
  };
  std::string before;
  absl::StatusOr<MachineFacts> facts = Look(&before);
  if (!facts.ok()) return failed(facts.status());
  MachinePlan plan = PlanMachine(*facts, profile, settings_.vm_type, restart);
  outcome.steps = std::move(plan.steps);
  if (plan.action == MachinePlan::Action::kBlocked) {
    outcome.message = Cat("the virtual machine ", settings_.machine, " cannot become what is wanted; nothing was done");
    return outcome;
  }

  const absl::StatusOr<std::string> after = MergeConfig(before, profile, plan.options);
  if (!after.ok()) {
    return failed(
        absl::FailedPreconditionError(Cat(settings_.config_path, " cannot be used: ", MessageOf(after.status()))));
  }
  v1::TuneStep config = StepOf(profile, kConfigKey);
  config.set_outcome(v1::TUNE_OUTCOME_FULFILLED);
  config.set_message(settings_.config_path);
  if (*after != before) {
    if (absl::Status written = WriteConfig(before, *after); !written.ok()) return failed(std::move(written));
    config.set_outcome(v1::TUNE_OUTCOME_CHANGED);
  }
  outcome.steps.push_back(std::move(config));

  const bool starts = plan.action != MachinePlan::Action::kNothing;
  if (starts) {
    if (absl::Status carried = CarryOut(plan); !carried.ok()) {
      for (v1::TuneStep& step : outcome.steps) {
        if (step.outcome() != v1::TUNE_OUTCOME_CHANGED || step.key() == kConfigKey) continue;
        Hinder(&step, v1::TUNE_OUTCOME_NOT_TRIED, "the virtual machine did not come up");
      }
      return failed(std::move(carried));
    }
    facts = ReadBack(profile, &outcome.steps);
    if (!facts.ok()) return failed(facts.status());
  } else if (!facts->machine.has_value() || !facts->machine->running()) {
    outcome.message =
        Cat("the virtual machine ", settings_.machine, facts->machine.has_value() ? " does not run" : " is not there",
            "; its configuration is ready for the next start");
    return outcome;
  }
  if (absl::Status tuned = TuneInside(profile, &outcome.steps); !tuned.ok()) return failed(std::move(tuned));
  if (profile.has_descriptors()) {
    const EngineLimits engine = facts->limits.value_or(EngineLimits{});
    if (absl::Status tried = TryDescriptors(profile, engine, &outcome.steps); !tried.ok()) {
      return failed(std::move(tried));
    }
  }
  outcome.message = Cat("the virtual machine ", settings_.machine, " runs ",
                        outcome.ok() ? "with all of " : "without all of ", profile.name());
  return outcome;
}

ColimaOutcome Colima::Start(const v1::TuningProfile& profile, bool allow_restart) {
  return BringTo(profile, allow_restart ? Restart::kAllowed : Restart::kRefused);
}

ColimaOutcome Colima::Configure(const v1::TuningProfile& profile) { return BringTo(profile, Restart::kNever); }

ColimaOutcome Colima::Status(const v1::TuningProfile& profile) {
  ColimaOutcome outcome;
  const absl::StatusOr<MachineFacts> facts = Look(nullptr);
  if (!facts.ok()) {
    outcome.failure = facts.status();
    return outcome;
  }
  if (!facts->machine.has_value() || !facts->machine->running()) {
    outcome.failure = absl::NotFoundError(facts->machine.has_value()
                                              ? Cat("the virtual machine ", settings_.machine, " does not run (",
                                                    spec::Escaped(facts->machine->status), ")")
                                              : Cat("there is no virtual machine ", settings_.machine));
    return outcome;
  }
  outcome.steps = PlanMachine(*facts, profile, settings_.vm_type, Restart::kNever).steps;
  const absl::StatusOr<Values> values = ReadInside(KeysOf(profile));
  if (!values.ok()) {
    outcome.failure = values.status();
    return outcome;
  }
  for (const v1::SysctlSetting& setting : profile.sysctls()) {
    if (std::optional<v1::TuneStep> unfit = Unfit(profile, setting, *values); unfit.has_value()) {
      outcome.steps.push_back(*std::move(unfit));
      continue;
    }
    const std::string& has = values->at(setting.key());
    v1::TuneStep& step = outcome.steps.emplace_back(StepOf(profile, setting.key()));
    step.set_before(has);
    step.set_after(Fulfil(has, {WishOf(setting)}).value_or(has));
    step.set_outcome(v1::TUNE_OUTCOME_FULFILLED);
    if (step.after() != has) Hinder(&step, v1::TUNE_OUTCOME_FAILS, "it does not hold what the profile wants");
  }
  if (profile.has_descriptors()) {
    outcome.failure = TryDescriptors(profile, facts->limits.value_or(EngineLimits{}), &outcome.steps);
  }
  outcome.message =
      Cat("the virtual machine ", settings_.machine, " runs on ", facts->details->driver, " with ",
          facts->containers.has_value() ? std::to_string(*facts->containers) : std::string("an unknown number of"),
          " running containers, engine ", facts->details->docker_socket);
  return outcome;
}

ColimaOutcome Colima::Stop() {
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
    const absl::StatusOr<ProgramResult> running = cli_.Inside(settings_.machine, {"sudo", "docker", "ps", "-q"});
    if (running.ok() && running->exit.clean()) leftovers.containers = Lines(running->out).size();
  }
  const absl::StatusOr<std::string> text = os::ReadFile(settings_.config_path, kMostConfig);
  leftovers.config = IsThere(OriginalOf(settings_.config_path));
  if (text.ok()) {
    const absl::StatusOr<ColimaConfig> config = ReadConfig(*text);
    leftovers.config = leftovers.config || (config.ok() && config->ours);
  }
  return leftovers;
}

ColimaOutcome Colima::Clean(const Leftovers& leftovers) {
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
  // Colima removes the folder with a machine; where there was none, what is there is ours or was replaced by us.
  const std::string original = OriginalOf(settings_.config_path);
  bool restored = false;
  if (IsThere(original)) {
    restored = std::rename(original.c_str(), settings_.config_path.c_str()) == 0;
    if (!restored) outcome.failure = absl::ErrnoToStatus(errno, Cat("cannot put ", original, " back"));
  } else if (leftovers.config && IsThere(settings_.config_path)) {
    outcome.failure = os::RemoveTree(settings_.config_path);
    // Only when nothing else is in it.
    rmdir(settings_.config_path.substr(0, settings_.config_path.rfind('/')).c_str());
  }
  outcome.message = leftovers.machine.has_value() ? Cat("the virtual machine ", settings_.machine, " is deleted")
                                                  : Cat("the configuration of ", settings_.machine, " is taken back");
  if (restored) outcome.message += Cat("; ", settings_.config_path, " is again what it was before Loadstar");
  return outcome;
}

}  // namespace loadstar::agent
