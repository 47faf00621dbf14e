#include "lib/spec/override.h"

#include <cstddef>
#include <optional>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

constexpr size_t kMaxOverrides = 1'000;
constexpr size_t kMaxPath = 256;
constexpr size_t kMaxValue = 64 * 1024;
constexpr std::string_view kExample = "Write PATH=VALUE, such as load.connections[0].to=1k";

using Step = std::variant<std::string, size_t>;  // a key, or an index

bool IsKeyCharacter(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-'; }

// Splits "load.connections[0].to". Nothing when it is no path.
std::optional<std::vector<Step>> SplitPath(std::string_view path) {
  if (path.size() > kMaxPath) return std::nullopt;
  std::vector<Step> steps;
  bool after_dot = true;
  while (!path.empty() || after_dot) {
    if (after_dot) {
      size_t length = 0;
      while (length < path.size() && IsKeyCharacter(path[length])) ++length;
      if (length == 0) return std::nullopt;
      steps.emplace_back(std::string(path.substr(0, length)));
      path.remove_prefix(length);
      after_dot = false;
    } else if (path[0] == '.') {
      path.remove_prefix(1);
      after_dot = true;
    } else {
      const size_t close = path.find(']');
      size_t index = 0;
      if (path[0] != '[' || close == std::string_view::npos || !ReadDigits(path.substr(1, close - 1), &index)) {
        return std::nullopt;
      }
      steps.emplace_back(index);
      path.remove_prefix(close + 1);
    }
  }
  return steps;
}

class Application {
 public:
  Application(const Override& override, int index, Report* report)
      : override_(override), index_(index), report_(*report) {}

  void Apply(Node* root) {
    const auto steps = SplitPath(override_.path);
    if (!steps) return report_.AddAt(Place{index_, 0, 0}, "", {"this is no path", std::string(kExample)});
    if (override_.value.size() > kMaxValue) return Fail({"the value is longer than 64 KiB", ""});
    Node value;
    value.place.override_index = index_;
    // Nothing, "~" and "null" all take the key out.
    if (!Trim(override_.value).empty() && !BuildTree(override_.value, override_.path, index_, &report_, &value)) {
      return;
    }
    Node* node = root;
    std::string so_far;
    for (size_t i = 0; i + 1 < steps->size(); ++i) {
      node = Descend(node, (*steps)[i], &so_far);
      if (node == nullptr) return;
    }
    if (value.kind == Node::Kind::kNull) {
      Remove(node, steps->back());
    } else if (Node* slot = Descend(node, steps->back(), &so_far)) {
      *slot = std::move(value);
    }
  }

 private:
  void Fail(Flaw flaw) {
    report_.AddAt(Place{index_, 0, 0}, override_.path, std::move(flaw));
    // What was made on the way would only be reported a second time, as unknown or incomplete.
    if (made_in_ == nullptr) return;
    if (made_in_->kind == Node::Kind::kMapping) made_in_->keys.pop_back();
    made_in_->items.pop_back();
  }

  Node* Make(Node* in) {
    if (made_in_ == nullptr) made_in_ = in;
    Node& node = in->items.emplace_back();
    node.place.override_index = index_;
    return &node;
  }

  // The node one step below, made when it is missing; nullptr with a problem reported when there can be none. A node
  // that was only just made, or left empty in the document, becomes what the path needs.
  Node* Descend(Node* node, const Step& step, std::string* so_far) {
    if (const auto* index = std::get_if<size_t>(&step)) {
      if (node->kind == Node::Kind::kNull) node->kind = Node::Kind::kSequence;
      if (node->kind != Node::Kind::kSequence) return Mismatch(*node, "a list", *so_far);
      if (*index > node->items.size()) {
        Fail({Cat(*so_far, " has ", node->items.size(), " items; there is no [", *index, "]"),
              Cat("Items are counted from 0, and [", node->items.size(), "] appends one")});
        return nullptr;
      }
      *so_far = Index(*so_far, *index);
      return *index == node->items.size() ? Make(node) : &node->items[*index];
    }
    const std::string& key = std::get<std::string>(step);
    if (node->kind == Node::Kind::kNull) node->kind = Node::Kind::kMapping;
    if (node->kind != Node::Kind::kMapping) return Mismatch(*node, "a mapping", *so_far);
    *so_far = Join(*so_far, key);
    if (Node* found = node->Find(key)) return found;
    node->keys.push_back({key, Place{index_, 0, 0}});
    return Make(node);
  }

  Node* Mismatch(const Node& node, std::string_view wanted, const std::string& so_far) {
    Fail({Cat(so_far.empty() ? "the document" : so_far, " is ", KindName(node.kind), ", not ", wanted), ""});
    return nullptr;
  }

  void Remove(Node* node, const Step& step) {
    size_t at = 0;
    if (const auto* index = std::get_if<size_t>(&step)) {
      at = node->kind == Node::Kind::kSequence ? *index : node->items.size();
    } else {
      while (at < node->keys.size() && node->keys[at].text != std::get<std::string>(step)) ++at;
    }
    if (at >= node->items.size()) return Fail({"there is nothing there to take out", ""});
    node->items.erase(node->items.begin() + static_cast<std::ptrdiff_t>(at));
    if (node->kind == Node::Kind::kMapping) node->keys.erase(node->keys.begin() + static_cast<std::ptrdiff_t>(at));
  }

  const Override& override_;
  const int index_;
  Report& report_;
  Node* made_in_ = nullptr;  // holds, as its last item, the first node that was made
};

}  // namespace

std::string LabelOf(const Override& override) {
  return Cat("--set ", IsText(override.path) ? Clipped(override.path, kMaxPath) : "(no text)");
}

void ApplyOverrides(const std::vector<Override>& overrides, Node* root, Report* report) {
  if (overrides.size() > kMaxOverrides) {
    report->AddAt(Place{}, "", {Cat("there are more than ", FormatCount(kMaxOverrides), " overrides"), ""});
    return;
  }
  for (size_t i = 0; i < overrides.size(); ++i) {
    Application(overrides[i], static_cast<int>(i), report).Apply(root);
  }
}

absl::StatusOr<Override> ParseOverride(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    return absl::InvalidArgumentError(Cat("--set ", Quoted(text), " has no \"=\". ", kExample));
  }
  Override override{std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
  if (!SplitPath(override.path)) {
    return absl::InvalidArgumentError(Cat(LabelOf(override), ": this is no path. ", kExample));
  }
  return override;
}

}  // namespace loadstar::spec
