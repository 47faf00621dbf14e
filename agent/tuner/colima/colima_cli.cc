#include "agent/tuner/colima/colima_cli.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "lib/os/lines.h"
#include "lib/spec/name.h"
#include "lib/spec/text.h"

namespace loadstar::agent {
namespace {

using nlohmann::json;
using spec::Cat;

constexpr ProgramVersion kOldestColima = {.major = 0, .minor = 6, .patch = 0};
constexpr ProgramVersion kOldestLima = {.major = 0, .minor = 18, .patch = 0};
// Before, the flag was --cpu.
constexpr ProgramVersion kSaysCpus = {.major = 0, .minor = 10, .patch = 0};
constexpr size_t kMostMachines = 1000;

constexpr absl::Duration kQuick = absl::Seconds(30);
// The first start downloads an image of some hundred megabytes.
constexpr absl::Duration kStarting = absl::Minutes(20);
constexpr absl::Duration kStopping = absl::Minutes(5);

// The last lines of what a program said went wrong, as one.
std::string Complaint(const std::string& err) {
  std::vector<std::string> lines;
  for (const std::string_view line : os::Lines(err)) {
    if (const std::string_view said = spec::Trim(line); !said.empty()) lines.push_back(spec::Escaped(said));
  }
  if (lines.empty()) return "it did not say why";
  const auto skipped = static_cast<std::ptrdiff_t>(lines.size() > 3 ? lines.size() - 3 : 0);
  return absl::StrJoin(lines.begin() + skipped, lines.end(), " / ");
}

bool ReadPart(std::string_view* text, uint32_t* part) {
  size_t digits = 0;
  uint64_t number = 0;
  for (; digits < text->size() && (*text)[digits] >= '0' && (*text)[digits] <= '9'; ++digits) {
    number = number * 10 + static_cast<uint64_t>((*text)[digits] - '0');
    if (number > 1'000'000) return false;
  }
  if (digits == 0) return false;
  text->remove_prefix(digits);
  *part = static_cast<uint32_t>(number);
  return true;
}

std::string TextOf(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

// Some versions print sizes as floating-point numbers. 0 when it is missing or no number that a machine could have.
uint64_t NumberOf(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return 0;
  if (found->is_number_unsigned()) return found->get<uint64_t>();
  const auto number = found->get<double>();
  return std::isfinite(number) && number > 0 && number < 9e18 ? static_cast<uint64_t>(std::llround(number)) : 0;
}

}  // namespace

std::string ToString(const ProgramVersion& version) {
  return Cat(version.major, ".", version.minor, ".", version.patch);
}

absl::StatusOr<ProgramVersion> ParseVersion(std::string_view text, std::string_view word) {
  const size_t at = text.find(word);
  if (at != std::string_view::npos) {
    std::string_view rest = spec::Trim(text.substr(at + word.size()));
    if (rest.starts_with('v')) rest.remove_prefix(1);
    ProgramVersion version;
    const auto dot = [&rest] {
      if (!rest.starts_with('.')) return false;
      rest.remove_prefix(1);
      return true;
    };
    if (ReadPart(&rest, &version.major) && dot() && ReadPart(&rest, &version.minor)) {
      if (dot() && !ReadPart(&rest, &version.patch)) version.patch = 0;
      return version;
    }
  }
  return absl::InvalidArgumentError(
      Cat("it does not say its version as in \"", word, " 1.2.3\", but ", spec::Quoted(spec::Trim(text))));
}

absl::StatusOr<std::vector<Machine>> ParseMachines(std::string_view text) {
  std::vector<Machine> machines;
  for (const std::string_view whole : os::Lines(text)) {
    const std::string_view line = spec::Trim(whole);
    if (line.empty()) continue;
    const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object() || TextOf(object, "name").empty() || TextOf(object, "status").empty()) {
      return absl::InvalidArgumentError(Cat("a line is no machine: ", spec::Quoted(line)));
    }
    if (machines.size() == kMostMachines) {
      return absl::InvalidArgumentError(Cat("there are more than ", kMostMachines, " machines"));
    }
    machines.push_back({.name = TextOf(object, "name"),
                        .status = TextOf(object, "status"),
                        .arch = TextOf(object, "arch"),
                        .cpus = NumberOf(object, "cpus"),
                        .memory_bytes = NumberOf(object, "memory"),
                        .disk_bytes = NumberOf(object, "disk"),
                        .runtime = TextOf(object, "runtime"),
                        .address = TextOf(object, "address")});
  }
  return machines;
}

absl::StatusOr<MachineDetails> ParseDetails(std::string_view text) {
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object())
    return absl::InvalidArgumentError(Cat("this is no status: ", spec::Quoted(spec::Trim(text))));
  return MachineDetails{.driver = TextOf(object, "driver"),
                        .mount_type = TextOf(object, "mount_type"),
                        .docker_socket = TextOf(object, "docker_socket")};
}

