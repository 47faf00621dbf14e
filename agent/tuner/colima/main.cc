// loadstar-colima: a Colima virtual machine made ready for a load; deploy/colima-setup.sh runs it.
#include <google/protobuf/util/json_util.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/tuner/colima/colima.h"
#include "agent/tuner/colima/colima_cli.h"
#include "agent/tuner/colima/program_runner.h"
#include "agent/tuner/colima/this_host.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"

namespace loadstar::agent {
namespace {

constexpr char kVersion[] = "0.1.0";
constexpr int kDone = 0;
constexpr int kInvalidInput = 2;
constexpr int kNotCarriedOut = 4;
constexpr char kShippedProfile[] = "colima-100k";

enum class Verb : uint8_t { kStart, kConfig, kStop, kStatus, kClean };

struct CommandLine {
  Verb verb = Verb::kStart;
  std::string tuning = kShippedProfile;
  std::string profile = "loadstar";
  std::string vm_type;
  bool allow_restart = false;
  bool yes = false;
  bool json = false;
};

int Refuse(int code, const std::string& text) {
  std::fprintf(stderr, "loadstar-colima: %s\n", text.c_str());
  return code;
}

// A path is read as it is; a name is looked up in deploy/tuning of the current folder, of LOADSTAR_HOME and of the tree
// that the program was built in.
absl::StatusOr<v1::Document> ReadTuning(const std::string& text) {
  if (text.find('/') != std::string::npos || text.ends_with(".yaml") || text.ends_with(".yml")) {
    return spec::ReadDocument(text);
  }
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const char* home = std::getenv("LOADSTAR_HOME");  // NOLINT(concurrency-mt-unsafe): nothing sets it
  std::vector<std::string> folders = {"."};
  if (home != nullptr && *home != '\0') folders.emplace_back(home);
  if (!error) folders.push_back((program.parent_path() / "../../..").lexically_normal().string());
  for (const std::string& folder : folders) {
    const std::string path = spec::Cat(folder, "/deploy/tuning/", text, ".yaml");
    if (std::filesystem::exists(path, error)) return spec::ReadDocument(path);
  }
  return absl::NotFoundError(
      spec::Cat("there is no profile ", spec::Quoted(text), " in deploy/tuning of ", spec::JoinWords(folders, ", ")));
}

// nullopt, and the problems told, when the document is none.
std::optional<v1::TuningProfile> ReadProfile(const std::string& text) {
  const absl::StatusOr<v1::Document> document = ReadTuning(text);
  if (!document.ok()) {
    Refuse(kInvalidInput, std::string(document.status().message()));
    return std::nullopt;
  }
  const spec::Parsed parsed = spec::Parse(*document);
  if (!parsed.problems.empty()) {
    Refuse(kInvalidInput, spec::ToString(parsed.problems));
    return std::nullopt;
  }
  if (parsed.kind != spec::Parsed::Kind::kTuningProfile) {
    Refuse(kInvalidInput, spec::Cat("--tuning ", spec::Quoted(text), " is no TuningProfile"));
    return std::nullopt;
  }
  return parsed.tuning_profile;
}

// ---- Output

// "TUNE_OUTCOME_NOT_TRIED" to "not tried".
std::string WordOf(v1::TuneOutcome outcome) {
  constexpr std::string_view kPrefix = "TUNE_OUTCOME_";
  std::string word = spec::Lower(v1::TuneOutcome_Name(outcome));
  word.erase(0, kPrefix.size());
  std::replace(word.begin(), word.end(), '_', ' ');
  return word;
}

// What stands on the right of a key: where it came from, where it is.
std::string ValuesOf(const v1::TuneStep& step) {
  const auto shown = [](const std::string& value) { return spec::Escaped(value); };
  if (step.before().empty() || step.before() == step.after()) return shown(step.after());
  if (step.after().empty()) return shown(step.before());
  return spec::Cat(shown(step.before()), " -> ", shown(step.after()));
}

std::string Blanks(std::string text) {
  std::replace(text.begin(), text.end(), '\t', ' ');
  return text;
}

void PrintForPeople(const ColimaOutcome& outcome) {
  size_t longest = 0;
  for (const v1::TuneStep& step : outcome.steps) longest = std::max(longest, step.key().size());
  for (v1::TuneStep step : outcome.steps) {
    step.set_before(Blanks(step.before()));
    step.set_after(Blanks(step.after()));
    const std::string message = step.message().empty() ? "" : spec::Cat("  (", step.message(), ")");
    std::printf("%s %-*s  %-10s %s%s\n", step.obstacle() ? "!" : " ", static_cast<int>(longest), step.key().c_str(),
                WordOf(step.outcome()).c_str(), ValuesOf(step).c_str(), message.c_str());
  }
  if (!outcome.message.empty()) std::printf("%s\n", outcome.message.c_str());
}

void PrintJson(const char* key, const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  if (google::protobuf::util::MessageToJsonString(message, &text, options).ok()) {
    std::printf("{\"%s\":%s}\n", key, text.c_str());
  }
}

// As Tune's messages are printed: a step each, and the host's result.
void PrintAsJson(const ColimaOutcome& outcome) {
  v1::TuneHostResult result;
  result.set_ok(outcome.ok());
  result.set_message(outcome.failure.ok() ? outcome.message : std::string(outcome.failure.message()));
  for (const v1::TuneStep& step : outcome.steps) {
    PrintJson("step", step);
    if (step.outcome() == v1::TUNE_OUTCOME_CHANGED && !step.obstacle()) result.set_changed(result.changed() + 1);
    if (step.obstacle()) result.set_obstacles(result.obstacles() + 1);
  }
  PrintJson("host", result);
}

int Show(const CommandLine& line, const ColimaOutcome& outcome) {
  if (line.json) {
    PrintAsJson(outcome);
  } else {
    PrintForPeople(outcome);
  }
  if (!outcome.failure.ok()) return Refuse(kNotCarriedOut, std::string(outcome.failure.message()));
  return outcome.ok() ? kDone : kNotCarriedOut;
}

// ---- Verbs

// Asks on the terminal; what is no yes is no.
bool Agrees(const std::string& question) {
  std::fprintf(stderr, "%s [y/N] ", question.c_str());
  char answer[16] = {};
  if (std::fgets(answer, sizeof answer, stdin) == nullptr) return false;
  const std::string word = spec::Lower(spec::Trim(answer));
  return word == "y" || word == "yes";
}

int Clean(const CommandLine& line, const std::string& machine, Colima* colima) {
  const absl::StatusOr<Leftovers> leftovers = colima->FindLeftovers();
  if (!leftovers.ok()) return Refuse(kNotCarriedOut, std::string(leftovers.status().message()));
  if (!leftovers->any()) {
    ColimaOutcome nothing;
    nothing.message = spec::Cat("there is no virtual machine ", machine, "; nothing to clean");
    return Show(line, nothing);
  }
  if (!line.yes) {
    std::string what = spec::Cat("This takes back what Loadstar wrote to the configuration of ", machine, ".");
    if (leftovers->machine.has_value()) {
      what =
          spec::Cat("This deletes the virtual machine ", machine, " (", spec::Escaped(leftovers->machine->status),
                    leftovers->containers.has_value() ? spec::Cat(", ", *leftovers->containers, " containers running")
                                                      : std::string(),
                    ") with all of its containers, their data and its configuration.");
    }
    if (isatty(STDIN_FILENO) == 0) {
      return Refuse(kInvalidInput,
                    what + " Nothing was done: there is no terminal to ask on. Say --yes to have it done");
    }
    if (!Agrees(what + " Go on?")) return Refuse(kNotCarriedOut, "nothing was done");
  }
  return Show(line, colima->Clean(*leftovers));
}

int Run(const CommandLine& line) {
  const std::optional<HostSystem> system = OwnSystem();
  if (!system.has_value()) return Refuse(kNotCarriedOut, "Colima runs on Linux and macOS only");
  const absl::StatusOr<std::string> machine = MachineName(line.profile);
  if (!machine.ok()) return Refuse(kInvalidInput, spec::Cat("--profile ", std::string(machine.status().message())));
  if (!line.vm_type.empty() && *system != HostSystem::kMacOs) {
    return Refuse(kInvalidInput, "--vm-type exists on macOS only: here Colima uses QEMU always. Leave it out");
  }
  std::optional<v1::TuningProfile> profile;
  if (line.verb != Verb::kStop && line.verb != Verb::kClean) {
    profile = ReadProfile(line.tuning);
    if (!profile.has_value()) return kInvalidInput;
  }
  const std::vector<std::string> environment = Environment();
  absl::StatusOr<ColimaSettings> settings = SettingsHere(environment, *system, *machine);
  if (!settings.ok()) return Refuse(kNotCarriedOut, std::string(settings.status().message()));
  settings->vm_type = line.vm_type;

  const std::unique_ptr<ProgramRunner> runner = MakeProgramRunner(environment);
  ColimaCli cli(runner.get(), *system);
  if (const absl::Status detected = cli.Detect(); !detected.ok()) {
    return Refuse(kNotCarriedOut, std::string(detected.message()));
  }
  Colima colima(&cli, *std::move(settings));
  if (!line.json) std::fprintf(stderr, "%s\n", cli.Versions().c_str());
  switch (line.verb) {
    case Verb::kStart:
      return Show(line, colima.Start(*profile, {.allow_restart = line.allow_restart, .load_modules = true}));
    case Verb::kConfig:
      return Show(line, colima.Configure(*profile));
    case Verb::kStop:
      return Show(line, colima.Stop());
    case Verb::kStatus:
      return Show(line, colima.Status(*profile));
    case Verb::kClean:
      return Clean(line, *machine, &colima);
  }
  return kInvalidInput;
}

int Main(int argc, char** argv) {
  CommandLine line;
  CLI::App app{"Brings up a Colima virtual machine that is ready for a load, and takes it down.", "loadstar-colima"};
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--tuning", line.tuning, "Tuning profile: a path, or a name of deploy/tuning")->capture_default_str();
  app.add_option("--profile", line.profile, "Colima's name of the virtual machine")->capture_default_str();
  app.add_option("--vm-type", line.vm_type, "Type of the virtual machine, macOS only: qemu or vz")
      ->check(CLI::IsMember({"qemu", "vz"}));
  app.add_flag("--allow-restart", line.allow_restart, "start: restart a running virtual machine when it has to change");
  app.add_flag("--yes", line.yes, "clean: do not ask");
  app.add_flag("--json", line.json, "One JSON object a line on standard output");
  const struct {
    const char* name;
    Verb verb;
    const char* does;
  } verbs[] = {
      {"start", Verb::kStart, "Create or start it, make the settings inside, try them out"},
      {"config", Verb::kConfig, "Write its configuration and make the settings inside if it runs; never starts it"},
      {"stop", Verb::kStop, "Stop it; what is in it stays"},
      {"status", Verb::kStatus, "Compare what runs with the profile; changes nothing"},
      {"clean", Verb::kClean, "Delete it with its containers and their data"},
  };
  for (const auto& verb : verbs) {
    app.add_subcommand(verb.name, verb.does)->callback([&line, value = verb.verb] { line.verb = value; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kInvalidInput;
  }
  return Run(line);
}

}  // namespace
}  // namespace loadstar::agent

int main(int argc, char** argv) { return loadstar::agent::Main(argc, argv); }
