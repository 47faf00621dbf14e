#include "agent/tuner/daemon_json.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "agent/tuner/descriptor_limit.h"

namespace loadstar::agent {
namespace {

using nlohmann::json;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kBlanks = " \t\r\n";
constexpr char kUlimits[] = "default-ulimits";
constexpr char kFiles[] = "nofile";
// Comparing parsed documents takes stack for each level.
constexpr size_t kMostLevels = 64;

bool IsBlank(char c) { return kBlanks.find(c) != std::string_view::npos; }

// What a message may quote of a file: it goes into a protobuf string, and to a terminal.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
  }
  return text;
}

// A part of the text.
struct Span {
  size_t begin = 0;
  size_t end = 0;
};

struct Member {
  std::string key;
  Span name;  // with its quotes
  Span value;
};

const Member* Find(const std::vector<Member>& members, std::string_view key) {
  const auto found = std::find_if(members.begin(), members.end(), [key](const Member& m) { return m.key == key; });
  return found == members.end() ? nullptr : &*found;
}

// Accepts everything and keeps the place and the words of what is no JSON.
class SyntaxCheck final : public nlohmann::json_sax<json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    at = position == 0 ? 0 : position - 1;
    what = error.what();
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ..."
    if (const size_t end = what.find("] "); end != std::string::npos) what.erase(0, end + 2);
    if (what.rfind("parse error", 0) == 0) what.erase(0, std::min(what.size(), what.find(": ")) + 2);
    return false;
  }

  size_t at = 0;
  std::string what;
};

// A text of JSON and where things are in it. Positions are asked for only after Check found it sound.
class Document {
 public:
  Document(std::string file, std::string_view text) : file_(std::move(file)), text_(text) {
    if (text_.substr(0, kByteOrderMark.size()) == kByteOrderMark) start_ = kByteOrderMark.size();
    start_ = AfterBlanks(start_);
  }

  std::string_view text() const { return text_; }
  bool empty() const { return start_ == text_.size(); }
  Span root() const { return {start_, ValueEnd(start_)}; }
  std::string_view TextOf(Span span) const { return text_.substr(span.begin, span.end - span.begin); }
  bool IsObject(Span value) const { return text_[value.begin] == '{'; }

  absl::Status Flaw(size_t at, const std::string& what) const {
    at = std::min(at, text_.size());
    size_t line = 1;
    size_t column = 1;
    for (const char c : text_.substr(0, at)) {
      if (c == '\n') {
        ++line;
        column = 1;
      } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {  // a character may be several bytes
        ++column;
      }
    }
    return absl::InvalidArgumentError(absl::StrCat(file_, ":", line, ":", column, ": ", Printable(what)));
  }

  absl::Status Check() const {
    // The library takes it for the end, outside of strings, and does not look at what follows.
    if (const size_t zero = text_.find('\0'); zero != std::string_view::npos) return Flaw(zero, "no JSON: a zero byte");
    SyntaxCheck check;
    if (!json::sax_parse(text_.begin(), text_.end(), &check)) return Flaw(check.at, "no JSON: " + check.what);
    return CheckKeys();
  }

  std::string Decoded(Span string) const {
    const std::string_view token = TextOf(string);
    return json::parse(token.begin(), token.end(), nullptr, false).get<std::string>();
  }

  std::vector<Member> MembersOf(Span object) const {
    std::vector<Member> members;
    size_t at = AfterBlanks(object.begin + 1);
    while (text_[at] != '}') {
      Member member;
      member.name = {at, ValueEnd(at)};
      member.key = Decoded(member.name);
      at = AfterBlanks(AfterBlanks(member.name.end) + 1);  // the colon
      member.value = {at, ValueEnd(at)};
      members.push_back(std::move(member));
      at = AfterBlanks(members.back().value.end);
      if (text_[at] == ',') at = AfterBlanks(at + 1);
    }
    return members;
  }

  // The blanks in front of a place.
  std::string BlanksBefore(size_t at) const {
    size_t begin = at;
    while (begin > 0 && IsBlank(text_[begin - 1])) --begin;
    return std::string(text_.substr(begin, at - begin));
  }

  // The blanks with which the line of a place begins.
  std::string IndentOf(size_t at) const {
    const size_t newline = at == 0 ? std::string_view::npos : text_.rfind('\n', at - 1);
    const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    return std::string(text_.substr(begin, std::min(text_.find_first_not_of(" \t", begin), at) - begin));
  }

