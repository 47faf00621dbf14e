#include "client/watch.h"

#include "absl/strings/str_cat.h"
#include "client/interrupts.h"
#include "client/status_text.h"
#include "client/terminal/run_summary.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

class WatchRun : public Verb {
 public:
  std::string name() const override { return "watch"; }
  std::string help() const override { return "Show a run live until it ends; Ctrl-C leaves it running"; }
  void Declare(Arguments* arguments) override { arguments->Required("RUN", &run_, "Id of the run"); }

  ExitCode Run(const Context& context) override {
    return WithCoordinator(context, [&](CoordinatorClient* client) {
      v1::GetRunRequest request;
      request.set_run_id(run_);
      const auto known = client->GetRun(request);
      if (!known.ok()) {
        return Fail(context, known.status());
      }
      Interrupts interrupts;
      WatchOptions options;
      options.run_id = run_;
      const WatchOutcome outcome = Watch(options, known->run(), client, &interrupts, context.output);
      if (outcome.kind == WatchOutcome::Kind::kDetached) {
        context.output->Note(absl::StrCat("left ", run_, ", which goes on"));
        return ExitCode::kNotCarriedOut;
      }
      if (outcome.kind == WatchOutcome::Kind::kFailed) {
        context.output->Note(absl::StrCat("lost sight of ", run_, ": ", Describe(outcome.status)));
        return ExitCode::kNotCarriedOut;
      }
      context.output->Text("");
      for (const terminal::Line& line : terminal::RunSummary(outcome.run)) {
        context.output->Text(line);
      }
      return ExitCodeOf(outcome.run.verdict().kind());
    });
  }

 private:
  std::string run_;
};

}  // namespace

std::unique_ptr<Verb> MakeWatch() { return std::make_unique<WatchRun>(); }

}  // namespace loadstar::client
