#include <array>
#include <string>
#include <vector>

#include "lib/spec/complete.h"
#include "lib/spec/kinds.h"
#include "lib/spec/override.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

constexpr std::string_view kApiVersion = "loadstar/v1";
constexpr size_t kMaxFileName = 4096;

struct Kind {
  std::string_view name;
  Parsed::Kind kind;
};
constexpr std::array kKinds = {
    Kind{"Test", Parsed::Kind::kTest},
    Kind{"Stack", Parsed::Kind::kStack},
    Kind{"TuningProfile", Parsed::Kind::kTuningProfile},
};
constexpr std::string_view kWriteKind = "Write kind: Test, kind: Stack or kind: TuningProfile";

void CheckApiVersion(const Node& root, Report* report) {
  const Node* found = root.Find("apiVersion");
  if (found == nullptr) return report->Add("apiVersion", "there is no apiVersion", "Write apiVersion: loadstar/v1");
  if (found->kind == Node::Kind::kScalar && found->text == kApiVersion) return;
  const std::string shown =
      found->kind == Node::Kind::kScalar ? Quoted(found->text) : std::string(KindName(found->kind));
  report->Add("apiVersion", Cat("unknown apiVersion ", shown), "Write apiVersion: loadstar/v1");
}

Parsed::Kind ReadKind(const Node& root, Report* report) {
  const Node* found = root.Find("kind");
  if (found == nullptr || found->kind != Node::Kind::kScalar) {
    report->Add("kind", "the document does not say what it describes", std::string(kWriteKind));
    return Parsed::Kind::kNone;
  }
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) {
    if (kind.name == found->text) return kind.kind;
    names.emplace_back(kind.name);
  }
  const std::string nearest = Nearest(found->text, names);
  report->Add("kind", Cat("unknown kind ", Quoted(found->text)),
              nearest.empty() ? std::string(kWriteKind) : Cat("Did you mean \"", nearest, "\"?"));
  return Parsed::Kind::kNone;
}

void ReadRoot(const Node& root, Report* report, Parsed* parsed) {
  if (root.kind != Node::Kind::kMapping) {
    const bool empty = root.kind == Node::Kind::kNull;
    report->AddAt(root.place, "",
                  {empty ? "the document is empty" : Cat("the document is ", KindName(root.kind), ", not a mapping"),
                   "Begin with apiVersion: loadstar/v1, kind: Test, Stack or TuningProfile, and name"});
    return;
  }
  CheckApiVersion(root, report);
  parsed->kind = ReadKind(root, report);
  if (parsed->kind == Parsed::Kind::kTest) {
    ReadTest(root, report, &parsed->test);
    CompleteTest(&parsed->test, report);
  } else if (parsed->kind == Parsed::Kind::kStack) {
    ReadStack(root, report, &parsed->stack);
    CompleteStack(&parsed->stack, report);
  } else if (parsed->kind == Parsed::Kind::kTuningProfile) {
    ReadTuningProfile(root, report, &parsed->tuning_profile);
    CompleteTuningProfile(&parsed->tuning_profile, report);
  }
}

}  // namespace

Parsed Parse(const v1::Document& document, const std::vector<Override>& overrides) {
  Report report;
  Parsed parsed;
  Node root;
  if (BuildTree(document.yaml(), "", -1, &report, &root)) {
    ApplyOverrides(overrides, &root, &report);
    ReadRoot(root, &report, &parsed);
  }
  if (report.empty()) return parsed;
  std::vector<std::string> labels;
  labels.reserve(overrides.size());
  for (const Override& override : overrides) labels.push_back(LabelOf(override));
  parsed = Parsed{};
  parsed.problems = report.Finish(Clipped(document.file_name(), kMaxFileName), labels,
                                  [&root](std::string_view field) { return Locate(root, field); });
  return parsed;
}

}  // namespace loadstar::spec
