#include "lib/spec/reader.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

std::string Described(const Node& node) {
  return node.kind == Node::Kind::kScalar ? Quoted(node.text) : std::string(KindName(node.kind));
}

std::vector<std::string> NamesOf(absl::Span<const KeyInfo> keys) {
  std::vector<std::string> names;
  for (const KeyInfo& info : keys) {
    if (info.supported) names.emplace_back(info.name);
  }
  return names;
}

Flaw UnknownKey(const std::string& key, absl::Span<const KeyInfo> keys, const KeyInfo** meant) {
  const std::vector<std::string> names = NamesOf(keys);
  const std::string nearest = Nearest(key, names);
  Flaw flaw{Cat("unknown key ", Quoted(key)), Cat("Known here: ", JoinWords(names, ", "))};
  for (const KeyInfo& info : keys) {
    if (info.name != nearest) continue;
    *meant = &info;
    flaw.remedy = Cat("Did you mean \"", nearest, "\" (", info.doc, ")?");
  }
  return flaw;
}

}  // namespace

Reader::Reader(const Node& node, std::string path, std::string_view what, absl::Span<const KeyInfo> keys,
               Report* report)
    : node_(node), path_(std::move(path)), keys_(keys), report_(*report) {
  if (node.kind != Node::Kind::kMapping) {
    report->AddAt(node.place, path_,
                  {Cat("found ", Described(node), " where ", what, " is expected"),
                   Cat("Keys: ", JoinWords(NamesOf(keys), ", "))});
    return;
  }
  std::set<std::string_view> present;
  for (const Node::Key& key : node.keys) present.insert(key.text);
  for (const Node::Key& key : node.keys) {
    const auto* const info =
        std::find_if(keys.begin(), keys.end(), [&key](const KeyInfo& known) { return known.name == key.text; });
    if (info != keys.end() && info->supported) continue;
    if (info != keys.end()) {
      report->AddAt(key.place, PathOf(key.text),
                    {Cat(key.text, " is not supported by this version"), Cat("Take it out (", info->doc, ")")});
      continue;
    }
    const KeyInfo* meant = nullptr;
    report->AddAt(key.place, PathOf(key.text), UnknownKey(key.text, keys, &meant));
    if (meant != nullptr && !present.contains(meant->name)) report->Spoil(PathOf(meant->name));
  }
}

const KeyInfo& Reader::Info(std::string_view name) const {
  for (const KeyInfo& info : keys_) {
    if (info.name == name) return info;
  }
  static constexpr KeyInfo kNone{};
  return kNone;
}

const Node* Reader::Find(std::string_view name) const {
  const Node* found = node_.Find(name);
  if (found == nullptr || found->kind != Node::Kind::kNull) return found;
  for (const Node::Key& key : node_.keys) {
    if (key.text != name) continue;
    report_.AddAt(
        key.place, PathOf(name),
        {Cat("the key has no value; ", Info(name).expects, " is expected"), "Give it a value or leave the key out"});
  }
  return nullptr;
}

void Reader::Wrong(std::string_view name, const Node& found, Flaw flaw) const {
  const KeyInfo& info = Info(name);
  if (!info.fallback.empty()) flaw.remedy += Cat(" (left out, it is ", info.fallback, ")");
  report_.AddAt(found.place, PathOf(name), std::move(flaw));
}

void Reader::Expected(std::string_view name, const Node& found) const {
  Wrong(name, found,
        {Cat("found ", Described(found), " where ", Info(name).expects, " is expected"),
         Cat("Write ", Info(name).expects)});
}

const Node* Reader::Scalar(std::string_view name) const {
  const Node* found = Find(name);
  if (found == nullptr || found->kind == Node::Kind::kScalar) return found;
  Expected(name, *found);
  return nullptr;
}

template <typename T, typename Read>
bool Reader::Value(std::string_view name, Read read, T* out) const {
  const Node* found = Scalar(name);
  if (found == nullptr) return false;
  if (MaybeFlaw flaw = read(found->text, out)) {
    Wrong(name, *found, std::move(*flaw));
    return false;
  }
  return true;
}

bool Reader::Text(std::string_view name, std::string* out) const {
  const Node* found = Scalar(name);
  if (found == nullptr) return false;
  *out = found->text;
  return true;
}

std::optional<google::protobuf::Duration> Reader::Duration(std::string_view name) const {
  absl::Duration value;
  if (!Value(name, ReadDuration, &value)) return std::nullopt;
  google::protobuf::Duration duration;
  ToProto(value, &duration);
  return duration;
}

bool Reader::Count(std::string_view name, uint64_t* out) const { return Value(name, ReadCount, out); }

bool Reader::Count(std::string_view name, uint32_t* out) const {
  uint64_t value = 0;
  if (!Value(name, ReadCount, &value)) return false;
  // What does not fit is beyond every bound; the bound's own message says more than "too large for 32 bits".
  *out = static_cast<uint32_t>(std::min<uint64_t>(value, std::numeric_limits<uint32_t>::max()));
  return true;
}

bool Reader::Size(std::string_view name, uint64_t* out) const { return Value(name, ReadSize, out); }

bool Reader::Size(std::string_view name, uint32_t* out) const {
  uint64_t value = 0;
  if (!Value(name, ReadSize, &value)) return false;
  *out = static_cast<uint32_t>(std::min<uint64_t>(value, std::numeric_limits<uint32_t>::max()));
  return true;
}

bool Reader::Texts(std::string_view name, google::protobuf::RepeatedPtrField<std::string>* out) const {
  const Node* found = Find(name);
  if (found == nullptr) return false;
  if (found->kind != Node::Kind::kSequence) {
    Expected(name, *found);
    return false;
  }
  for (size_t i = 0; i < found->items.size(); ++i) {
    const Node& item = found->items[i];
    if (item.kind != Node::Kind::kScalar) {
      report_.AddAt(item.place, Index(PathOf(name), i),
                    {Cat("found ", KindName(item.kind), " in ", Info(name).expects),
                     "Write each item as text, in quotes if need be"});
    }
    *out->Add() = item.text;  // also when it is no text, so that the items' numbers stay those of the document
  }
  return true;
}

bool Reader::Choose(std::string_view name, absl::Span<const Choice> choices, int* out) const {
  const Node* found = Scalar(name);
  if (found == nullptr) return false;
  std::vector<std::string> words;
  for (const Choice& choice : choices) {
    if (choice.supported) words.emplace_back(choice.word);
  }
  for (const Choice& choice : choices) {
    if (choice.word != found->text) continue;
    if (choice.supported) {
      *out = choice.value;
      return true;
    }
    Wrong(name, *found,
          {Cat(name, " ", Quoted(found->text), " is not supported by this version"),
           Cat("Write ", JoinWords(words, " or "))});
    return false;
  }
  const std::string nearest = Nearest(found->text, words);
  Wrong(name, *found,
        {Cat("unknown ", name, " ", Quoted(found->text), "; known: ", JoinWords(words, ", ")),
         nearest.empty() ? Cat("Write ", JoinWords(words, " or ")) : Cat("Did you mean \"", nearest, "\"?")});
  return false;
}

}  // namespace loadstar::spec