 private:
  size_t AfterBlanks(size_t at) const { return std::min(text_.find_first_not_of(kBlanks, at), text_.size()); }

  size_t StringEnd(size_t at) const {
    for (++at; text_[at] != '"';) at += text_[at] == '\\' ? 2 : 1;
    return at + 1;
  }

  size_t ValueEnd(size_t at) const {
    if (text_[at] == '"') return StringEnd(at);
    if (text_[at] != '{' && text_[at] != '[') return std::min(text_.find_first_of(",]} \t\r\n", at), text_.size());
    for (size_t open = 0;;) {
      const char c = text_[at];
      if (c == '"') {
        at = StringEnd(at);
        continue;
      }
      ++at;
      if (c == '{' || c == '[') ++open;
      if ((c == '}' || c == ']') && --open == 0) return at;
    }
  }

  // Docker takes the last one of two keys, other readers the first one: which counts is not for us to choose.
  absl::Status CheckKeys() const {
    struct Level {
      bool object = false;
      std::set<std::string> keys = {};
    };
    std::vector<Level> levels;
    bool key_follows = false;
    for (size_t at = start_; at < text_.size();) {
      const char c = text_[at];
      if (c == '"') {
        const Span string = {at, StringEnd(at)};
        if (key_follows && !levels.back().keys.insert(Decoded(string)).second) {
          return Flaw(at, absl::StrCat("the key ", std::string(TextOf(string)), " is in this object already"));
        }
        key_follows = false;
        at = string.end;
        continue;
      }
      if (c == '{' || c == '[') levels.push_back({.object = c == '{'});
      if (levels.size() > kMostLevels) return Flaw(at, absl::StrCat("more than ", kMostLevels, " levels"));
      if (c == '}' || c == ']') levels.pop_back();
      if (!IsBlank(c)) key_follows = c == '{' || (c == ',' && levels.back().object);
      ++at;
    }
    return absl::OkStatus();
  }

  const std::string file_;
  const std::string_view text_;
  size_t start_ = 0;
};

// ---- What is written

// How the document is laid out, as far as what is added should be, too.
struct Style {
  bool lines = true;  // one member a line
  std::string newline = "\n";
  std::string indent = "  ";  // of one level
  std::string colon = ": ";
  std::string comma = ", ";  // between members on one line
};

// Where a value begins.
struct Place {
  bool lines = true;
  std::string indent;  // of its line
};
using Value = std::function<std::string(const Style&, const Place&)>;
using Additions = std::vector<std::pair<std::string, Value>>;

std::string Render(const Style& style, const Place& place, const Additions& members) {
  const Place inside = {.lines = place.lines, .indent = place.indent + style.indent};
  std::string text = "{";
  bool first = true;
  for (const auto& [key, value] : members) {
    if (!first) text += place.lines ? "," : style.comma;
    first = false;
    if (place.lines) text += style.newline + inside.indent;
    text += absl::StrCat("\"", key, "\"", style.colon, value(style, inside));
  }
  if (place.lines) text += style.newline + place.indent;
  return text + "}";
}

Value Scalar(std::string text) {
  return [text = std::move(text)](const Style&, const Place&) { return text; };
}

Value Object(Additions members) {
  return
      [members = std::move(members)](const Style& style, const Place& place) { return Render(style, place, members); };
}

Additions NewLimit(const os::DescriptorLimit& wanted) {
  return {{"Name", Scalar("\"nofile\"")},
          {"Soft", Scalar(std::to_string(wanted.soft))},
          {"Hard", Scalar(std::to_string(wanted.hard))}};
}

Style StyleOf(const Document& document, const std::vector<Member>& members) {
  Style style;
  if (document.text().find("\r\n") != std::string_view::npos) style.newline = "\r\n";
  if (members.empty()) return style;
  const Member& first = members.front();
  const std::string before = document.BlanksBefore(first.name.begin);
  style.lines = before.find('\n') != std::string::npos;
  if (style.lines) style.indent = before.substr(before.rfind('\n') + 1);
  const std::string colon(document.TextOf({first.name.end, first.value.begin}));
  if (colon.find('\n') == std::string::npos) style.colon = colon;
  if (style.colon.back() == ':') style.comma = ",";
  return style;
}

