#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/terminal/live_view.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

class Teardown : public Verb {
 public:
  std::string name() const override { return "teardown"; }
  std::string help() const override { return "Take a deployment down"; }
  void Declare(Arguments* arguments) override {
    arguments->Required("DEPLOYMENT", &deployment_, "Name of the deployment");
  }

  ExitCode Run(const Context& context) override {
    return WithCoordinator(context, [&](CoordinatorClient* client) {
      v1::TeardownRequest request;
      request.set_name(deployment_);
      const absl::Time begin = absl::Now();
      v1::Deployment deployment;
      const absl::Status status = client->Teardown(request, [&](const v1::TeardownResponse& message) {
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
      if (deployment.state() != v1::DEPLOYMENT_STATE_STOPPED) {
        return Fail(context, absl::AbortedError("the deployment is not gone; its nodes' notes say why"));
      }
      return ExitCode::kPassed;
    });
  }

 private:
  std::string deployment_;
};

}  // namespace

std::unique_ptr<Verb> MakeTeardown() { return std::make_unique<Teardown>(); }

}  // namespace loadstar::client
