#include "client/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "lib/spec/spec.h"

namespace loadstar::client {
namespace {

constexpr char kFooter[] =
    "\nEvery verb takes --coordinator, --insecure and --json; \"loadstar VERB --help\" says more of a verb.\n"
    "A name is looked up in deploy/stacks, deploy/scenarios and deploy/tuning (here, in LOADSTAR_HOME, beside the\n"
    "program); a path is read as it is.\n\n"
    "Exit codes: 0 passed, 1 a threshold failed or a host is not as it was tuned, 2 the input is invalid and nothing\n"
    "was done, 3 not trustworthy, 4 it could not be carried out, was stopped, or was left before it ended.";

std::vector<std::string> OptionNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
  }
  return names;
}

CommandTree::Option Describe(const CLI::Option& option) {
  return {"--" + option.get_lnames().front(), option.get_description(),
          option.get_items_expected_max() == 0 ? "" : option.get_type_name()};
}

// The first argument that is no option, or empty.
std::string FirstWord(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--coordinator") {
      ++i;
    } else if (!absl::StartsWith(arguments[i], "-")) {
      return arguments[i];
    }
  }
  return "";
}

}  // namespace

struct CommandLine::Parsed {
  std::string coordinator = "127.0.0.1:7400";
  bool insecure = false;
  bool json = false;
};

void Arguments::Required(const std::string& type, std::string* value, const std::string& help) {
  CLI::Option* option = app_->add_option(type, *value, help)->required()->type_name(type)->option_text(" ");
  if (absl::StrContains(type, '|')) {
    const std::vector<std::string> words = absl::StrSplit(type, '|');
    option->check([words](const std::string& word) {
      return std::find(words.begin(), words.end(), word) != words.end()
                 ? std::string()
                 : absl::StrCat("\"", word, "\" is not one of ", absl::StrJoin(words, ", "));
    });
  }
}

void Arguments::Optional(const std::string& type, std::string* value, const std::string& help) {
  app_->add_option(type, *value, help)->type_name(type)->option_text(" ");
}

void Arguments::OneOrMore(const std::string& type, std::vector<std::string>* values, const std::string& help) {
  app_->add_option(type, *values, help)->required()->type_name(type)->option_text("...");
}

void Arguments::Flag(const std::string& name, bool* value, const std::string& help) {
  app_->add_flag(name, *value, help);
}

void Arguments::Option(const std::string& name, const std::string& type, std::string* value, const std::string& help) {
  app_->add_option(name, *value, help)->type_name(type);
}

void Arguments::Repeated(const std::string& name, const std::string& type, std::vector<std::string>* values,
                         const std::string& help) {
  // One value each time, also when it looks like several: "--set a=[1,2]".
  app_->add_option(name, *values, help)->type_name(type)->allow_extra_args(false)->take_all();
}

CommandLine::CommandLine(std::vector<std::unique_ptr<Verb>> verbs)
    : verbs_(std::move(verbs)),
      app_(std::make_unique<CLI::App>("Brings up a system under test, puts connections on it, shows it live.",
                                      "loadstar")),
      parsed_(std::make_unique<Parsed>()) {
  app_->require_subcommand(1);
  app_->fallthrough();
  app_->footer(kFooter);
  app_->get_formatter()->label("SUBCOMMAND", "VERB");
  app_->get_formatter()->label("Subcommands", "Verbs");
  app_->add_option("--coordinator", parsed_->coordinator, "Where the coordinator listens")
      ->type_name("HOST:PORT")
      ->envname("LOADSTAR_COORDINATOR")
      ->capture_default_str();
  app_->add_flag("--insecure", parsed_->insecure, "Allow an address that is not loopback, without encryption");
  app_->add_flag("--json", parsed_->json, "One JSON object a line on stdout");
  for (const auto& verb : verbs_) {
    CLI::App* command = app_->add_subcommand(verb->name(), verb->help());
    command->fallthrough();
    Arguments arguments(command);
    verb->Declare(&arguments);
  }
}

CommandLine::~CommandLine() = default;

ExitCode CommandLine::Run(const std::vector<std::string>& arguments, std::FILE* out, std::FILE* err) {
  terminal::Output plain(/*json=*/false, out, err);
  const auto invalid = [&](const std::string& what) {
    plain.Note(what);
    return ExitCode::kInvalidInput;
  };
  std::vector<std::string> verbs;
  for (const auto& verb : verbs_) {
    verbs.push_back(verb->name());
  }
  const std::string word = FirstWord(arguments);
  if (!word.empty() && std::find(verbs.begin(), verbs.end(), word) == verbs.end()) {
    const std::string nearest = spec::Nearest(word, verbs);
    return invalid(absl::StrCat("unknown verb \"", word, "\"; ",
                                nearest.empty() ? absl::StrCat("there are ", absl::StrJoin(verbs, ", "))
                                                : absl::StrCat("did you mean \"", nearest, "\"?")));
  }
  try {
    app_->parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app_->get_subcommands();
    plain.Raw(chosen.empty() ? app_->help() : chosen.front()->help("loadstar"));
    plain.Raw("\n");
    return plain.ok() ? ExitCode::kPassed : ExitCode::kNotCarriedOut;
  } catch (const CLI::ParseError& error) {
    const auto chosen = app_->get_subcommands();
    std::string text = error.what();
    if (chosen.empty() && word.empty()) {
      text = absl::StrCat("a verb is missing; there are ", absl::StrJoin(verbs, ", "));
    }
    for (const std::string& argument : arguments) {
      const std::string name = argument.substr(0, argument.find('='));
      std::vector<std::string> names = OptionNames(*app_);
      if (!chosen.empty()) {
        const std::vector<std::string> own = OptionNames(*chosen.front());
        names.insert(names.end(), own.begin(), own.end());
      }
      if (absl::StartsWith(name, "--") && name.size() > 2 &&
          std::find(names.begin(), names.end(), name) == names.end()) {
        const std::string nearest = spec::Nearest(name, names);
        text =
            absl::StrCat("unknown option ", name, nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?"));
        break;
      }
    }
    return invalid(
        absl::StrCat(text, " (see \"loadstar ", chosen.empty() ? "" : chosen.front()->get_name() + " ", "--help\")"));
  }
  terminal::Output output(parsed_->json, out, err);
  const std::string chosen = app_->get_subcommands().front()->get_name();
  const auto verb =
      std::find_if(verbs_.begin(), verbs_.end(), [&](const auto& candidate) { return candidate->name() == chosen; });
  const ExitCode code = (*verb)->Run({parsed_->coordinator, parsed_->insecure, &output});
  if (!output.ok() && code == ExitCode::kPassed) {
    output.Note("standard output could not be written; what it was to show is lost");
    return ExitCode::kNotCarriedOut;
  }
  return code;
}

CommandTree CommandLine::Tree() const {
  CommandTree tree;
  const auto options = [](const CLI::App& app, std::vector<std::string>* positionals) {
    std::vector<CommandTree::Option> described;
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_positional()) {
        positionals->push_back(option->get_type_name());
      } else {
        described.push_back(Describe(*option));
      }
    }
    return described;
  };
  std::vector<std::string> none;
  tree.options = options(*app_, &none);
  for (const CLI::App* command : std::as_const(*app_).get_subcommands(nullptr)) {
    CommandTree::Command described{command->get_name(), command->get_description(), {}, {}};
    described.options = options(*command, &described.positionals);
    tree.commands.push_back(std::move(described));
  }
  return tree;
}

}  // namespace loadstar::client
