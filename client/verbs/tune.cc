#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/document_lookup.h"
#include "client/terminal/format.h"
#include "client/terminal/table.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"
#include "lib/plan/tuning_need.h"

namespace loadstar::client {
namespace {

using terminal::Line;
using terminal::Style;
using terminal::Table;

struct ActionWord {
  const char* word;
  v1::TuneAction action;
};
constexpr std::array kActions = {
    ActionWord{"plan", v1::TUNE_ACTION_PLAN},         ActionWord{"apply", v1::TUNE_ACTION_APPLY},
    ActionWord{"verify", v1::TUNE_ACTION_VERIFY},     ActionWord{"status", v1::TUNE_ACTION_STATUS},
    ActionWord{"rollback", v1::TUNE_ACTION_ROLLBACK},
};

std::string_view WordOf(v1::TuneOutcome outcome, v1::TuneAction action) {
  const bool plans = action == v1::TUNE_ACTION_PLAN;
  switch (outcome) {
    case v1::TUNE_OUTCOME_CHANGED:
      return plans ? "to change" : "changed";
    case v1::TUNE_OUTCOME_FULFILLED:
      return "as wanted";
    case v1::TUNE_OUTCOME_MISSING:
      return "not here";
    case v1::TUNE_OUTCOME_READ_ONLY:
      return "read-only";
    case v1::TUNE_OUTCOME_UNSUITABLE:
      return "unsuitable";
    case v1::TUNE_OUTCOME_CONTRADICTS:
      return "contradicts";
    case v1::TUNE_OUTCOME_REFUSED:
      return "refused";
    case v1::TUNE_OUTCOME_NOT_TRIED:
      return "not tried";
    case v1::TUNE_OUTCOME_FORBIDDEN:
      return "forbidden";
    case v1::TUNE_OUTCOME_RESTORED:
      return "restored";
    case v1::TUNE_OUTCOME_KEPT:
      return "kept";
    case v1::TUNE_OUTCOME_APPLIED:
      return "applied";
    case v1::TUNE_OUTCOME_FOREIGN:
      return "changed by others";
    case v1::TUNE_OUTCOME_UNCERTAIN:
      return "uncertain";
    case v1::TUNE_OUTCOME_WORKS:
      return "works";
    case v1::TUNE_OUTCOME_FAILS:
      return "fails";
    default:
      return "";
  }
}

Style StyleOf(const v1::TuneStep& step) {
  if (step.obstacle()) return Style::kBad;
  if (step.lowers()) return Style::kWarning;
  return step.outcome() == v1::TUNE_OUTCOME_FULFILLED || step.outcome() == v1::TUNE_OUTCOME_MISSING ? Style::kFaint
                                                                                                    : Style::kPlain;
}

// What there is to say of a step besides its values.
std::string Remark(const v1::TuneStep& step) {
  std::vector<std::string> parts;
  if (step.lowers()) parts.emplace_back("lowers it, as the profile asks");
  if (!step.message().empty()) parts.push_back(step.message());
  if (!step.effect().empty() && !step.obstacle()) parts.push_back(step.effect());
  return absl::StrJoin(parts, "; ");
}

class Tune : public Verb {
 public:
  std::string name() const override { return "tune"; }
  std::string help() const override { return "Make hosts ready for a load, look whether they are, put them back"; }
  void Declare(Arguments* arguments) override {
    arguments->Required("plan|apply|verify|status|rollback", &action_, "What to do");
    arguments->Optional("PROFILE", &profile_,
                        "plan, apply: a name in deploy/tuning or a path; else: the applied profile, default all");
    arguments->Option("--for", "TEST", &test_, "plan, apply: what this test needs, in place of a profile");
    arguments->Repeated("--agent", "AGENT", &agents_, "Host to tune, by its agent; may be repeated (default: all)");
    arguments->Flag("--persist", &persist_, "apply: also for the next boot");
    arguments->Flag("--all-or-nothing", &all_or_nothing_, "apply: on all hosts or on none");
    arguments->Flag("--force", &force_, "rollback: also what somebody else changed since");
    arguments->Flag("--allow-restart", &allow_restart_, "Restart programs where a setting needs it");
  }

  ExitCode Run(const Context& context) override {
    v1::TuneRequest request;
    const auto action =
        std::find_if(kActions.begin(), kActions.end(), [&](const ActionWord& known) { return action_ == known.word; });
    request.set_action(action->action);
    request.mutable_agents()->Add(agents_.begin(), agents_.end());
    request.set_persist(persist_);
    request.set_all_or_nothing(all_or_nothing_);
    request.set_force(force_);
    request.set_allow_restart(allow_restart_);
    if (!Prepare(context, &request)) return ExitCode::kInvalidInput;
    return WithCoordinator(context, [&](CoordinatorClient* client) { return Carry(context, request, client); });
  }

