#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

class Deploy : public Verb {
 public:
  std::string name() const override { return "deploy"; }
  std::string help() const override { return "Bring up a stack and wait until every node is healthy"; }
  void Declare(Arguments* arguments) override {
    arguments->Required("STACK", &stack_, "The stack: a name in deploy/stacks or a path");
  }

  ExitCode Run(const Context& context) override {
    const auto parsed = ReadAndParse(context, stack_, spec::Parsed::Kind::kStack, {});
    if (!parsed) {
      return ExitCode::kInvalidInput;
    }
    return WithCoordinator(context, [&](CoordinatorClient* client) {
      v1::DeployRequest request;
      *request.mutable_stack() = parsed->stack;
      const auto deployment =
          ShowSteps<v1::DeployResponse>(context, [&](const auto& take) { return client->Deploy(request, take); });
      if (!deployment.ok()) {
        return Fail(context, deployment.status());
      }
      if (deployment->state() != v1::DEPLOYMENT_STATE_HEALTHY) {
        return Fail(context, absl::AbortedError("the deployment is not healthy; its nodes' notes say why. \"loadstar "
                                                "teardown " +
                                                parsed->stack.name() + "\" removes what is there"));
      }
      return ExitCode::kPassed;
    });
  }

 private:
  std::string stack_;
};

}  // namespace

std::unique_ptr<Verb> MakeDeploy() { return std::make_unique<Deploy>(); }

}  // namespace loadstar::client