std::string Said(std::string_view text) {
  std::string plain(spec::Trim(text));
  std::erase(plain, '"');
  return spec::Escaped(plain);
}

absl::StatusOr<std::string> MachineName(std::string_view text) {
  constexpr std::string_view kPrefix = "colima-";
  std::string name(text.starts_with(kPrefix) ? text.substr(kPrefix.size()) : text);
  if (text.empty() || text == "colima") name = "default";
  if (!spec::IsName(name)) {
    return absl::InvalidArgumentError(Cat(
        spec::Quoted(text), " is no profile's name: lower-case letters, digits and \"-\", not first \"-\", at most ",
        spec::kMaxName, ". Write it such as loadstar"));
  }
  return name;
}

std::string ColimaCli::HowToInstall(const std::string& program) const {
  if (system_ == HostSystem::kMacOs) {
    return Cat("brew install ", program == "limactl" ? "lima" : program);
  }
  if (program == "colima") {
    return "copy colima-Linux-$(uname -m) of https://github.com/abiosoft/colima/releases to /usr/local/bin/colima and "
           "make it executable";
  }
  if (program == "limactl") {
    return "unpack lima-VERSION-Linux-$(uname -m).tar.gz of https://github.com/lima-vm/lima/releases in /usr/local; it "
           "needs QEMU (Debian: apt-get install qemu-system-x86 qemu-utils)";
  }
  return "install your distribution's package (Debian: apt-get install docker.io), or docker of "
         "https://download.docker.com/linux/static/stable";
}

absl::Status ColimaCli::Detect() {
  struct Wanted {
    const char* name;
    std::vector<std::string> arguments;
    const char* word;
    ProgramVersion oldest;
    ProgramVersion* version;
  };
  ProgramVersion docker;
  const Wanted programs[] = {{"colima", {"version"}, "colima version", kOldestColima, &colima_version_},
                             {"limactl", {"--version"}, "limactl version", kOldestLima, &lima_version_},
                             {"docker", {"--version"}, "Docker version", {}, &docker}};
  std::vector<std::string> problems;
  const auto problem = [&](const std::string& name, const std::string& what) {
    problems.push_back(Cat(name, " ", what, ": ", HowToInstall(name)));
  };
  for (const Wanted& wanted : programs) {
    const std::string name = wanted.name;
    const absl::StatusOr<std::string> path = runner_.Find(name);
    if (!path.ok()) {
      problem(name, "is not installed");
      continue;
    }
    const absl::StatusOr<ProgramResult> said = runner_.Run({.program = *path, .arguments = wanted.arguments});
    if (!said.ok()) return said.status();
    if (!said->exit.clean()) {
      problem(name, Cat("does not work (", os::ToString(said->exit), ": ", Complaint(said->err), ")"));
      continue;
    }
    const absl::StatusOr<ProgramVersion> version = ParseVersion(said->out, wanted.word);
    if (!version.ok()) {
      problem(name, Cat("is of no version that is known here (", std::string(version.status().message()), ")"));
      continue;
    }
    *wanted.version = *version;
    if (*version < wanted.oldest) {
      problem(name,
              Cat(ToString(*version), " is too old, ", ToString(wanted.oldest), " is the oldest that works here"));
    }
    if (name == "colima") colima_ = *path;
  }
  docker_version_ = ToString(docker);
  if (problems.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrJoin(problems, "\n"));
}

std::string ColimaCli::Versions() const {
  return Cat("Colima ", ToString(colima_version_), ", Lima ", ToString(lima_version_), ", Docker ", docker_version_);
}

absl::StatusOr<ProgramResult> ColimaCli::Colima(std::vector<std::string> arguments, absl::Duration patience,
                                                bool show_progress) {
  if (colima_.empty()) return absl::FailedPreconditionError("colima was not looked for yet");
  return runner_.Run(
      {.program = colima_, .arguments = std::move(arguments), .patience = patience, .show_progress = show_progress});
}