 private:
  // Sets the profile, or its name. False after saying what is wrong.
  bool Prepare(const Context& context, v1::TuneRequest* request) const {
    const bool applies = request->action() == v1::TUNE_ACTION_APPLY;
    const bool wants_document = applies || request->action() == v1::TUNE_ACTION_PLAN;
    if ((persist_ || all_or_nothing_) && !applies) {
      context.output->Note("--persist and --all-or-nothing are for apply");
      return false;
    }
    if (force_ && request->action() != v1::TUNE_ACTION_ROLLBACK) {
      context.output->Note("--force is for rollback");
      return false;
    }
    if (!wants_document) {
      if (!test_.empty()) context.output->Note("--for is for plan and apply");
      request->set_profile_name(profile_);
      return test_.empty();
    }
    if (profile_.empty() == test_.empty()) {
      context.output->Note(profile_.empty() ? "name a profile, or a test with --for"
                                            : "name a profile or a test with --for, not both");
      return false;
    }
    if (!test_.empty()) {
      const auto parsed = ReadAndParse(context, test_, spec::Parsed::Kind::kTest, {});
      if (!parsed) return false;
      *request->mutable_profile() = plan::TuningNeed(parsed->test);
      return true;
    }
    const auto parsed = ReadAndParse(context, profile_, spec::Parsed::Kind::kTuningProfile, {});
    if (!parsed) return false;
    *request->mutable_profile() = parsed->tuning_profile;
    return true;
  }

  static ExitCode Carry(const Context& context, const v1::TuneRequest& request, CoordinatorClient* client) {
    std::map<std::string, std::vector<v1::TuneStep>> steps;  // by agent
    v1::TuneVerdict verdict;
    const absl::Status status = client->Tune(request, [&](const v1::TuneResponse& message) {
      context.output->Json(message);
      if (message.has_step()) steps[message.step().agent()].push_back(message.step());
      if (message.has_verdict()) verdict = message.verdict();
    });
    if (!status.ok()) return Fail(context, status);
    for (const v1::TuneHostResult& host : verdict.hosts()) Show(context, request.action(), host, steps[host.agent()]);
    context.output->Text(Line(verdict.message(), verdict.ok() ? Style::kGood : Style::kBad));
    if (verdict.ok()) return ExitCode::kPassed;
    const bool looks = request.action() == v1::TUNE_ACTION_VERIFY || request.action() == v1::TUNE_ACTION_STATUS;
    return looks ? ExitCode::kThresholdFailed : ExitCode::kNotCarriedOut;
  }

  static void Show(const Context& context, v1::TuneAction action, const v1::TuneHostResult& host,
                   const std::vector<v1::TuneStep>& steps) {
    context.output->Text(Line(absl::StrCat(host.agent(), ": "), Style::kBold)
                             .Add(host.message(), host.ok() ? Style::kPlain : Style::kBad));
    if (steps.empty()) return context.output->Text("");
    const bool now = action == v1::TUNE_ACTION_PLAN;
    Table table({{"SETTING"}, {"STATE"}, {now ? "NOW" : "BEFORE"}, {now ? "WANTED" : "NOW"}, {"PROFILE"}});
    for (const v1::TuneStep& step : steps) {
      table.Add({step.key(), std::string(WordOf(step.outcome(), action)), step.before(), step.after(), step.profile()});
    }
    const std::vector<Line> lines = table.Lines();
    context.output->Text(lines.front());
    for (size_t i = 0; i < steps.size(); ++i) {
      context.output->Text(Line(lines[i + 1].text(), StyleOf(steps[i])));
      if (const std::string remark = Remark(steps[i]); !remark.empty()) {
        context.output->Text(Line(absl::StrCat("    ", terminal::Printable(remark)),
                                  steps[i].obstacle() || steps[i].lowers() ? StyleOf(steps[i]) : Style::kFaint));
      }
    }
    context.output->Text("");
  }

  std::string action_;
  std::string profile_;
  std::string test_;
  std::vector<std::string> agents_;
  bool persist_ = false;
  bool all_or_nothing_ = false;
  bool force_ = false;
  bool allow_restart_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakeTune() { return std::make_unique<Tune>(); }

}  // namespace loadstar::client
