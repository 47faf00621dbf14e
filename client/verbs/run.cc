#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/interrupts.h"
#include "client/start.h"
#include "client/status_text.h"
#include "client/terminal/run_summary.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"
#include "client/watch.h"

namespace loadstar::client {
namespace {

std::string DrawRequestId() {
  std::random_device device;
  return absl::StrFormat("%08x%08x%08x%08x", device(), device(), device(), device());
}

class RunTest : public Verb {
 public:
  std::string name() const override { return "run"; }
  std::string help() const override { return "Start a test, watch it, and write its results folder"; }
  void Declare(Arguments* arguments) override {
    arguments->Required("TEST", &test_, "The test: a name in deploy/scenarios or a path");
    arguments->Repeated("--set", "PATH=VALUE", &sets_,
                        "Change a field, such as load.connections[0].to=1k; may be repeated");
    arguments->Option("--scale", "SHARE", &scale_, "Run this share of the connections and the total rate, 0 to 1");
    arguments->Flag("--detach", &detach_, "Start it and return; \"loadstar watch RUN\" shows it");
    arguments->Option("--output", "DIR", &output_, "Folder for the results (default: results/RUN)");
  }

  ExitCode Run(const Context& context) override {
    v1::StartTestRequest request;
    if (!Prepare(context, &request)) {
      return ExitCode::kInvalidInput;
    }
    return WithCoordinator(context, [&](CoordinatorClient* client) { return StartAndWatch(context, request, client); });
  }

 private:
  // False after saying what is wrong.
  bool Prepare(const Context& context, v1::StartTestRequest* request) const {
    std::vector<spec::Override> overrides;
    if (!ParseOverrides(context, sets_, &overrides)) {
      return false;
    }
    if (!scale_.empty()) {
      double scale = 0;
      if (!absl::SimpleAtod(scale_, &scale) || !(scale > 0 && scale <= 1)) {
        context.output->Note(absl::StrCat("--scale ", scale_, ": expected a number above 0 and up to 1, such as 0.25"));
        return false;
      }
      request->set_scale(scale);
    }
    const auto parsed = ReadAndParse(context, test_, spec::Parsed::Kind::kTest, overrides);
    if (!parsed) {
      return false;
    }
    *request->mutable_test() = parsed->test;
    request->set_request_id(DrawRequestId());
    return true;
  }

  ExitCode StartAndWatch(const Context& context, const v1::StartTestRequest& request, CoordinatorClient* client) const {
    // Whether there is a coordinator at all, before anything is asked of it: what is lost from here on may have been
    // done.
    if (const auto reached = client->ListAgents({}); !reached.ok()) {
      return Fail(context, reached.status());
    }
    // From here on a Ctrl-C must not leave a run behind that was just begun.
    Interrupts interrupts;
    const StartOutcome started = Start({request}, client, &interrupts, context.output);
    if (started.kind == StartOutcome::Kind::kLeft) {
      context.output->Note(
          "left before the coordinator had answered; the run may have begun: \"loadstar runs\" shows it");
      return ExitCode::kNotCarriedOut;
    }
    if (started.kind == StartOutcome::Kind::kFailed) {
      return Refused(context, started.status);
    }
    const v1::Run& run = started.run;
    v1::StreamMetricsResponse first;
    *first.mutable_run() = run;
    context.output->Json(first);
    if (detach_ && !started.stop) {
      context.output->Text(absl::StrCat(run.run_id(), " has begun. \"loadstar watch ", run.run_id(),
                                        "\" shows it, \"loadstar stop ", run.run_id(), "\" ends it."));
      return ExitCode::kPassed;
    }
    WatchOptions options;
    options.run_id = run.run_id();
    options.own = true;
    options.stop = started.stop;
    const WatchOutcome outcome = Watch(options, run, client, &interrupts, context.output);
    switch (outcome.kind) {
      case WatchOutcome::Kind::kDetached:
        context.output->Note(absl::StrCat("left ", run.run_id(), ", which may still be running; \"loadstar watch ",
                                          run.run_id(), "\" shows it again"));
        return ExitCode::kNotCarriedOut;
      case WatchOutcome::Kind::kFailed:
        context.output->Note(absl::StrCat("lost sight of ", run.run_id(), ": ", Describe(outcome.status),
                                          "\n\"loadstar watch ", run.run_id(), "\" shows it again"));
        return ExitCode::kNotCarriedOut;
      case WatchOutcome::Kind::kFinished:
        break;
    }
    return Finish(context, outcome.run, client, &interrupts);
  }

  ExitCode Finish(const Context& context, const v1::Run& run, CoordinatorClient* client, Interrupts* interrupts) const {
    const std::string folder = output_.empty() ? absl::StrCat("results/", run.run_id()) : output_;
    std::string summary;
    const absl::Status exported = ExportInto(context, run.run_id(), folder, client, interrupts, &summary);
    context.output->Text("");
    if (summary.empty()) {
      for (const terminal::Line& line : terminal::RunSummary(run)) {
        context.output->Text(line);
      }
    } else {
      context.output->Raw(summary);
    }
    if (!exported.ok()) {
      context.output->Note(absl::StrCat("the results were not written: ", Describe(exported), "\n\"loadstar export ",
                                        run.run_id(), "\" writes them"));
      return ExitCode::kNotCarriedOut;
    }
    context.output->Text(absl::StrCat("\nResults: ", folder));
    return ExitCodeOf(run.verdict().kind());
  }

  static ExitCode Refused(const Context& context, const absl::Status& status) {
    std::string text = Describe(status);
    // A coordinator that cannot write to its disk may still carry out what it refused, when it can again.
    if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) || absl::IsResourceExhausted(status)) {
      absl::StrAppend(&text, "\nThe run may have begun all the same: \"loadstar runs\" shows it");
    }
    context.output->Note(text);
    return ExitCodeOf(status);
  }

  std::string test_;
  std::vector<std::string> sets_;
  std::string scale_;
  bool detach_ = false;
  std::string output_;
};

}  // namespace

std::unique_ptr<Verb> MakeRun() { return std::make_unique<RunTest>(); }

}  // namespace loadstar::client