absl::StatusOr<std::string> ColimaCli::Ask(std::vector<std::string> arguments, absl::Duration patience,
                                           bool show_progress) {
  const std::string command = absl::StrJoin(arguments, " ");
  absl::StatusOr<ProgramResult> result = Colima(std::move(arguments), patience, show_progress);
  if (!result.ok()) return result.status();
  if (result->exit.clean()) return std::move(result->out);
  return absl::UnavailableError(
      Cat("colima ", command, ": it ", os::ToString(result->exit), ": ", Complaint(result->err)));
}

absl::StatusOr<std::optional<Machine>> ColimaCli::Find(const std::string& machine) {
  const absl::StatusOr<std::string> text = Ask({"list", "--json"}, kQuick);
  if (!text.ok()) return text.status();
  const absl::StatusOr<std::vector<Machine>> machines = ParseMachines(*text);
  if (!machines.ok()) {
    return absl::InternalError(Cat("colima list --json: ", std::string(machines.status().message())));
  }
  for (const Machine& one : *machines) {
    if (one.name == machine) return std::optional<Machine>(one);
  }
  return std::optional<Machine>();
}

absl::StatusOr<MachineDetails> ColimaCli::Details(const std::string& machine) {
  const absl::StatusOr<std::string> text = Ask({"status", "--profile", machine, "--json"}, kQuick);
  if (!text.ok()) return text.status();
  absl::StatusOr<MachineDetails> details = ParseDetails(*text);
  if (!details.ok()) {
    return absl::InternalError(Cat("colima status --json: ", std::string(details.status().message())));
  }
  return details;
}

absl::Status ColimaCli::Start(const std::string& machine, const StartOptions& options) {
  std::vector<std::string> arguments = {"start", "--profile", machine, "--runtime", "docker"};
  const auto say = [&arguments](const char* flag, const std::string& value) {
    arguments.insert(arguments.end(), {flag, value});
  };
  if (options.cpus > 0) say(colima_version_ < kSaysCpus ? "--cpu" : "--cpus", std::to_string(options.cpus));
  // Whole numbers: before 0.7 nothing else is understood.
  if (options.memory_gib > 0) say("--memory", std::to_string(options.memory_gib));
  if (options.disk_gib > 0) say("--disk", std::to_string(options.disk_gib));
  if (!options.vm_type.empty() && system_ == HostSystem::kMacOs) say("--vm-type", options.vm_type);
  return Ask(std::move(arguments), kStarting, /*show_progress=*/true).status();
}

absl::Status ColimaCli::Stop(const std::string& machine) {
  return Ask({"stop", "--profile", machine}, kStopping, /*show_progress=*/true).status();
}

absl::Status ColimaCli::StopToRestart(const std::string& machine) {
  absl::Status stopped = Stop(machine);
  if (stopped.ok()) absl::SleepFor(pause_);
  return stopped;
}

absl::Status ColimaCli::Delete(const std::string& machine) {
  // Containers' data has a disk of its own in newer versions, which stays unless --data is said; older ones do not know
  // the flag.
  const absl::StatusOr<std::string> help = Ask({"delete", "--help"}, kQuick);
  if (!help.ok()) return help.status();
  std::vector<std::string> arguments = {"delete", "--profile", machine, "--force"};
  if (help->find("--data") != std::string::npos) arguments.emplace_back("--data");
  return Ask(std::move(arguments), kStopping, /*show_progress=*/true).status();
}

absl::StatusOr<ProgramResult> ColimaCli::Inside(const std::string& machine, std::vector<std::string> command,
                                                absl::Duration patience) {
  std::vector<std::string> arguments = {"ssh", "--profile", machine, "--"};
  arguments.insert(arguments.end(), std::make_move_iterator(command.begin()), std::make_move_iterator(command.end()));
  absl::StatusOr<ProgramResult> result = Colima(std::move(arguments), patience);
  if (result.ok() && !result->exit.clean() && result->err.find("not running") != std::string::npos) {
    return absl::UnavailableError(
        Cat("the virtual machine ", machine, " does not run (any more): ", Complaint(result->err)));
  }
  return result;
}

}  // namespace loadstar::agent
