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
  bool supported;
};
constexpr std::array kKinds = {
    Kind{"Test", Parsed::Kind::kTest, true},
    Kind{"Stack", Parsed::Kind::kStack, true},
    Kind{"TuningProfile", Parsed::Kind::kNone, false},
};

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
    report->Add("kind", "the document does not say what it describes", "Write kind: Test or kind: Stack");
    return Parsed::Kind::kNone;
  }
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) {
    if (kind.name == found->text && kind.supported) return kind.kind;
    if (kind.name == found->text) {
      report->Add("kind", Cat("kind ", kind.name, " is not supported by this version"),
                  "Write kind: Test or kind: Stack");
      return Parsed::Kind::kNone;
    }
    if (kind.supported) names.emplace_back(kind.name);
  }
  const std::string nearest = Nearest(found->text, names);
  report->Add("kind", Cat("unknown kind ", Quoted(found->text)),
              nearest.empty() ? "Write kind: Test or kind: Stack" : Cat("Did you mean \"", nearest, "\"?"));
  return Parsed::Kind::kNone;
}

void ReadRoot(const Node& root, Report* report, Parsed* parsed) {
  if (root.kind != Node::Kind::kMapping) {
    const bool empty = root.kind == Node::Kind::kNull;
    report->AddAt(root.place, "",
                  {empty ? "the document is empty" : Cat("the document is ", KindName(root.kind), ", not a mapping"),
                   "Begin with apiVersion: loadstar/v1, kind: Test or Stack, and name"});
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
