#include "lib/spec/tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <istream>
#include <set>
#include <streambuf>
#include <utility>

#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

// Thrown out of yaml-cpp's event handler, its only way to be stopped; caught in BuildTree.
struct Refusal {
  Place place;
  Flaw flaw;
};

// Reads from a string_view without a copy.
class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view view) {
    char* begin = const_cast<char*>(view.data());  // a get area is never written to
    setg(begin, begin, begin + view.size());
  }
};

class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(int override_index) : override_index_(override_index) {}

  Node Take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Refuse(mark, "", anchor);
    Append(mark, Node::Kind::kNull);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Refusal{PlaceOf(mark), {"aliases (*name) are not allowed", "Write the value out"}};
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Refuse(mark, tag, anchor);
    if (ExpectsKey()) {
      open_.back()->keys.push_back({value, PlaceOf(mark)});
      return;
    }
    Node& node = Append(mark, Node::Kind::kScalar);
    node.text = value;
    node.quoted = tag == "!";
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Refuse(mark, tag, anchor);
    Open(Append(mark, Node::Kind::kSequence));
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Refuse(mark, tag, anchor);
    Open(Append(mark, Node::Kind::kMapping));
  }
  void OnMapEnd() override { open_.pop_back(); }

  Place PlaceOf(const YAML::Mark& mark) const {
    if (mark.is_null()) return Place{override_index_, 0, 0};
    return Place{override_index_, static_cast<uint32_t>(mark.line + 1), static_cast<uint32_t>(mark.column + 1)};
  }

 private:
  bool ExpectsKey() const {
    return !open_.empty() && open_.back()->kind == Node::Kind::kMapping &&
           open_.back()->keys.size() == open_.back()->items.size();
  }

  void Refuse(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) const {
    if (anchor != 0) {
      throw Refusal{PlaceOf(mark), {"anchors (&name) are not allowed", "Write the value out where it is needed"}};
    }
    if (!tag.empty() && tag != "?" && tag != "!") {
      throw Refusal{PlaceOf(mark), {Cat("the tag ", Quoted(tag), " is not allowed"), "Leave the tag out"}};
    }
  }

  Node& Append(const YAML::Mark& mark, Node::Kind kind) {
    if (++count_ > kMaxNodes) {
      throw Refusal{PlaceOf(mark), {Cat("the document has more than ", FormatCount(kMaxNodes), " values"), ""}};
    }
    if (ExpectsKey()) {
      throw Refusal{
          PlaceOf(mark),
          {"a key is no plain text, or a bracket is not closed", "Write keys as text, and check the brackets here"}};
    }
    Node* node = &root_;
    if (!open_.empty()) node = &open_.back()->items.emplace_back();
    node->kind = kind;
    node->place = PlaceOf(mark);
    return *node;
  }

  // The parent's items do not grow, and so do not move, while one of them is open.
  void Open(Node& node) {
    if (open_.size() == kMaxDepth) {
      throw Refusal{node.place, {Cat("values are nested more than ", kMaxDepth, " deep"), ""}};
    }
    open_.push_back(&node);
  }

  const int override_index_;
  size_t count_ = 0;
  Node root_;
  std::vector<Node*> open_;
};

// Reports keys that occur twice and keeps the first.
void DropDuplicateKeys(Node* node, const std::string& path, Report* report) {
  std::set<std::string> seen;
  for (size_t i = 0; i < node->items.size();) {
    std::string item_path = node->kind == Node::Kind::kMapping ? Join(path, node->keys[i].text) : Index(path, i);
    if (node->kind == Node::Kind::kMapping && !seen.insert(node->keys[i].text).second) {
      report->AddAt(node->keys[i].place, item_path,
                    {Cat("the key ", Quoted(node->keys[i].text), " is there twice"), "Keep one of them"});
      node->keys.erase(node->keys.begin() + static_cast<std::ptrdiff_t>(i));
      node->items.erase(node->items.begin() + static_cast<std::ptrdiff_t>(i));
      continue;
    }
    DropDuplicateKeys(&node->items[i], item_path, report);
    ++i;
  }
}

