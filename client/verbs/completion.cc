#include "client/completion.h"

#include <utility>

#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

class Completion : public Verb {
 public:
  explicit Completion(std::function<CommandTree()> tree) : tree_(std::move(tree)) {}
  std::string name() const override { return "completion"; }
  std::string help() const override { return "Print a completion script for a shell"; }
  void Declare(Arguments* arguments) override { arguments->Required("bash|zsh", &shell_, "The shell"); }

  ExitCode Run(const Context& context) override {
    context.output->Raw(shell_ == "bash" ? BashCompletion(tree_()) : ZshCompletion(tree_()));
    return ExitCode::kPassed;
  }

 private:
  const std::function<CommandTree()> tree_;
  std::string shell_;
};

}  // namespace

std::unique_ptr<Verb> MakeCompletion(std::function<CommandTree()> tree) {
  return std::make_unique<Completion>(std::move(tree));
}

}  // namespace loadstar::client
