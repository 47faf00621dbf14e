#include "absl/strings/str_cat.h"
#include "client/terminal/format.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

class Update : public Verb {
 public:
  std::string name() const override { return "update"; }
  std::string help() const override { return "Change the load of a running test"; }
  void Declare(Arguments* arguments) override {
    arguments->Required("RUN", &run_, "Id of the run");
    arguments->Repeated("--set", "PATH=VALUE", &sets_, "connections=50k, ramp=30s, rate=10k; may be repeated");
  }

  ExitCode Run(const Context& context) override {
    if (sets_.empty()) {
      return FailInvalid(context,
                         "update: nothing to change; give --set connections=N, --set ramp=TIME or --set rate=N");
    }
    std::vector<spec::Override> changes;
    if (!ParseOverrides(context, sets_, &changes)) {
      return ExitCode::kInvalidInput;
    }
    const auto update = spec::ParseLoadUpdate(changes);
    if (!update.ok()) {
      return FailInvalid(context, absl::StrCat("update: ", update.status().message()));
    }
    return WithCoordinator(context, [&](CoordinatorClient* client) {
      v1::UpdateLoadRequest request;
      request.set_run_id(run_);
      *request.mutable_update() = *update;
      const auto response = client->UpdateLoad(request);
      if (!response.ok()) {
        return Fail(context, response.status());
      }
      context.output->Json(*response);
      context.output->Text(absl::StrCat("The load of ", run_, " changes at ",
                                        terminal::Clock(response->applied().at_elapsed().seconds()), "."));
      return ExitCode::kPassed;
    });
  }

 private:
  std::string run_;
  std::vector<std::string> sets_;
};

}  // namespace

std::unique_ptr<Verb> MakeUpdate() { return std::make_unique<Update>(); }

}  // namespace loadstar::client
