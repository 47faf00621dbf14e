#include "client/verbs/shared.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/document_lookup.h"
#include "client/results_folder.h"
#include "client/status_text.h"
#include "client/terminal/format.h"
#include "client/terminal/live_view.h"
#include "client/terminal/table.h"

namespace loadstar::client {
namespace {

// Kinds of documents as people know them, and the verb that takes each.
struct KindWords {
  spec::Parsed::Kind parsed;
  DocumentKind lookup;
  const char* kind;
  const char* verb;
};
constexpr std::array kKinds = {
    KindWords{spec::Parsed::Kind::kTest, DocumentKind::kTest, "Test", "run"},
    KindWords{spec::Parsed::Kind::kStack, DocumentKind::kStack, "Stack", "deploy"},
    KindWords{spec::Parsed::Kind::kTuningProfile, DocumentKind::kTuningProfile, "TuningProfile", "tune"},
};

const KindWords& WordsOf(spec::Parsed::Kind kind) {
  return *std::find_if(kKinds.begin(), kKinds.end(), [kind](const KindWords& words) { return words.parsed == kind; });
}

}  // namespace

ExitCode Fail(const Context& context, const absl::Status& status) {
  context.output->Note(Describe(status));
  return ExitCodeOf(status);
}

ExitCode FailInvalid(const Context& context, const std::string& text) {
  context.output->Note(text);
  return ExitCode::kInvalidInput;
}

bool ParseOverrides(const Context& context, const std::vector<std::string>& texts,
                    std::vector<spec::Override>* overrides) {
  for (const std::string& text : texts) {
    auto override_or = spec::ParseOverride(text);
    if (!override_or.ok()) {
      context.output->Note(absl::StrCat("--set ", text, ": ", override_or.status().message()));
      return false;
    }
    overrides->push_back(*std::move(override_or));
  }
  return true;
}

std::optional<spec::Parsed> ReadAndParse(const Context& context, const std::string& argument, spec::Parsed::Kind kind,
                                         const std::vector<spec::Override>& overrides) {
  const KindWords& wanted = WordsOf(kind);
  const auto document = DocumentLookup::Standard().Read(argument, {wanted.lookup});
  if (!document.ok()) {
    context.output->Note(document.status().message());
    return std::nullopt;
  }
  spec::Parsed parsed = spec::Parse(*document, overrides);
  if (!parsed.problems.empty()) {
    context.output->Note(
        absl::StrCat(document->file_name(), " is invalid, nothing was done:\n", spec::ToString(parsed.problems)));
    return std::nullopt;
  }
  if (parsed.kind != kind) {
    const KindWords& given = WordsOf(parsed.kind);
    context.output->Note(absl::StrCat(document->file_name(), " is a ", given.kind, "; a ", wanted.kind,
                                      " is needed (\"loadstar ", given.verb, "\" takes a ", given.kind, ")"));
    return std::nullopt;
  }
  return parsed;
}

absl::Status ExportInto(const Context& context, const std::string& run_id, const std::string& folder,
                        CoordinatorClient* client, Interrupts* interrupts, std::string* summary) {
  auto results = ResultsFolder::Create(folder);
  if (!results.ok()) {
    return results.status();
  }
  v1::ExportRunRequest request;
  request.set_run_id(run_id);
  const auto stream = client->ExportRun(request);
  while (true) {
    if (interrupts->Take()) {
      return absl::CancelledError("the export was broken off, as asked");
    }
    if (const auto piece = stream->Next()) {
      if (absl::Status status = (*results)->Take(*piece); !status.ok()) {
        return status;
      }
    } else if (const auto end = stream->End()) {
      if (!end->ok()) {
        return *end;
      }
      break;
    } else {
      interrupts->Wait(stream->fd(), absl::InfiniteDuration());
    }
  }
  if (absl::Status status = (*results)->Finish(); !status.ok()) {
    return status;
  }
  std::ifstream file(absl::StrCat(folder, "/summary.txt"));
  std::ostringstream text;
  if (file && text << file.rdbuf()) {
    *summary = text.str();
  }
  context.output->JsonLine(absl::StrCat(
      "{\"export\":{\"folder\":", terminal::JsonString(folder), ",\"files\":[",
      absl::StrJoin((*results)->files(), ",",
                    [](std::string* out, const std::string& name) { out->append(terminal::JsonString(name)); }),
      "]}}"));
  return absl::OkStatus();
}

template <typename Response>
absl::StatusOr<v1::Deployment> ShowSteps(
    const Context& context, const std::function<absl::Status(const std::function<void(const Response&)>& take)>& call) {
  const absl::Time begin = absl::Now();
  v1::Deployment deployment;
  const absl::Status status = call([&](const Response& message) {
    context.output->Json(message);
    if (message.has_event()) {
      context.output->Text(terminal::Line(absl::StrFormat("%6.1f s  ", absl::ToDoubleSeconds(absl::Now() - begin)),
                                          terminal::Style::kFaint)
                               .Add(terminal::EventText(message.event()), terminal::EventStyle(message.event())));
    }
    if (message.has_deployment()) {
      deployment = message.deployment();
    }
  });
  if (!status.ok()) {
    return status;
  }
  context.output->Raw(DeploymentTable({deployment}));
  return deployment;
}

template absl::StatusOr<v1::Deployment> ShowSteps<v1::DeployResponse>(
    const Context&, const std::function<absl::Status(const std::function<void(const v1::DeployResponse&)>&)>&);
template absl::StatusOr<v1::Deployment> ShowSteps<v1::TeardownResponse>(
    const Context&, const std::function<absl::Status(const std::function<void(const v1::TeardownResponse&)>&)>&);

std::string DeploymentTable(const std::vector<v1::Deployment>& deployments) {
  using terminal::Table;
  Table table({{"DEPLOYMENT"},
               {"NODE"},
               {"STATE"},
               {"AGENT"},
               {"ROLE"},
               {"LISTENS"},
               {"API"},
               {"PID", Table::Align::kRight},
               {"RESTARTS", Table::Align::kRight},
               {"NOTE"}});
  for (const v1::Deployment& deployment : deployments) {
    for (const v1::NodeStatus& status : deployment.nodes()) {
      v1::NodeSpec node;
      for (const v1::NodeSpec& candidate : deployment.stack().nodes()) {
        if (candidate.name() == status.node()) {
          node = candidate;
        }
      }
      table.Add({deployment.name(), status.node(), terminal::Words(status.state()), status.agent(), node.role(),
                 node.listen_address(), node.api_address(), status.pid() == 0 ? "" : std::to_string(status.pid()),
                 std::to_string(status.restarts()), status.message()});
    }
    if (deployment.nodes().empty()) {
      table.Add({deployment.name(), "", terminal::Words(deployment.state())});
    }
  }
  return table.Text();
}

}  // namespace loadstar::client
