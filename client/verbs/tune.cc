#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/document_lookup.h"
#include "client/terminal/format.h"
#include "client/terminal/table.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"
#include "lib/plan/tuning_need.h"
#include "lib/spec/sysctl_key.h"

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
    case v1::TUNE_OUTCOME_NOT_MEANT:
      return "not meant";
    case v1::TUNE_OUTCOME_CONTESTED:
      return "contested";
    default:
      return "";
  }
}

Style StyleOf(const v1::TuneStep& step) {
  if (step.obstacle()) return Style::kBad;
  if (step.lowers() || step.outcome() == v1::TUNE_OUTCOME_CONTESTED) return Style::kWarning;
  const bool no_matter = step.outcome() == v1::TUNE_OUTCOME_FULFILLED || step.outcome() == v1::TUNE_OUTCOME_MISSING ||
                         step.outcome() == v1::TUNE_OUTCOME_NOT_MEANT;
  return no_matter ? Style::kFaint : Style::kPlain;
}

// Heads the steps there; those of the host come first and need no heading.
std::string_view HeadingOf(v1::TunePlace place) {
  switch (place) {
    case v1::TUNE_PLACE_VIRTUAL_MACHINE:
      return "in the virtual machine:";
    case v1::TUNE_PLACE_CONTAINER:
      return "in a container:";
    default:
      return "on the host:";
  }
}

// What there is to say of a step besides its values.
std::string Remark(const v1::TuneStep& step) {
  std::vector<std::string> parts;
  if (step.lowers()) parts.emplace_back("lowers it, as the profile asks");
  if (!step.message().empty()) parts.push_back(step.message());
  if (!step.effect().empty() && !step.obstacle()) parts.push_back(step.effect());
  return absl::StrJoin(parts, "; ");
}

// What Compose has to be told of a service so that its containers have what was planned for them; nothing when they
// need nothing.
std::vector<std::string> ForCompose(const std::vector<v1::TuneStep>& steps) {
  std::vector<std::string> sysctls;
  std::vector<std::string> limits;
  for (const v1::TuneStep& step : steps) {
    if (step.place() != v1::TUNE_PLACE_CONTAINER || step.outcome() != v1::TUNE_OUTCOME_CHANGED) continue;
    if (spec::IsSysctlKey(step.key())) {
      std::string value = step.after();
      std::replace(value.begin(), value.end(), '\t', ' ');
      sysctls.push_back(absl::StrCat("      ", step.key(), ": \"", terminal::Printable(value), "\""));
    } else {
      const std::vector<std::string> ends =
          absl::StrSplit(absl::StrReplaceAll(step.after(), {{"infinity", "-1"}}), ':');
      limits.push_back(absl::StrCat("      nofile: {soft: ", ends.front(), ", hard: ", ends.back(), "}"));
    }
  }
  std::vector<std::string> lines;
  if (sysctls.empty() && limits.empty()) return lines;
  lines.emplace_back(
      "In a Compose file, for each service that is to have it (docker run: --sysctl KEY=VALUE, --ulimit "
      "nofile=SOFT:HARD):");
  lines.emplace_back("");
  if (!sysctls.empty()) lines.emplace_back("    sysctls:");
  lines.insert(lines.end(), sysctls.begin(), sysctls.end());
  if (!limits.empty()) lines.emplace_back("    ulimits:");
  lines.insert(lines.end(), limits.begin(), limits.end());
  lines.emplace_back("");
  return lines;
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
    arguments->Flag("--load-modules", &load_modules_, "plan, apply: load modules that bring settings");
    arguments->Flag("--containers", &containers_, "plan: what containers need that are created on the host");
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
    request.set_load_modules(load_modules_);
    request.set_containers(containers_);
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
    if (containers_ && request->action() != v1::TUNE_ACTION_PLAN) {
      context.output->Note("--containers is for plan: a container is given its settings by what creates it");
      return false;
    }
    if (load_modules_ && all_or_nothing_) {
      context.output->Note(
          "--load-modules changes a host before it can be told whether all can be tuned; apply without "
          "--all-or-nothing, or load the module first");
      return false;
    }
    if (load_modules_ && !wants_document) {
      context.output->Note("--load-modules is for plan and apply");
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
    v1::TunePlace place = v1::TUNE_PLACE_UNSPECIFIED;
    for (size_t i = 0; i < steps.size(); ++i) {
      if (steps[i].place() != place) {
        place = steps[i].place();
        context.output->Text(Line(std::string(HeadingOf(place)), Style::kBold));
      }
      context.output->Text(Line(lines[i + 1].text(), StyleOf(steps[i])));
      if (const std::string remark = Remark(steps[i]); !remark.empty()) {
        context.output->Text(Line(absl::StrCat("    ", terminal::Printable(remark)),
                                  steps[i].obstacle() || steps[i].lowers() ? StyleOf(steps[i]) : Style::kFaint));
      }
    }
    context.output->Text("");
    for (const std::string& line : ForCompose(steps)) context.output->Text(Line(line));
  }

  std::string action_;
  std::string profile_;
  std::string test_;
  std::vector<std::string> agents_;
  bool persist_ = false;
  bool all_or_nothing_ = false;
  bool force_ = false;
  bool allow_restart_ = false;
  bool load_modules_ = false;
  bool containers_ = false;
};

}  // namespace

std::unique_ptr<Verb> MakeTune() { return std::make_unique<Tune>(); }

}  // namespace loadstar::client
