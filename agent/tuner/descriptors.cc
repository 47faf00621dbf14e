#include "agent/tuner/descriptors.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "agent/tuner/daemon_json.h"
#include "agent/tuner/descriptor_limit.h"
#include "agent/tuner/tune_step.h"

namespace loadstar::agent {
namespace {

constexpr char kDaemonJson[] = "/etc/docker/daemon.json";
constexpr const char* kDockerPrograms[] = {"/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd",
                                           "/usr/local/sbin/dockerd"};
// Where distributions have Docker's command line.
constexpr const char* kOptionFiles[] = {"/etc/default/docker", "/etc/sysconfig/docker"};
constexpr uint64_t kMostFiles = INT64_MAX;  // that Docker's file can say
constexpr char kUlimitFlag[] = "--default-ulimit";
constexpr char kConfigFlag[] = "--config-file";

constexpr os::DescriptorLimit kAnyLimit = {.soft = 1, .hard = 1};

std::string Message(const absl::Status& status) { return std::string(status.message()); }

std::optional<std::string> TextOf(const std::optional<HostFile>& file) {
  return file.has_value() ? std::optional(file->text) : std::nullopt;
}

std::string FolderOf(const std::string& path) { return std::filesystem::path(path).parent_path().string(); }

bool Same(const os::DescriptorLimit& one, const os::DescriptorLimit& other) {
  return one.soft == other.soft && one.hard == other.hard;
}

os::DescriptorLimit LimitOf(const v1::DescriptorLimits& wanted) {
  return {.soft = wanted.soft(), .hard = wanted.hard()};
}

void Say(const std::string& what, v1::TuneStep* step) {
  step->set_message(step->message().empty() ? what : absl::StrCat(step->message(), "; ", what));
}

v1::TuneOutcome OutcomeOf(const absl::Status& status) {
  return absl::IsPermissionDenied(status) ? v1::TUNE_OUTCOME_READ_ONLY : v1::TUNE_OUTCOME_UNSUITABLE;
}

uint64_t ReadLimit(absl::string_view text) {
  uint64_t number = 0;
  return absl::SimpleAtoi(text, &number) ? number : kUnlimited;
}

std::string DropIn(const os::DescriptorLimit& limit) {
  return absl::StrCat("# Written by loadstar-agent for tuning profiles; \"loadstar tune rollback\" removes it.\n",
                      "[Service]\nLimitNOFILE=", ToText(limit), "\n");
}

// Whether the text, which is not ours, has the limit that we wrote.
bool CarriesOurLimit(const TunedFile& file, const std::optional<std::string>& text) {
  if (file.layers.empty() || file.set == TextOf(file.base)) return false;
  const absl::StatusOr<DaemonJson> ours = ReadDaemonJson(kDaemonJson, file.set.value_or(""));
  const absl::StatusOr<DaemonJson> theirs = ReadDaemonJson(kDaemonJson, text.value_or(""));
  return ours.ok() && theirs.ok() && ours->limit.has_value() && theirs->limit.has_value() &&
         Same(*ours->limit, *theirs->limit);
}

}  // namespace

// Where a limit is kept.
struct Descriptors::Place {
  std::string key;
  std::string path;
  std::string unit;    // empty: Docker's own configuration
  std::string daemon;  // the process that reads it when it starts
  std::string name;    // of that, for people

