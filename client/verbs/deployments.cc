#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

class Deployments : public Verb {
 public:
  std::string name() const override { return "deployments"; }
  std::string help() const override { return "Deployments that stand, with their nodes"; }
  void Declare(Arguments* /*arguments*/) override {}

  ExitCode Run(const Context& context) override {
    return WithCoordinator(context, [&](CoordinatorClient* client) {
      const auto response = client->ListDeployments({});
      if (!response.ok()) {
        return Fail(context, response.status());
      }
      context.output->Json(*response);
      if (response->deployments().empty()) {
        context.output->Text("Nothing is deployed. \"loadstar deploy STACK\" brings a stack up.");
      } else {
        context.output->Raw(DeploymentTable({response->deployments().begin(), response->deployments().end()}));
      }
      return ExitCode::kPassed;
    });
  }
};

}  // namespace

std::unique_ptr<Verb> MakeDeployments() { return std::make_unique<Deployments>(); }

}  // namespace loadstar::client
