// The program's arguments: verbs and what each takes. CLI11 stands behind it, in command_line.cc alone.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/exit_code.h"
#include "client/terminal/output.h"

namespace CLI {
class App;
}

namespace loadstar::client {

// What every verb may use.
struct Context {
  std::string coordinator;
  bool insecure = false;
  terminal::Output* output = nullptr;
};

// Declares the arguments of one verb. `value`s must live as long as the command line. `type` is what help shows and
// what completion goes by: TEST, STACK, PROFILE, DOCUMENT, RUN, DEPLOYMENT, AGENT, DIR, or the words allowed,
// "bash|zsh".
class Arguments {
 public:
  explicit Arguments(CLI::App* app) : app_(app) {}
  void Required(const std::string& type, std::string* value, const std::string& help);
  void Optional(const std::string& type, std::string* value, const std::string& help);
  void OneOrMore(const std::string& type, std::vector<std::string>* values, const std::string& help);
  void Flag(const std::string& name, bool* value, const std::string& help);
  void Option(const std::string& name, const std::string& type, std::string* value, const std::string& help);
  // May be given more than once, one value each time.
  void Repeated(const std::string& name, const std::string& type, std::vector<std::string>* values,
                const std::string& help);

 private:
  CLI::App* const app_;
};

// One verb of the program: client/verbs/ has a file for each.
class Verb {
 public:
  virtual ~Verb() = default;
  virtual std::string name() const = 0;
  virtual std::string help() const = 0;
  virtual void Declare(Arguments* arguments) = 0;
  virtual ExitCode Run(const Context& context) = 0;
};

// The tree of verbs as completion needs it, read back from CLI11.
struct CommandTree {
  struct Option {
    std::string name;  // "--json"
    std::string help;
    std::string type;  // empty: takes no value
  };
  struct Command {
    std::string name;
    std::string help;
    std::vector<Option> options;
    std::vector<std::string> positionals;  // their types
  };
  std::vector<Command> commands;
  std::vector<Option> options;  // of every verb
};

class CommandLine {
 public:
  explicit CommandLine(std::vector<std::unique_ptr<Verb>> verbs);
  ~CommandLine();

  // Parses and runs. `arguments` are those after the program's name.
  ExitCode Run(const std::vector<std::string>& arguments, std::FILE* out, std::FILE* err);
  CommandTree Tree() const;

 private:
  struct Parsed;
  const std::vector<std::unique_ptr<Verb>> verbs_;
  std::unique_ptr<CLI::App> app_;
  std::unique_ptr<Parsed> parsed_;
};

}  // namespace loadstar::client