  std::string OnRestart() const {
    return absl::StrCat("takes effect when ", name, " is restarted",
                        daemon == "dockerd" ? "; its containers stop unless live-restore is on" : "");
  }
};

const std::vector<Descriptors::Place>& Descriptors::Places() {
  // One drop-in for all profiles: of one for each, systemd would take the last by name, not the highest.
  static const std::vector<Place> places = {
      {kDockerKey, kDaemonJson, "", "dockerd", "Docker"},
      {kContainerdUnitKey, "/etc/systemd/system/containerd.service.d/50-loadstar.conf", "containerd.service",
       "containerd", "containerd"},
      {kDockerUnitKey, "/etc/systemd/system/docker.service.d/50-loadstar.conf", "docker.service", "dockerd", "Docker"},
  };
  return places;
}

struct Descriptors::Decision {
  const Place* place = nullptr;
  v1::TuneStep step = {};
  std::optional<HostFile> now = {};
  TunedFile next = {};  // what is recorded before the write, or, where none is needed, at all
  std::string remark = {};
  bool owed = false;  // an earlier write was interrupted: what reads the file may not know of it
  bool records = false;
};

// ---- What is there

absl::Status Descriptors::Load() {
  files_.Tidy(options_.record);
  const absl::StatusOr<HostFile> record = files_.Read(options_.record);
  if (absl::IsNotFound(record.status())) return loaded_ = absl::OkStatus();
  if (!record.ok()) return loaded_ = record.status();
  absl::StatusOr<TunedFiles> files = ReadTunedFiles(record->text);
  if (!files.ok()) {
    return loaded_ =
               absl::DataLossError(absl::StrCat(options_.record, " is damaged (", OneLine(Message(files.status())),
                                                "), so what was set cannot be told. ", "Compare ", kDaemonJson,
                                                " with the copies beside it and look for 50-loadstar.conf below ",
                                                "/etc/systemd/system; then move the record away"));
  }
  known_ = *std::move(files);
  return loaded_ = absl::OkStatus();
}

absl::StatusOr<std::optional<HostFile>> Descriptors::ReadIfThere(const std::string& path) const {
  absl::StatusOr<HostFile> file = files_.Read(path);
  if (absl::IsNotFound(file.status())) return std::nullopt;
  if (!file.ok()) return file.status();
  return *std::move(file);
}

std::optional<os::ProcessStat> Descriptors::FindProcess(const std::string& name) const {
  for (const pid_t pid : options_.proc.Pids()) {
    absl::StatusOr<os::ProcessStat> process = options_.proc.Stat(pid);
    if (process.ok() && process->name == name) return *std::move(process);
  }
  return std::nullopt;
}

std::string Descriptors::RunningProcess(const std::string& name) const {
  const std::optional<os::ProcessStat> process = FindProcess(name);
  return process.has_value() ? absl::StrCat(process->pid, "@", process->start_ticks) : "";
}

os::DescriptorLimit Descriptors::InheritedByContainers(uint64_t nr_open) const {
  os::DescriptorLimit limit;
  for (const Place& place : Places()) {
    if (place.unit.empty() || !SystemdRuns()) continue;
    const absl::StatusOr<Unit> shown = Show(place.unit);
    if (!shown.ok() || !shown->found) continue;
    // Without what is ours: that goes with its profile.
    const auto known = known_.find(place.path);
    limit = known == known_.end() || known->second.Untouched() ? shown->limit : known->second.floor;
    // "infinity" comes out as the most that there is; with Docker's own word for it no container can be started.
    return {.soft = std::min(limit.soft, nr_open), .hard = std::min(limit.hard, nr_open)};
  }
  for (const char* name : {"containerd", "dockerd"}) {
    const std::optional<os::ProcessStat> process = FindProcess(name);
    if (!process.has_value()) continue;
    const absl::StatusOr<std::string> text = options_.proc.Read(absl::StrCat(process->pid, "/limits"));
    if (!text.ok()) continue;
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      if (!absl::ConsumePrefix(&line, "Max open files")) continue;
      const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (words.size() < 2) continue;
      limit = {.soft = std::min(ReadLimit(words[0]), nr_open), .hard = std::min(ReadLimit(words[1]), nr_open)};
      // Programs in Go raise their own soft limit to the hard one when they start, and give their children the old one.
      if (limit.soft == limit.hard) limit.soft = 0;
      return limit;
    }
  }
  return limit;
}

absl::StatusOr<os::DescriptorLimit> Descriptors::OfContainers(uint64_t nr_open) const {
  const absl::StatusOr<std::optional<HostFile>> file = ReadIfThere(kDaemonJson);
  if (!file.ok()) return file.status();
  if (file->has_value()) {
    const absl::StatusOr<DaemonJson> said = ReadDaemonJson(kDaemonJson, (*file)->text);
    if (!said.ok()) return said.status();
    if (said->limit.has_value()) return *said->limit;
  }
  return InheritedByContainers(nr_open);
}

bool Descriptors::DockerIsHere() const {
  return files_.Exists(kDaemonJson) ||
         std::any_of(std::begin(kDockerPrograms), std::end(kDockerPrograms),
                     [this](const char* program) { return files_.Exists(program); }) ||
         !RunningProcess("dockerd").empty();
}

// Docker does not start when a limit is in its file and on its command line, too.
std::string Descriptors::FlagInTheWay() const {
  const auto conflict = [](const std::string& where) {
    return absl::StrCat(where, " has ", kUlimitFlag, ", and Docker refuses to start when ", kDaemonJson,
                        " sets the limit as well: raise it there");
  };
  for (const pid_t pid : options_.proc.Pids()) {
    const absl::StatusOr<os::ProcessStat> process = options_.proc.Stat(pid);
    if (!process.ok() || process->name != "dockerd") continue;
    const absl::StatusOr<std::string> line = options_.proc.Read(absl::StrCat(pid, "/cmdline"));
    if (!line.ok()) continue;
    const std::vector<std::string> words = absl::StrSplit(*line, '\0');
    for (size_t i = 0; i < words.size(); ++i) {
      const std::string flag = words[i].substr(0, words[i].find('='));
      if (flag == kUlimitFlag) return conflict(absl::StrCat("the command line of process ", pid, " (dockerd)"));
      if (flag != kConfigFlag) continue;
      const std::string file = flag != words[i]       ? words[i].substr(flag.size() + 1)
                               : i + 1 < words.size() ? words[i + 1]
                                                      : "";
      if (file != kDaemonJson) {
        return absl::StrCat("Docker reads ", OneLine(file), " in place of ", kDaemonJson,
                            " here: set default-ulimits there");
      }
    }
  }
  for (const char* path : kOptionFiles) {
    const absl::StatusOr<HostFile> file = files_.Read(path);
    if (!file.ok()) continue;
    for (const absl::string_view line : absl::StrSplit(file->text, '\n')) {
      const absl::string_view text = absl::StripLeadingAsciiWhitespace(line);
      if (!text.empty() && text[0] != '#' && text.find(kUlimitFlag) != absl::string_view::npos) return conflict(path);
    }
  }
  if (SystemdRuns()) {
    const absl::StatusOr<std::string> start = Output({"systemctl", "show", "-p", "ExecStart", "docker.service"});
    if (start.ok() && start->find(kUlimitFlag) != std::string::npos) return conflict("docker.service");
  }
  return "";
}

