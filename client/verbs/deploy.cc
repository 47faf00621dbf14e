#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/terminal/live_view.h"
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
      const absl::Time begin = absl::Now();
      v1::Deployment deployment;
      const absl::Status status = client->Deploy(request, [&](const v1::DeployResponse& message) {
        context.output->Json(message);
        if (message.has_event()) {
          context.output->Text(terminal::Line(absl::StrFormat("%6.1f s  ", absl::ToDoubleSeconds(absl::Now() - begin)),
                                              terminal::Style::kFaint)
                                   .Add(terminal::EventText(message.event()), terminal::EventStyle(message.event())));
        }
        if (message.has_deployment()) {
          deployment = message.deployment();
        }
      });
      if (!status.ok()) {
        return Fail(context, status);
      }
      context.output->Raw(DeploymentTable({deployment}));
      if (deployment.state() != v1::DEPLOYMENT_STATE_HEALTHY) {
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
