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
      const auto deployment =
          ShowSteps<v1::TeardownResponse>(context, [&](const auto& take) { return client->Teardown(request, take); });
      if (!deployment.ok()) {
        return Fail(context, deployment.status());
      }
      if (deployment->state() != v1::DEPLOYMENT_STATE_STOPPED) {
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
