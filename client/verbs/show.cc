#include "client/terminal/run_summary.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

class Show : public Verb {
 public:
  std::string name() const override { return "show"; }
  std::string help() const override { return "A run's verdict and why, its figures and events"; }
  void Declare(Arguments* arguments) override { arguments->Required("RUN", &run_, "Id of the run"); }

  ExitCode Run(const Context& context) override {
    return WithCoordinator(context, [&](CoordinatorClient* client) {
      v1::GetRunRequest request;
      request.set_run_id(run_);
      const auto response = client->GetRun(request);
      if (!response.ok()) {
        return Fail(context, response.status());
      }
      context.output->Json(*response);
      for (const terminal::Line& line : terminal::RunSummary(response->run())) {
        context.output->Text(line);
      }
      return ExitCode::kPassed;
    });
  }

 private:
  std::string run_;
};

}  // namespace

std::unique_ptr<Verb> MakeShow() { return std::make_unique<Show>(); }

}  // namespace loadstar::client
