#include "absl/strings/str_cat.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

class Export : public Verb {
 public:
  std::string name() const override { return "export"; }
  std::string help() const override { return "Write the results folder of a finished run"; }
  void Declare(Arguments* arguments) override {
    arguments->Required("RUN", &run_, "Id of the run");
    arguments->Option("--output", "DIR", &output_, "Folder for the results (default: results/RUN)");
  }

  ExitCode Run(const Context& context) override {
    if (output_.empty() && (run_.find('/') != std::string::npos || run_ == "." || run_ == "..")) {
      return FailInvalid(context, absl::StrCat("\"", run_, "\" is no run id; \"loadstar runs\" lists them"));
    }
    return WithCoordinator(context, [&](CoordinatorClient* client) {
      // An unknown or unfinished run is refused before a folder is made for it.
      v1::GetRunRequest request;
      request.set_run_id(run_);
      const auto known = client->GetRun(request);
      if (!known.ok()) {
        return Fail(context, known.status());
      }
      if (known->run().state() != v1::RUN_STATE_FINISHED) {
        return Fail(context, absl::FailedPreconditionError(absl::StrCat(run_, " is not finished yet; \"loadstar watch ",
                                                                        run_, "\" follows it to its end")));
      }
      const std::string folder = output_.empty() ? absl::StrCat("results/", run_) : output_;
      std::string summary;
      Interrupts interrupts;
      const absl::Status status = ExportInto(context, run_, folder, client, &interrupts, &summary);
      if (!status.ok()) {
        return Fail(context, status);
      }
      context.output->Text(absl::StrCat("Results: ", folder));
      return ExitCode::kPassed;
    });
  }

 private:
  std::string run_;
  std::string output_;
};

}  // namespace

std::unique_ptr<Verb> MakeExport() { return std::make_unique<Export>(); }

}  // namespace loadstar::client