struct Edit {
  Span span;
  std::string text;
};

// Behind the object's last member, on a line of their own if that is.
Edit Add(const Document& document, const Style& style, Span object, const Additions& additions) {
  const std::vector<Member> members = document.MembersOf(object);
  if (members.empty()) {
    return {object, Render(style, {.lines = style.lines, .indent = document.IndentOf(object.begin)}, additions)};
  }
  const std::string before = document.BlanksBefore(members.back().name.begin);
  Place place = {.lines = before.find('\n') != std::string::npos, .indent = ""};
  std::string gap = style.comma.substr(1);
  if (place.lines) {
    place.indent = before.substr(before.rfind('\n') + 1);
    gap = style.newline + place.indent;
  }
  const size_t end = members.back().value.end;
  Edit edit = {{end, end}, ""};
  for (const auto& [key, value] : additions) {
    edit.text += absl::StrCat(",", gap, "\"", key, "\"", style.colon, value(style, place));
  }
  return edit;
}

// ---- What is there

// The entry nofile of default-ulimits. Go's decoder takes its keys in upper and lower case.
struct Entry {
  std::optional<Member> name;
  std::optional<Member> soft;
  std::optional<Member> hard;
  os::DescriptorLimit limit;  // what is left out is 0, as it is for Docker
};

absl::StatusOr<uint64_t> ReadNumber(const Document& document, Span value) {
  const std::string_view text = document.TextOf(value);
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < -1) {
    return document.Flaw(value.begin, "expected a whole number, or -1 for no limit");
  }
  return number < 0 ? kUnlimited : static_cast<uint64_t>(number);
}

std::string Lower(std::string text) {
  absl::AsciiStrToLower(&text);
  return text;
}

bool IsNameOfFiles(const Document& document, const Member& member) {
  return Lower(member.key) == "name" && document.TextOf(member.value).front() == '"' &&
         Lower(document.Decoded(member.value)) == kFiles;
}

absl::StatusOr<Entry> ReadEntry(const Document& document, const Member& files) {
  if (!document.IsObject(files.value)) {
    return document.Flaw(files.value.begin, "expected an object with Name, Soft and Hard");
  }
  Entry entry;
  for (Member& member : document.MembersOf(files.value)) {
    const std::string key = Lower(member.key);
    std::optional<Member>* const part = key == "name"   ? &entry.name
                                        : key == "soft" ? &entry.soft
                                        : key == "hard" ? &entry.hard
                                                        : nullptr;
    if (part == nullptr || part->has_value()) {
      return document.Flaw(member.name.begin, "expected Name, Soft and Hard, each once");
    }
    if (part == &entry.name) {
      if (!IsNameOfFiles(document, member)) return document.Flaw(member.value.begin, "expected \"nofile\"");
    } else {
      absl::StatusOr<uint64_t> number = ReadNumber(document, member.value);
      if (!number.ok()) return number.status();
      (part == &entry.soft ? entry.limit.soft : entry.limit.hard) = *number;
    }
    *part = std::move(member);
  }
  if (entry.limit.soft > entry.limit.hard) {
    return document.Flaw(files.value.begin, "Soft is above Hard, which no container can be started with");
  }
  return entry;
}

// What the document says of limits.
struct Found {
  std::vector<Member> top = {};
  std::optional<Member> ulimits = {};
  std::optional<Entry> entry = {};
  Span files = {};  // of the entry
};

absl::StatusOr<Found> Read(const Document& document) {
  if (absl::Status sound = document.Check(); !sound.ok()) return sound;
  if (!document.IsObject(document.root())) return document.Flaw(document.root().begin, "expected an object");
  Found found = {.top = document.MembersOf(document.root())};
  const Member* const ulimits = Find(found.top, kUlimits);
  if (ulimits == nullptr) return found;
  if (!document.IsObject(ulimits->value)) {
    return document.Flaw(ulimits->value.begin, "expected an object, one entry for each limit");
  }
  found.ulimits = *ulimits;
  for (const Member& member : document.MembersOf(ulimits->value)) {
    if (member.key == kFiles) {
      absl::StatusOr<Entry> entry = ReadEntry(document, member);
      if (!entry.ok()) return entry.status();
      found.entry = *std::move(entry);
      found.files = member.value;
      continue;
    }
    // Docker goes by the names in the entries, and would set the limit twice, in an order that is not told.
    bool same = Lower(member.key) == kFiles;
    if (document.IsObject(member.value)) {
      for (const Member& part : document.MembersOf(member.value)) same |= IsNameOfFiles(document, part);
    }
    if (same) return document.Flaw(member.name.begin, "a limit of open files that is not under \"nofile\"");
  }
  return found;
}