size_t SequenceLength(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

bool IsContinued(std::string_view sequence) {
  for (const char c : sequence.substr(1)) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) return false;
  }
  const auto lead = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() < 3) return true;
  const auto second = static_cast<unsigned char>(sequence[1]);
  // Overlong forms, surrogates, and what lies beyond Unicode.
  return !(lead == 0xE0 && second < 0xA0) && !(lead == 0xED && second > 0x9F) && !(lead == 0xF0 && second < 0x90) &&
         !(lead == 0xF4 && second > 0x8F);
}

}  // namespace

const Node* Node::Find(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].text == key) return &items[i];
  }
  return nullptr;
}

Node* Node::Find(std::string_view key) { return const_cast<Node*>(std::as_const(*this).Find(key)); }

std::string_view KindName(Node::Kind kind) {
  switch (kind) {
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kScalar:
      return "a value";
    case Node::Kind::kSequence:
      return "a list";
    case Node::Kind::kMapping:
      return "a mapping";
  }
  return "";
}

bool IsText(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto lead = static_cast<unsigned char>(bytes[0]);
    if ((lead < 0x20 && lead != '\t' && lead != '\n' && lead != '\r') || lead == 0x7F) return false;
    const size_t length = SequenceLength(lead);
    if (length == 0 || length > bytes.size() || !IsContinued(bytes.substr(0, length))) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

bool BuildTree(std::string_view text, std::string_view field, int override_index, Report* report, Node* root) {
  const Place nowhere{override_index, 0, 0};
  if (text.size() > kMaxDocumentBytes) {
    report->AddAt(nowhere, field, {Cat("the text has ", text.size(), " bytes; at most 1 MiB is read"), ""});
    return false;
  }
  if (!IsText(text)) {
    report->AddAt(nowhere, field, {"this is no text but binary data", "Give a YAML document in UTF-8"});
    return false;
  }
  TreeBuilder builder(override_index);
  try {
    ViewBuffer buffer(text);
    std::istream stream(&buffer);
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      report->AddAt(nowhere, field, {"the document is empty", ""});
      return false;
    }
    Node first = builder.Take();
    TreeBuilder second(override_index);
    if (parser.HandleNextDocument(second)) {
      report->AddAt(second.Take().place, field,
                    {"there is a second document after ---", "Put it into a file of its own"});
      return false;
    }
    *root = std::move(first);
  } catch (const Refusal& refusal) {
    report->AddAt(refusal.place, field, refusal.flaw);
    return false;
  } catch (const YAML::Exception& error) {
    report->AddAt(builder.PlaceOf(error.mark), field,
                  {Cat("this is not YAML: ", error.msg), "Check the indentation, quotes and brackets here"});
    return false;
  }
  DropDuplicateKeys(root, std::string(field), report);
  return true;
}

Place Locate(const Node& root, std::string_view path) {
  const Node* node = &root;
  Place place = root.place;
  while (!path.empty()) {
    if (path[0] == '[') {
      const size_t close = path.find(']');
      size_t index = 0;
      if (close == std::string_view::npos || node->kind != Node::Kind::kSequence ||
          !ReadDigits(path.substr(1, close - 1), &index) || index >= node->items.size()) {
        return place;
      }
      node = &node->items[index];
      place = node->place;
      path.remove_prefix(close + 1);
    } else {
      if (path[0] == '.') path.remove_prefix(1);
      const size_t end = path.find_first_of(".[");
      const std::string_view key = path.substr(0, end);
      size_t at = 0;
      while (at < node->keys.size() && node->keys[at].text != key) ++at;
      if (at == node->keys.size()) return place;
      place = node->keys[at].place;
      node = &node->items[at];
      path = end == std::string_view::npos ? std::string_view() : path.substr(end);
    }
  }
  // A value on the line of its key is shown itself; a block below it, or nothing at all, by its key.
  if (node->kind == Node::Kind::kScalar) return node->place;
  return place;
}

}  // namespace loadstar::spec
