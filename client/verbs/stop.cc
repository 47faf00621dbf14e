#include "absl/strings/str_cat.h"
#include "client/terminal/format.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

class Stop : public Verb {
 public:
  std::string name() const override { return "stop"; }
  std::string help() const override { return "End a run before its time; its results are kept"; }
  void Declare(Arguments* arguments) override {
    arguments->Required("RUN", &run_, "Id of the run");
    arguments->Flag("--abort", &abort_, "Do not wait for requests in flight");
  }

  ExitCode Run(const Context& context) override {
    return WithCoordinator(context, [&](CoordinatorClient* client) {
      v1::StopTestRequest request;
      request.set_run_id(run_);
      request.set_abort(abort_);
      const auto response = client->StopTest(request);
      if (!response.ok()) {
        return Fail(context, response.status());
      }
      context.output->Json(*response);
      context.output->Text(absl::StrCat(run_, " is ", terminal::Words(response->run().state()), ". \"loadstar watch ",
                                        run_, "\" shows how it ends."));
      return ExitCode::kPassed;
    });
  }

 private:
  std::string run_;
  bool abort_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakeStop() { return std::make_unique<Stop>(); }

}  // namespace loadstar::client