// ---- Together

// Everything but the limit.
json Rest(std::string_view text) {
  json document = json::parse(text.begin(), text.end(), nullptr, false);
  if (document.is_object() && document.contains(kUlimits) && document[kUlimits].is_object()) {
    document[kUlimits].erase(kFiles);
    if (document[kUlimits].empty()) document.erase(kUlimits);
  }
  return document;
}

std::vector<Edit> Edits(const Document& document, const Found& found, const os::DescriptorLimit& wanted) {
  const Style style = StyleOf(document, found.top);
  if (!found.ulimits.has_value()) {
    return {Add(document, style, document.root(), {{kUlimits, Object({{kFiles, Object(NewLimit(wanted))}})}})};
  }
  if (!found.entry.has_value()) {
    return {Add(document, style, found.ulimits->value, {{kFiles, Object(NewLimit(wanted))}})};
  }
  const Entry& entry = *found.entry;
  std::vector<Edit> edits;
  Additions missing;
  const auto raise = [&](const char* key, const std::optional<Member>& part, uint64_t now, uint64_t to) {
    if (!part.has_value()) {
      missing.emplace_back(key, Scalar(std::to_string(to)));
    } else if (now < to) {
      edits.push_back({part->value, std::to_string(to)});
    }
  };
  if (!entry.name.has_value()) missing.emplace_back("Name", Scalar("\"nofile\""));
  raise("Soft", entry.soft, entry.limit.soft, wanted.soft);
  raise("Hard", entry.hard, entry.limit.hard, wanted.hard);
  if (!missing.empty()) edits.push_back(Add(document, style, found.files, missing));
  return edits;
}

}  // namespace

absl::StatusOr<DaemonJson> ReadDaemonJson(const std::string& file, std::string_view text) {
  const Document document(file, text);
  DaemonJson read = {.text = std::string(text)};
  if (document.empty()) return read;
  const absl::StatusOr<Found> found = Read(document);
  if (!found.ok()) return found.status();
  if (found->entry.has_value()) read.limit = found->entry->limit;
  return read;
}

absl::StatusOr<DaemonJson> MergeDaemonJson(const std::string& file, std::string_view text,
                                           const os::DescriptorLimit& wanted) {
  if (wanted.soft == 0 || wanted.soft > wanted.hard || wanted.hard > INT64_MAX) {
    return absl::InvalidArgumentError(absl::StrCat(ToText(wanted), " is no limit of open files"));
  }
  const Document document(file, text);
  if (document.empty()) {
    const Additions all = {{kUlimits, Object({{kFiles, Object(NewLimit(wanted))}})}};
    return DaemonJson{.text = Render({}, {}, all) + "\n", .limit = wanted};
  }
  const absl::StatusOr<Found> found = Read(document);
  if (!found.ok()) return found.status();
  const bool complete = found->entry.has_value() && found->entry->name.has_value();
  if (complete && Covers(found->entry->limit, wanted)) {
    return DaemonJson{.text = std::string(text), .limit = found->entry->limit};
  }
  std::vector<Edit> edits = Edits(document, *found, wanted);
  std::sort(edits.begin(), edits.end(),
            [](const Edit& one, const Edit& other) { return one.span.begin > other.span.begin; });
  std::string merged(text);
  for (const Edit& edit : edits) merged.replace(edit.span.begin, edit.span.end - edit.span.begin, edit.text);

  // The file is somebody else's: what is about to be written over it is read once more.
  absl::StatusOr<DaemonJson> read = ReadDaemonJson(file, merged);
  if (!read.ok()) return absl::InternalError(absl::StrCat("the merged text is refused: ", read.status().ToString()));
  if (!read->limit.has_value() || !Covers(*read->limit, wanted) || Rest(text) != Rest(merged)) {
    return absl::InternalError(absl::StrCat(file, ": the merged text is not what it should be; nothing was changed"));
  }
  return read;
}

}  // namespace loadstar::agent
