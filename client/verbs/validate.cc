#include "absl/strings/str_cat.h"
#include "client/document_lookup.h"
#include "client/verbs/shared.h"
#include "client/verbs/verbs.h"

namespace loadstar::client {
namespace {

class Validate : public Verb {
 public:
  std::string name() const override { return "validate"; }
  std::string help() const override { return "Static checks of documents; needs no coordinator"; }
  void Declare(Arguments* arguments) override {
    arguments->OneOrMore("DOCUMENT", &files_, "Tests, stacks and tuning profiles: names or paths");
    arguments->Repeated("--set", "PATH=VALUE", &sets_, "Change a field of each before it is checked");
  }

  ExitCode Run(const Context& context) override {
    std::vector<spec::Override> overrides;
    if (!ParseOverrides(context, sets_, &overrides)) {
      return ExitCode::kInvalidInput;
    }
    const DocumentLookup lookup = DocumentLookup::Standard();
    ExitCode code = ExitCode::kPassed;
    for (const std::string& file : files_) {
      if (!Check(context, lookup, file, overrides)) {
        code = ExitCode::kInvalidInput;
      }
    }
    return code;
  }

 private:
  static bool Check(const Context& context, const DocumentLookup& lookup, const std::string& file,
                    const std::vector<spec::Override>& overrides) {
    spec::Problems problems;
    std::string label = file;
    const auto document = lookup.Read(file, {DocumentKind::kTest, DocumentKind::kStack, DocumentKind::kTuningProfile});
    if (document.ok()) {
      label = document->file_name();
      problems = spec::Parse(*document, overrides).problems;
      if (!problems.empty()) {
        context.output->Note(absl::StrCat(label, " is invalid:\n", spec::ToString(problems)));
      }
    } else {
      context.output->Note(document.status().message());
      v1::DocumentProblem problem;
      problem.set_file_name(file);
      problem.set_message(std::string(document.status().message()));
      problems.push_back(problem);
    }
    v1::ValidateResponse response;
    for (const v1::DocumentProblem& problem : problems) {
      *response.add_problems() = problem;
    }
    const std::string json = terminal::ToJson(response);
    context.output->JsonLine(
        absl::StrCat("{\"file_name\":", terminal::JsonString(label), ",", absl::string_view(json).substr(1)));
    if (problems.empty()) {
      context.output->Text(absl::StrCat(label, ": ok"));
    }
    return problems.empty();
  }

  std::vector<std::string> files_;
  std::vector<std::string> sets_;
};

}  // namespace

std::unique_ptr<Verb> MakeValidate() { return std::make_unique<Validate>(); }

}  // namespace loadstar::client