absl::StatusOr<std::string> Descriptors::Output(const std::vector<std::string>& command) const {
  absl::StatusOr<CommandResult> result = options_.run(command);
  if (!result.ok()) return result.status();
  if (result->code != 0) {
    return absl::FailedPreconditionError(absl::StrCat("\"", absl::StrJoin(command, " "), "\" ended with code ",
                                                      result->code, ": ", OneLine(result->output)));
  }
  return std::move(result->output);
}

absl::StatusOr<Descriptors::Unit> Descriptors::Show(const std::string& unit) const {
  const absl::StatusOr<std::string> output =
      Output({"systemctl", "show", "-p", "LoadState", "-p", "LimitNOFILE", "-p", "LimitNOFILESoft", unit});
  if (!output.ok()) return output.status();
  Unit shown;
  bool limited = false;
  for (absl::string_view line : absl::StrSplit(*output, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (absl::ConsumePrefix(&line, "LoadState=")) {
      shown.found = line == "loaded";
    } else if (absl::ConsumePrefix(&line, "LimitNOFILE=")) {
      shown.limit.hard = ReadLimit(line);
      limited = true;
    } else if (absl::ConsumePrefix(&line, "LimitNOFILESoft=")) {
      shown.limit.soft = ReadLimit(line);
    }
  }
  if (!limited) {
    return absl::FailedPreconditionError(
        absl::StrCat("systemctl does not tell the LimitNOFILE of ", unit, ": ", OneLine(*output)));
  }
  return shown;
}

// ---- What is to be

absl::StatusOr<std::optional<std::string>> Descriptors::Compose(const Place& place, const TunedFile& file) const {
  const os::DescriptorLimit wanted = file.Wanted();
  if (file.layers.empty()) return TextOf(file.base);
  os::DescriptorLimit without = file.floor;
  if (place.unit.empty()) {
    const absl::StatusOr<DaemonJson> base = ReadDaemonJson(place.path, TextOf(file.base).value_or(""));
    if (!base.ok()) return base.status();
    if (base->limit.has_value()) without = *base->limit;
  }
  // A limit that is set takes the place of the one that is inherited, so it must not be less than that in any number.
  if (Covers(without, wanted)) return TextOf(file.base);
  const os::DescriptorLimit limit = SurelyMost(without, wanted);
  if (!place.unit.empty()) return DropIn(limit);
  absl::StatusOr<DaemonJson> merged =
      MergeDaemonJson(place.path, TextOf(file.base).value_or(""),
                      {.soft = std::min(limit.soft, kMostFiles), .hard = std::min(limit.hard, kMostFiles)});
  if (!merged.ok()) return merged.status();
  return std::move(merged->text);
}

std::optional<v1::TuneStep> Descriptors::Refusal(const std::string& profile, const os::DescriptorLimit& wanted) const {
  v1::TuneStep step = NewStep(profile, kRecordKey);
  if (!loaded_.ok()) {
    Finish(&step, v1::TUNE_OUTCOME_NOT_TRIED, Message(loaded_));
    return step;
  }
  if (wanted.soft == 0 || wanted.soft > wanted.hard || wanted.hard > kMostFiles) {
    Finish(&step, v1::TUNE_OUTCOME_UNSUITABLE, absl::StrCat(ToText(wanted), " is no limit of open files"));
    return step;
  }
  return std::nullopt;
}

v1::TuneStep Descriptors::AgentStep(const std::string& profile, const os::DescriptorLimit& wanted,
                                    uint64_t nr_open) const {
  v1::TuneStep step = NewStep(profile, kAgentKey);
  const absl::StatusOr<os::DescriptorLimit> own = options_.own_limit();
  if (!own.ok()) {
    Finish(&step, v1::TUNE_OUTCOME_UNSUITABLE, Message(own.status()));
    return step;
  }
  step.set_before(ToText(*own));
  step.set_after(ToText(
      os::DescriptorLimit{.soft = own->hard, .hard = own->hard}));  // which the agent raises it to for its workers
  if (own->hard >= wanted.hard) {
    Finish(&step, v1::TUNE_OUTCOME_FULFILLED, "");
    return step;
  }
  const std::string remedy =
      wanted.hard > nr_open
          ? absl::StrCat("no process can have more than fs.nr_open, ", nr_open)
          : "the hard limit of a process that runs is raised only with CAP_SYS_RESOURCE: start the agent with a higher "
            "one (LimitNOFILE= in its unit, or ulimit -Hn)";
  Finish(&step, v1::TUNE_OUTCOME_READ_ONLY,
         absl::StrCat("each process of this agent may open ", own->hard,
                      " files, so more workers are started instead; ", remedy));
  step.set_obstacle(false);
  return step;
}

std::optional<Descriptors::Decision> Descriptors::Decide(const Place& place, const std::string& profile,
                                                         const os::DescriptorLimit& wanted, uint64_t nr_open) {
  Decision decision{.place = &place, .step = NewStep(profile, place.key)};
  v1::TuneStep& step = decision.step;
  const auto end = [&decision](v1::TuneOutcome outcome, std::string message) {
    Finish(&decision.step, outcome, std::move(message));
    return decision;
  };
  const bool is_unit = !place.unit.empty();
  os::DescriptorLimit shown;
  if (is_unit) {
    if (!SystemdRuns()) return std::nullopt;
    const absl::StatusOr<Unit> unit = Show(place.unit);
    if (!unit.ok()) return end(v1::TUNE_OUTCOME_NOT_TRIED, Message(unit.status()));
    if (!unit->found) return std::nullopt;
    shown = unit->limit;
  }
  absl::StatusOr<std::optional<HostFile>> now = ReadIfThere(place.path);
  if (!now.ok()) return end(OutcomeOf(now.status()), Message(now.status()));
  decision.now = *std::move(now);
  const std::optional<std::string> text = TextOf(decision.now);
  const auto known = known_.find(place.path);
  if (!is_unit && known == known_.end() && !DockerIsHere()) {
    return end(v1::TUNE_OUTCOME_MISSING, "Docker is not installed here");
  }

  TunedFile& next = decision.next;
  if (known != known_.end()) next = known->second;
  decision.owed = next.Resolve(text);
  const bool ours = known != known_.end() && !next.pending.has_value() && next.set == text;
  if (!ours) {
    if (known != known_.end() && !is_unit && CarriesOurLimit(known->second, text)) {
      step.set_before(Describe(text, known->second.floor));
      step.set_after(step.before());
      return end(v1::TUNE_OUTCOME_FOREIGN,
                 absl::StrCat("somebody else changed ", place.path,
                              " since, and the limit in it is still ours, so what "
                              "was there before it cannot be told from that: take nofile out of the file, or roll back "
                              "with --force, which writes the file as it was before Loadstar"));
    }
    // What somebody else wrote since is the base from here on.
    next.base = decision.now;
    next.set = text;
    next.pending.reset();
  }
  if (next.Untouched()) next.floor = is_unit ? shown : InheritedByContainers(nr_open);
  const LimitLayer layer = {.profile = profile, .limit = wanted};
  const LimitLayer* const earlier = next.LayerOf(profile);
  decision.records = !ours || decision.owed || earlier == nullptr || !Same(earlier->limit, wanted);

  TunedFile goal = next;
  goal.Put(layer);
  absl::StatusOr<std::optional<std::string>> target = Compose(place, goal);
  if (!target.ok()) return end(v1::TUNE_OUTCOME_UNSUITABLE, Message(target.status()));
  if (is_unit) {
    step.set_before(ToText(shown));
    step.set_after(ToText(Most(goal.floor, goal.Wanted())));
  } else {
    step.set_before(Describe(text, next.floor));
    step.set_after(Describe(*target, next.floor));
  }
  if (*target == text) {
    next = std::move(goal);
    return end(v1::TUNE_OUTCOME_FULFILLED, "");
  }
  if (wanted.hard > nr_open) {
    return end(v1::TUNE_OUTCOME_REFUSED, absl::StrCat("no process can have more than fs.nr_open, ", nr_open,
                                                      ": raise fs.nr_open to ", wanted.hard, " first"));
  }
  if (!is_unit) {
    if (std::string flag = FlagInTheWay(); !flag.empty()) return end(v1::TUNE_OUTCOME_UNSUITABLE, std::move(flag));
    const std::string backup = absl::StrCat(place.path, ".loadstar-", profile);
    if (next.backup.empty() && next.base.has_value() && !files_.Exists(backup)) next.backup = backup;
  }
  if (!is_unit && next.floor.hard > 0 && next.floor.soft == 0 && text == TextOf(next.base) &&
      !ReadDaemonJson(place.path, text.value_or(""))->limit.has_value()) {
    decision.remark =
        "the soft limit that containers began with cannot be told, because the engine, which systemd did not start, "
        "raised its own: the hard one is not less";
  }
  next.made_folder |= !files_.Exists(FolderOf(place.path));
  next.daemon = RunningProcess(place.daemon);
  next.pending = PendingWrite{.layer = layer, .releasing = false, .from = text};
  next.set = *std::move(target);
  return end(v1::TUNE_OUTCOME_CHANGED, decision.remark);
}

std::string Descriptors::Describe(const std::optional<std::string>& text, const os::DescriptorLimit& inherited) {
  const absl::StatusOr<DaemonJson> read = ReadDaemonJson(kDaemonJson, text.value_or(""));
  if (!read.ok()) return "";
  if (read->limit.has_value()) return ToText(*read->limit);
  if (inherited.hard == 0) return "";
  return inherited.soft > 0 ? ToText(inherited) : absl::StrCat("unknown:", inherited.hard);
}

// ---- Doing it

absl::Status Descriptors::Record(const std::string& path, const std::optional<TunedFile>& file) {
  TunedFiles files = known_;
  if (file.has_value()) {
    files[path] = *file;
  } else {
    files.erase(path);
  }
  absl::Status recorded = files.empty()
                              ? files_.Remove(options_.record)
                              : files_.Write(options_.record, {.text = ToText(files), .access = {.mode = 0600}});
  if (recorded.ok()) known_ = std::move(files);
  return recorded;
}

absl::Status Descriptors::Put(const std::string& path, const std::optional<std::string>& text,
                              const os::FileAccess& access) {
  return text.has_value() ? files_.Write(path, {.text = *text, .access = access}) : files_.Remove(path);
}

absl::Status Descriptors::BackUp(const TunedFile& file) {
  if (file.backup.empty()) return absl::OkStatus();
  if (!file.base.has_value()) return files_.Remove(file.backup);
  const absl::StatusOr<std::optional<HostFile>> copy = ReadIfThere(file.backup);
  if (copy.ok() && TextOf(*copy) == file.base->text) return absl::OkStatus();
  return files_.Write(file.backup, *file.base);
}

absl::StatusOr<std::string> Descriptors::Validate(const std::string& path) const {
  const auto* const program = std::find_if(std::begin(kDockerPrograms), std::end(kDockerPrograms),
                                           [this](const char* each) { return files_.Exists(each); });
  if (program == std::end(kDockerPrograms)) return "";
  const absl::StatusOr<CommandResult> result =
      options_.run({files_.OnDisk(*program), "--validate", "--config-file", files_.OnDisk(path)});
  if (!result.ok()) return absl::StrCat("the file was not tried with dockerd: ", Message(result.status()));
  if (result->code == 0) return "";
  if (result->output.find("unknown flag") != std::string::npos) {
    return "the file was not tried with dockerd, which is older than version 23";
  }
  return absl::FailedPreconditionError(
      absl::StrCat("dockerd does not take the file with the limit in it: ", OneLine(result->output)));
}

absl::StatusOr<std::string> Descriptors::Settle(const Place& place, const os::DescriptorLimit& wanted) const {
  if (place.unit.empty()) return Validate(place.path);
  if (const absl::StatusOr<std::string> told = Output({"systemctl", "daemon-reload"}); !told.ok()) return told.status();
  const absl::StatusOr<Unit> unit = Show(place.unit);
  if (!unit.ok()) return unit.status();
  if (Covers(unit->limit, wanted)) return "";
  return absl::FailedPreconditionError(absl::StrCat(
      place.unit, " has LimitNOFILE=", ToText(unit->limit),
      " all the same: a file that is read later sets it (\"systemctl cat ", place.unit, "\" shows which)"));
}

absl::Status Descriptors::Revert(const Place& place, const TunedFile& file, const std::optional<TunedFile>& before,
                                 const os::FileAccess& access) {
  absl::Status status = Put(place.path, file.pending->from, access);
  if (status.ok() && !place.unit.empty()) status = Output({"systemctl", "daemon-reload"}).status();
  if (status.ok() && !file.backup.empty() && (!before.has_value() || before->backup != file.backup)) {
    status = files_.Remove(file.backup);
  }
  if (status.ok() && file.made_folder && (!before.has_value() || !before->made_folder)) {
    status = files_.RemoveFolder(FolderOf(place.path));
  }
  return status.ok() ? Record(place.path, before) : status;
}

v1::TuneStep Descriptors::Execute(Decision* decision) {
  const Place& place = *decision->place;
  v1::TuneStep& step = decision->step;
  TunedFile& next = decision->next;
  const bool changes = step.outcome() == v1::TUNE_OUTCOME_CHANGED;
  if (!changes && (step.outcome() != v1::TUNE_OUTCOME_FULFILLED || !decision->records)) return step;
  const auto known = known_.find(place.path);
  const std::optional<TunedFile> before = known == known_.end() ? std::nullopt : std::optional(known->second);
  const os::FileAccess access = decision->now.has_value() ? decision->now->access
                                : next.base.has_value()   ? next.base->access
                                                          : os::FileAccess{};
  absl::Status done;
  if (changes) {
    if (absl::Status announced = Record(place.path, next); !announced.ok()) {
      Finish(&step, v1::TUNE_OUTCOME_NOT_TRIED, Message(announced));
      return step;
    }
    if (next.made_folder) done = files_.MakeFolder(FolderOf(place.path));
  }
  if (done.ok()) done = BackUp(next);
  if (changes && done.ok()) done = Put(place.path, next.set, access);
  if (decision->owed) files_.Tidy(place.path);

  TunedFile end = next;
  if (changes) end.Put(next.pending->layer);
  end.pending.reset();
  absl::StatusOr<std::string> settled = "";
  if (!done.ok()) {
    settled = done;
  } else if (changes || decision->owed) {
    settled = Settle(place, Most(end.floor, end.Wanted()));
  }
  if (!settled.ok()) {
    absl::Status back = changes ? Revert(place, next, before, access) : absl::OkStatus();
    step.set_after(step.before());
    Finish(&step, back.ok() ? v1::TUNE_OUTCOME_REFUSED : v1::TUNE_OUTCOME_UNCERTAIN, Message(settled.status()));
    if (!back.ok()) Say("what was before could not be put back: " + Message(back), &step);
    return step;
  }
  step.set_message(*settled);
  if (changes && !decision->remark.empty()) Say(decision->remark, &step);
  if (absl::Status recorded = Record(place.path, end); !recorded.ok()) {
    // What was done is done; the next life finds that out by itself.
    if (!changes) Finish(&step, v1::TUNE_OUTCOME_NOT_TRIED, "");
    Say(Message(recorded), &step);
  }
  return step;
}

void Descriptors::Restart(bool allow_restart, std::vector<v1::TuneStep>* steps) {
  std::set<std::string> owed;  // keys
  for (const Place& place : Places()) {
    const auto known = known_.find(place.path);
    if (known == known_.end() || known->second.daemon.empty()) continue;
    if (known->second.daemon == RunningProcess(place.daemon)) owed.insert(place.key);
  }
  for (const Place& service : Places()) {
    if (service.unit.empty()) continue;
    std::vector<v1::TuneStep*> late;  // steps on what this service has not read
    for (v1::TuneStep& step : *steps) {
      const bool holds = step.outcome() == v1::TUNE_OUTCOME_CHANGED || step.outcome() == v1::TUNE_OUTCOME_FULFILLED ||
                         step.outcome() == v1::TUNE_OUTCOME_APPLIED;
      const auto place =
          std::find_if(Places().begin(), Places().end(), [&step](const Place& each) { return each.key == step.key(); });
      if (holds && owed.count(step.key()) > 0 && place->daemon == service.daemon) late.push_back(&step);
    }
    if (late.empty()) continue;
    std::string said = service.OnRestart();
    bool failed = false;
    if (!SystemdRuns()) {
      said += " (systemd does not run here: restart it the way it was started)";
    } else if (!allow_restart) {
      said += absl::StrCat(": systemctl restart ", service.unit);
    } else if (const auto restarted = Output({"systemctl", "try-restart", service.unit}); restarted.ok()) {
      said = absl::StrCat(service.name, " was restarted");
    } else {
      failed = true;
      said = absl::StrCat(service.name, " could not be restarted (", Message(restarted.status()), "): \"journalctl -u ",
                          service.unit, "\" says why, and \"loadstar tune rollback\" takes the limit back");
    }
    for (v1::TuneStep* const step : late) {
      Say(said, step);
      step->set_obstacle(step->obstacle() || failed);
    }
  }
}

v1::TuneStep Descriptors::Release(const Place& place, const std::string& profile, bool force) {
  v1::TuneStep step = NewStep(profile, place.key);
  const auto end = [&step](v1::TuneOutcome outcome, std::string message) {
    Finish(&step, outcome, std::move(message));
    return step;
  };
  const absl::StatusOr<std::optional<HostFile>> now = ReadIfThere(place.path);
  if (!now.ok()) return end(OutcomeOf(now.status()), Message(now.status()));
  const std::optional<std::string> text = TextOf(*now);
  TunedFile file = known_.at(place.path);
  const bool owed = file.Resolve(text);
  const bool untouched = file.Untouched();
  const bool ours = !file.pending.has_value() && file.set == text;
  TunedFile next = file;
  next.Drop(profile);
  next.pending.reset();
  const absl::StatusOr<std::optional<std::string>> composed = Compose(place, next);
  if (!composed.ok()) return end(v1::TUNE_OUTCOME_UNSUITABLE, Message(composed.status()));
  // A file that was never written is not ours to restore, whatever it holds by now.
  const std::optional<std::string> target = untouched ? text : *composed;
  const auto describe = [&](const std::optional<std::string>& each, const TunedFile& of) {
    return place.unit.empty() ? Describe(each, of.floor) : ToText(Most(of.floor, of.Wanted()));
  };
  step.set_before(describe(text, file));
  step.set_after(step.before());
  if (!ours && text != target && !force) {
    return end(v1::TUNE_OUTCOME_FOREIGN, absl::StrCat("somebody else changed ", place.path,
                                                      " since; rollback --force writes what was before, and "
                                                      "that change is lost"));
  }
  if (text != target) {
    const LimitLayer* const layer = file.LayerOf(profile);
    file.pending = PendingWrite{.layer = layer == nullptr ? LimitLayer{.profile = profile, .limit = {}} : *layer,
                                .releasing = true,
                                .from = text};
    file.set = target;
    if (absl::Status announced = Record(place.path, file); !announced.ok()) {
      return end(v1::TUNE_OUTCOME_NOT_TRIED, Message(announced));
    }
    const os::FileAccess access = now->has_value()        ? (*now)->access
                                  : file.base.has_value() ? file.base->access
                                                          : os::FileAccess{};
    if (absl::Status written = Put(place.path, target, access); !written.ok()) {
      return end(v1::TUNE_OUTCOME_REFUSED, Message(written));
    }
  }
  if (owed) files_.Tidy(place.path);
  step.set_after(describe(target, next));
  // Until everything is done the step stays pending, so that it can be asked for again.
  if (!place.unit.empty() && (owed || text != target) && SystemdRuns()) {
    if (const auto told = Output({"systemctl", "daemon-reload"}); !told.ok()) {
      return end(v1::TUNE_OUTCOME_UNCERTAIN,
                 absl::StrCat("the file is as it was, but systemd does not know of it: ", Message(told.status())));
    }
  }
  absl::Status done;
  if (next.layers.empty()) {
    if (!next.backup.empty()) done = files_.Remove(next.backup);
    if (done.ok() && next.made_folder) done = files_.RemoveFolder(FolderOf(place.path));
    if (done.ok()) done = Record(place.path, std::nullopt);
  } else {
    if (!untouched) next.set = target;
    if (text != target) next.daemon = RunningProcess(place.daemon);
    done = Record(place.path, next);
  }
  end(next.layers.empty() ? v1::TUNE_OUTCOME_RESTORED : v1::TUNE_OUTCOME_KEPT, "");
  if (!done.ok()) Say(Message(done), &step);
  if (text != target && !RunningProcess(place.daemon).empty()) Say(place.OnRestart(), &step);
  return step;
}

// ---- What is asked

std::vector<v1::TuneStep> Descriptors::Plan(const std::string& profile, const v1::DescriptorLimits& wanted,
                                            uint64_t nr_open) {
  const os::DescriptorLimit limit = LimitOf(wanted);
  if (std::optional<v1::TuneStep> refusal = Refusal(profile, limit); refusal.has_value()) return {*refusal};
  std::vector<v1::TuneStep> steps = {AgentStep(profile, limit, nr_open)};
  for (const Place& place : Places()) {
    std::optional<Decision> decision = Decide(place, profile, limit, nr_open);
    if (!decision.has_value()) continue;
    const bool restart = decision->step.outcome() == v1::TUNE_OUTCOME_CHANGED && !decision->next.daemon.empty();
    if (restart) Say(place.OnRestart(), &decision->step);
    steps.push_back(std::move(decision->step));
  }
  return steps;
}

std::vector<v1::TuneStep> Descriptors::Apply(const std::string& profile, const v1::DescriptorLimits& wanted,
                                             uint64_t nr_open, bool allow_restart) {
  const os::DescriptorLimit limit = LimitOf(wanted);
  if (std::optional<v1::TuneStep> refusal = Refusal(profile, limit); refusal.has_value()) return {*refusal};
  std::vector<v1::TuneStep> steps = {AgentStep(profile, limit, nr_open)};
  // What systemd tells of a unit is what it read last, which may be from before an interrupted step.
  const bool stale = std::any_of(Places().begin(), Places().end(), [this](const Place& place) {
    const auto known = known_.find(place.path);
    return !place.unit.empty() && known != known_.end() && known->second.pending.has_value();
  });
  if (stale && SystemdRuns()) (void)Output({"systemctl", "daemon-reload"});
  for (const Place& place : Places()) {
    std::optional<Decision> decision = Decide(place, profile, limit, nr_open);
    if (decision.has_value()) steps.push_back(Execute(&*decision));
  }
  Restart(allow_restart, &steps);
  return steps;
}

std::vector<v1::TuneStep> Descriptors::Rollback(const std::string& profile, bool force,
                                                const std::set<std::string>& only) {
  if (std::optional<v1::TuneStep> refusal = Refusal(profile, kAnyLimit); refusal.has_value()) return {*refusal};
  std::vector<v1::TuneStep> steps;
  for (auto place = Places().rbegin(); place != Places().rend(); ++place) {
    const bool asked = only.empty() || only.count(place->key) > 0;
    const auto known = known_.find(place->path);
    if (asked && known != known_.end() && known->second.IsClaimedBy(profile)) {
      steps.push_back(Release(*place, profile, force));
    }
  }
  return steps;
}

v1::TuneStep Descriptors::StatusOf(const Place& place, const std::string& profile) {
  v1::TuneStep step = NewStep(profile, place.key);
  const auto end = [&step](v1::TuneOutcome outcome, std::string message) {
    Finish(&step, outcome, std::move(message));
    return step;
  };
  const bool is_unit = !place.unit.empty();
  const absl::StatusOr<std::optional<HostFile>> now = ReadIfThere(place.path);
  if (!now.ok()) return end(OutcomeOf(now.status()), Message(now.status()));
  const std::optional<std::string> text = TextOf(*now);
  TunedFile file = known_.at(place.path);
  const bool owed = file.Resolve(text);
  step.set_before(is_unit ? ToText(file.floor) : Describe(TextOf(file.base), file.floor));
  step.set_after(is_unit ? ToText(Most(file.floor, file.Wanted())) : Describe(text, file.floor));
  const LimitLayer* const layer = file.LayerOf(profile);
  if (file.pending.has_value() || (file.set != text && !file.Untouched())) {
    return end(v1::TUNE_OUTCOME_FOREIGN, absl::StrCat("somebody else changed ", place.path, " since"));
  }
  if (layer == nullptr) {
    const PendingWrite& pending = *known_.at(place.path).pending;
    return pending.releasing
               ? end(v1::TUNE_OUTCOME_RESTORED, "its rollback was interrupted before its end: roll back once more")
               : end(v1::TUNE_OUTCOME_NOT_TRIED, "it was interrupted before anything was changed: apply or roll back");
  }
  os::DescriptorLimit holds = layer->limit;
  if (is_unit && SystemdRuns()) {
    const absl::StatusOr<Unit> unit = Show(place.unit);
    if (unit.ok()) holds = unit->limit;
    if (unit.ok()) step.set_after(ToText(holds));
  } else if (!is_unit) {
    const absl::StatusOr<DaemonJson> read = ReadDaemonJson(place.path, text.value_or(""));
    const os::DescriptorLimit inherited = file.Untouched() ? InheritedByContainers(kUnlimited) : file.floor;
    holds = read.ok() ? read->limit.value_or(inherited) : os::DescriptorLimit{};
  }
  if (!Covers(holds, layer->limit)) {
    return owed ? end(v1::TUNE_OUTCOME_UNCERTAIN,
                      "it was interrupted after the file was written and before systemd was told: apply once more")
                : end(v1::TUNE_OUTCOME_FOREIGN,
                      absl::StrCat("it was set to ", ToText(layer->limit), ", and what counts is ", ToText(holds)));
  }
  return end(v1::TUNE_OUTCOME_APPLIED, "");
}

std::vector<v1::TuneStep> Descriptors::Status() {
  if (std::optional<v1::TuneStep> refusal = Refusal("", kAnyLimit); refusal.has_value()) return {*refusal};
  std::vector<v1::TuneStep> steps;
  for (const Place& place : Places()) {
    const auto known = known_.find(place.path);
    if (known == known_.end()) continue;
    for (const LimitLayer& layer : known->second.layers) steps.push_back(StatusOf(place, layer.profile));
    const std::optional<PendingWrite>& pending = known->second.pending;
    if (pending.has_value() && known->second.LayerOf(pending->layer.profile) == nullptr) {
      steps.push_back(StatusOf(place, pending->layer.profile));
    }
  }
  Restart(false, &steps);
  return steps;
}

std::set<std::string> Descriptors::Applied() const {
  std::set<std::string> profiles;
  for (const auto& [path, file] : known_) {
    for (const LimitLayer& layer : file.layers) profiles.insert(layer.profile);
    if (file.pending.has_value()) profiles.insert(file.pending->layer.profile);
  }
  return profiles;
}

bool Descriptors::IsApplied(const std::string& profile, const std::string& key) const {
  return std::any_of(Places().begin(), Places().end(), [&](const Place& place) {
    const auto known = known_.find(place.path);
    return place.key == key && known != known_.end() && known->second.IsClaimedBy(profile);
  });
}

}  // namespace loadstar::agent
