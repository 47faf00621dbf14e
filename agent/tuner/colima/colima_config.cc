#include "agent/tuner/colima/colima_config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "lib/os/lines.h"
#include "lib/spec/report.h"
#include "lib/spec/spec.h"
#include "lib/spec/sysctl_key.h"
#include "lib/spec/text.h"
#include "lib/spec/tree.h"

namespace loadstar::agent {
namespace {

using spec::Cat;
using spec::Node;

// A line of the script: how ours is told from the user's.
constexpr std::string_view kMark = "# made by loadstar-colima";

constexpr std::string_view kFunctions = R"sh(
fail() { echo "loadstar: $*" >&2; }
larger() { if expr "$1" '<' "$2" >/dev/null; then echo "$2"; else echo "$1"; fi; }
smaller() { if expr "$1" '<' "$2" >/dev/null; then echo "$1"; else echo "$2"; fi; }

# have MODULE FILE: whether there is such a setting, once the module that brings it is loaded; "-" is the kernel itself.
have() {
  [ -e "$2" ] || [ "$1" = - ] || modprobe -- "$1"
  [ -e "$2" ] || { fail "there is no $2"; return 1; }
}
# put FILE VALUE: writes it unless it is there.
put() {
  [ "$(tr '\t' ' ' <"$1")" = "$2" ] || echo "$2" >"$1" || fail "$1 does not take $2"
}
# at_least MODULE FILE NUMBER...: each number is raised to this.
at_least() {
  have "$1" "$2" || return 0
  file=$2 all=''
  shift 2
  for now in $(cat "$file"); do
    [ $# -gt 0 ] || { fail "$file has more numbers than are wanted"; return 0; }
    all="$all $(larger "$now" "$1")"
    shift
  done
  [ $# -eq 0 ] || { fail "$file has fewer numbers than are wanted"; return 0; }
  put "$file" "${all# }"
}
# covers MODULE FILE FIRST LAST: the range is widened to take this in.
covers() {
  have "$1" "$2" || return 0
  # Not by read: that takes byte after byte, and the kernel gives a setting's value to the first one alone.
  now=$(tr '\t' ' ' <"$2")
  put "$2" "$(smaller "${now%% *}" "$3") $(larger "${now##* }" "$4")"
}
# includes MODULE FILE PORTS: the kernel joins ranges that overlap.
includes() {
  have "$1" "$2" || return 0
  now=$(cat "$2")
  put "$2" "${now:+$now,}$3"
}
# exactly MODULE FILE VALUE
exactly() {
  have "$1" "$2" || return 0
  put "$2" "$3"
}

)sh";

absl::Status Refused(spec::Report* report, const Node& root) {
  const spec::Problems problems =
      report->Finish("colima.yaml", {}, [&root](std::string_view field) { return spec::Locate(root, field); });
  return absl::InvalidArgumentError(spec::ToString(problems));
}

// The text as a tree; a mapping without keys when there is nothing in it.
absl::StatusOr<Node> Read(std::string_view text) {
  Node root;
  root.kind = Node::Kind::kMapping;
  spec::Report report;
  const std::vector<std::string_view> lines = os::Lines(text);
  const auto says_nothing = [](std::string_view whole) {
    const std::string_view line = spec::Trim(whole);
    return line.empty() || line.starts_with('#');
  };
  if (std::all_of(lines.begin(), lines.end(), says_nothing)) return root;
  spec::BuildTree(text, "", -1, &report, &root);
  if (report.empty() && root.kind != Node::Kind::kMapping) {
    report.AddAt(root.place, "", {"this is no mapping", "Write keys with values, such as cpu: 12"});
  }
  if (!report.empty()) return Refused(&report, root);
  return root;
}

Node Scalar(std::string text, bool quoted = false) {
  Node node;
  node.kind = Node::Kind::kScalar;
  node.text = std::move(text);
  node.quoted = quoted;
  return node;
}

Node& Put(Node* mapping, std::string_view key, Node value) {
  if (Node* found = mapping->Find(key); found != nullptr) return *found = std::move(value);
  mapping->keys.push_back({std::string(key), {}});
  return mapping->items.emplace_back(std::move(value));
}

// As Put, and nothing when the text is there already, in quotes or not.
void Say(Node* mapping, std::string_view key, std::string text) {
  const Node* found = mapping->Find(key);
  if (found == nullptr || found->kind != Node::Kind::kScalar || found->text != text) {
    Put(mapping, key, Scalar(std::move(text)));
  }
}

// The value of a key, made when it is absent or says nothing; nullptr, with a problem, when it is of another kind.
Node* Within(Node* mapping, std::string_view key, Node::Kind kind, const std::string& path, spec::Report* report) {
  Node* found = mapping->Find(key);
  if (found == nullptr || found->kind == Node::Kind::kNull) {
    Node made;
    made.kind = kind;
    return &Put(mapping, key, std::move(made));
  }
  if (found->kind == kind) return found;
  report->AddAt(found->place, path,
                {Cat("here is ", spec::KindName(found->kind), " where ", spec::KindName(kind), " is expected"),
                 "Write what Colima expects there, or take the key out"});
  return nullptr;
}

bool Same(const Node& one, const Node& other) {
  if (one.kind != other.kind || one.text != other.text || one.quoted != other.quoted ||
      one.keys.size() != other.keys.size() || one.items.size() != other.items.size()) {
    return false;
  }
  for (size_t i = 0; i < one.keys.size(); ++i) {
    if (one.keys[i].text != other.keys[i].text) return false;
  }
  return std::equal(one.items.begin(), one.items.end(), other.items.begin(), Same);
}

// Whether a text may be written as a block of lines, which keeps exactly one line's end and no blanks in front.
bool FitsBlock(const std::string& text) {
  return text.size() > 2 && text.find('\n') + 1 < text.size() && text.ends_with('\n') && !text.ends_with("\n\n") &&
         text.front() != ' ' && text.front() != '\n' && text.front() != '\t' && text.find('\r') == std::string::npos;
}

// A key that no reader of YAML takes for anything but text.
bool IsPlainKey(const std::string& key) {
  const std::string lower = spec::Lower(key);
  for (const char* word : {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}) {
    if (lower == word) return false;
  }
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return !key.empty() && is_letter(key.front()) && std::all_of(key.begin(), key.end(), [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == '/';
  });
}

void Emit(const Node& node, YAML::Emitter* out) {
  switch (node.kind) {
    case Node::Kind::kNull:
      *out << YAML::Null;
      return;
    case Node::Kind::kScalar:
      if (node.quoted) *out << (FitsBlock(node.text) ? YAML::Literal : YAML::DoubleQuoted);
      *out << node.text;
      return;
    case Node::Kind::kSequence:
      *out << YAML::BeginSeq;
      for (const Node& item : node.items) Emit(item, out);
      *out << YAML::EndSeq;
      return;
    case Node::Kind::kMapping:
      *out << YAML::BeginMap;
      for (size_t i = 0; i < node.items.size(); ++i) {
        *out << YAML::Key;
        if (!IsPlainKey(node.keys[i].text)) *out << YAML::DoubleQuoted;
        *out << node.keys[i].text << YAML::Value;
        Emit(node.items[i], out);
      }
      *out << YAML::EndMap;
  }
}

template <typename Number>
std::optional<Number> NumberOf(const Node* node) {
  if (node == nullptr || node->kind != Node::Kind::kScalar) return std::nullopt;
  Number number{};
  const char* const end = node->text.data() + node->text.size();
  const auto read = std::from_chars(node->text.data(), end, number);
  if (read.ec != std::errc() || read.ptr != end) return std::nullopt;
  return number;
}

bool IsOurs(const Node& script) {
  const Node* text = script.Find("script");
  return text != nullptr && text->text.find(kMark) != std::string::npos;
}

// One end of the engine's limit, as the user's daemon.json may spell it: Go takes any case.
template <typename AnyNode>
AnyNode* FindAnyCase(AnyNode* mapping, const std::string& lower) {
  for (size_t i = 0; i < mapping->keys.size(); ++i) {
    if (spec::Lower(mapping->keys[i].text) == lower) return &mapping->items[i];
  }
  return nullptr;
}

// -1 is the engine's "no limit".
void RaiseLimit(Node* limit, const char* name, uint64_t number) {
  Node* now = FindAnyCase(limit, spec::Lower(name));
  if (now == nullptr) {
    Put(limit, name, Scalar(std::to_string(number)));
    return;
  }
  if (now->text == "-1") return;
  if (const std::optional<uint64_t> has = NumberOf<uint64_t>(now); has.has_value() && *has >= number) return;
  *now = Scalar(std::to_string(number));
}

void SetDescriptors(const v1::DescriptorLimits& limits, Node* root, spec::Report* report) {
  Node* docker = Within(root, "docker", Node::Kind::kMapping, "docker", report);
  if (docker == nullptr) return;
  Node* ulimits = Within(docker, "default-ulimits", Node::Kind::kMapping, "docker.default-ulimits", report);
  if (ulimits == nullptr) return;
  Node* limit = Within(ulimits, "nofile", Node::Kind::kMapping, "docker.default-ulimits.nofile", report);
  if (limit == nullptr) return;
  if (FindAnyCase(limit, "name") == nullptr) Put(limit, "Name", Scalar("nofile"));
  RaiseLimit(limit, "Soft", limits.soft());
  RaiseLimit(limit, "Hard", limits.hard());
}

void SetScript(const v1::TuningProfile& profile, Node* root, spec::Report* report) {
  Node* scripts = Within(root, "provision", Node::Kind::kSequence, "provision", report);
  if (scripts == nullptr) return;
  Node ours;
  ours.kind = Node::Kind::kMapping;
  Put(&ours, "mode", Scalar("system"));
  Put(&ours, "script", Scalar(ProvisionScript(profile), /*quoted=*/true));
  const auto old = std::find_if(scripts->items.begin(), scripts->items.end(), IsOurs);
  if (old == scripts->items.end()) {
    scripts->items.push_back(std::move(ours));
  } else {
    *old = std::move(ours);
  }
}

// "/proc/sys/net/core/somaxconn". A key has no other separators than its dots (IsSysctlKey).
std::string FileOf(const std::string& root, const std::string& key) {
  std::string path = key;
  std::replace(path.begin(), path.end(), '.', '/');
  return Cat(root, "/", path);
}

std::string Ports(const v1::SysctlSetting& setting) {
  std::string text;
  for (int i = 0; i + 1 < setting.values_size(); i += 2) {
    text += Cat(text.empty() ? "" : ",", setting.values(i));
    if (setting.values(i + 1) != setting.values(i)) text += Cat("-", setting.values(i + 1));
  }
  return text;
}

std::string Blanked(const v1::SysctlSetting& setting) {
  std::string text;
  for (const uint64_t value : setting.values()) text += Cat(text.empty() ? "" : " ", value);
  return text;
}

std::string ScriptLine(const v1::SysctlSetting& setting, const std::string& root) {
  const std::string where =
      Cat(" ", setting.module().empty() ? "-" : setting.module(), " ", FileOf(root, setting.key()), " ");
  switch (setting.policy()) {
    case v1::SYSCTL_POLICY_EXACTLY:
      return Cat("exactly", where, "'", Blanked(setting), "'\n");
    case v1::SYSCTL_POLICY_COVERS:
      return Cat("covers", where, Blanked(setting), "\n");
    case v1::SYSCTL_POLICY_INCLUDES:
      return Cat("includes", where, Ports(setting), "\n");
    default:
      return Cat("at_least", where, Blanked(setting), "\n");
  }
}

// A value further down, or nullptr.
const Node* At(const Node& root, const std::vector<std::string_view>& path) {
  const Node* node = &root;
  for (const std::string_view key : path) {
    node = node->kind == Node::Kind::kMapping ? node->Find(key) : nullptr;
    if (node == nullptr) return nullptr;
  }
  return node;
}

bool SameAt(const Node& one, const Node& other, const std::vector<std::string_view>& path) {
  const Node* first = At(one, path);
  const Node* second = At(other, path);
  return first == nullptr || second == nullptr ? first == second : Same(*first, *second);
}

void Erase(Node* mapping, std::string_view key) {
  for (size_t i = 0; i < mapping->keys.size(); ++i) {
    if (mapping->keys[i].text != key) continue;
    mapping->keys.erase(mapping->keys.begin() + static_cast<std::ptrdiff_t>(i));
    mapping->items.erase(mapping->items.begin() + static_cast<std::ptrdiff_t>(i));
    return;
  }
}

// Makes the value at a path what it is in `before`. Mappings that are empty without it, and were not there, go as well.
void PutBack(const Node& before, const std::vector<std::string_view>& path, Node* root) {
  std::vector<Node*> mappings = {root};
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    Node* inner = mappings.back()->Find(path[i]);
    if (inner == nullptr || inner->kind != Node::Kind::kMapping) return;
    mappings.push_back(inner);
  }
  if (const Node* was = At(before, path); was != nullptr) {
    Put(mappings.back(), path.back(), *was);
    return;
  }
  Erase(mappings.back(), path.back());
  for (size_t depth = path.size() - 1; depth > 0; --depth) {
    const std::vector<std::string_view> outer(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(depth));
    if (!mappings[depth]->keys.empty() || At(before, outer) != nullptr) return;
    Erase(mappings[depth - 1], path[depth - 1]);
  }
}

// The tree as a text, which reads back as it.
absl::StatusOr<std::string> Written(const Node& root) {
  YAML::Emitter out;
  Emit(root, &out);
  std::string text = Cat(std::string_view(out.c_str(), out.size()), "\n");
  // What a person wrote is about to be replaced: only by what reads as it should.
  const absl::StatusOr<Node> after = Read(text);
  if (!out.good() || !after.ok() || !Same(*after, root)) {
    return absl::InvalidArgumentError(
        "colima.yaml has something in it that cannot be written back as it is. Write its values plainly, or move the "
        "file away and have it made anew");
  }
  return text;
}

std::string TextOf(const Node& root, std::string_view key) {
  const Node* found = root.Find(key);
  return found != nullptr && found->kind == Node::Kind::kScalar ? found->text : "";
}

}  // namespace

absl::StatusOr<ColimaConfig> ReadConfig(std::string_view text) {
  const absl::StatusOr<Node> root = Read(text);
  if (!root.ok()) return root.status();
  ColimaConfig config;
  config.cpus = NumberOf<uint64_t>(root->Find("cpu")).value_or(0);
  // Also false of what is no number.
  if (const double gib = NumberOf<double>(root->Find("memory")).value_or(0); gib > 0 && gib < 1e9) {
    config.memory_gib = gib;
  }
  config.disk_gib = NumberOf<uint64_t>(root->Find("disk")).value_or(0);
  config.arch = TextOf(*root, "arch");
  config.runtime = TextOf(*root, "runtime");
  config.vm_type = TextOf(*root, "vmType");
  config.mount_type = TextOf(*root, "mountType");
  if (const Node* limit = At(*root, {"docker", "default-ulimits", "nofile"}); limit != nullptr) {
    config.soft_descriptors = NumberOf<uint64_t>(FindAnyCase(limit, "soft")).value_or(0);
    config.hard_descriptors = NumberOf<uint64_t>(FindAnyCase(limit, "hard")).value_or(0);
  }
  const Node* scripts = root->Find("provision");
  config.ours = scripts != nullptr && std::any_of(scripts->items.begin(), scripts->items.end(), IsOurs);
  return config;
}

absl::StatusOr<std::string> MergeConfig(std::string_view existing, const v1::TuningProfile& profile,
                                        const StartOptions& options) {
  const absl::StatusOr<Node> before = Read(existing);
  if (!before.ok()) return before.status();
  Node root = *before;
  spec::Report report;
  if (options.cpus > 0) Say(&root, "cpu", std::to_string(options.cpus));
  if (options.memory_gib > 0) Say(&root, "memory", std::to_string(options.memory_gib));
  if (options.disk_gib > 0) Say(&root, "disk", std::to_string(options.disk_gib));
  if (!options.vm_type.empty()) Say(&root, "vmType", options.vm_type);
  Say(&root, "runtime", "docker");
  if (profile.has_descriptors()) SetDescriptors(profile.descriptors(), &root, &report);
  SetScript(profile, &root, &report);
  if (!report.empty()) return Refused(&report, *before);
  if (Same(root, *before)) return std::string(existing);

  return Written(root);
}

std::string WantedText(const v1::SysctlSetting& setting) {
  return setting.policy() == v1::SYSCTL_POLICY_INCLUDES ? Ports(setting) : Blanked(setting);
}

bool SameConfig(std::string_view one, std::string_view other) {
  if (one == other) return true;
  const absl::StatusOr<Node> first = Read(one);
  const absl::StatusOr<Node> second = Read(other);
  return first.ok() && second.ok() && Same(*first, *second);
}

absl::StatusOr<RestoredConfig> RestoreConfig(std::string_view now, std::string_view left, std::string_view before) {
  const absl::StatusOr<Node> is = Read(now);
  const absl::StatusOr<Node> ours = Read(left);
  const absl::StatusOr<Node> was = Read(before);
  for (const absl::StatusOr<Node>* read : {&is, &ours, &was}) {
    if (!read->ok()) return read->status();
  }
  RestoredConfig restored;
  Node root = *is;
  for (const std::vector<std::string_view>& path : std::vector<std::vector<std::string_view>>{
           {"cpu"}, {"memory"}, {"disk"}, {"vmType"}, {"runtime"}, {"docker", "default-ulimits", "nofile"}}) {
    // Cannot change after the machine was created; without the key Colima takes its default, which is ours.
    const bool fixed = path.front() == "vmType" || path.front() == "runtime";
    if ((fixed && At(*was, path) == nullptr) || SameAt(*is, *was, path)) continue;
    if (SameAt(*is, *ours, path)) {
      PutBack(*was, path, &root);
    } else {
      restored.kept.emplace_back(path.size() == 1 ? std::string(path.front()) : "docker.default-ulimits.nofile");
    }
  }
  if (Node* scripts = root.Find("provision"); scripts != nullptr && scripts->kind == Node::Kind::kSequence) {
    const bool any = std::any_of(scripts->items.begin(), scripts->items.end(), IsOurs);
    std::erase_if(scripts->items, IsOurs);
    if (any && scripts->items.empty() && was->Find("provision") == nullptr) Erase(&root, "provision");
  }
  if (Same(root, *is)) {
    restored.text = std::string(now);
    return restored;
  }
  absl::StatusOr<std::string> text = Written(root);
  if (!text.ok()) return text.status();
  restored.text = *std::move(text);
  return restored;
}

std::string ProvisionScript(const v1::TuningProfile& profile, const std::string& root) {
  std::string script = Cat("#!/bin/sh\n", kMark, " for the tuning profile ", profile.name(),
                           ", and made anew by it: the settings of the kernel, at each boot.\n", kFunctions);
  for (const v1::SysctlSetting& setting : profile.sysctls()) script += ScriptLine(setting, root);
  return script + "exit 0\n";
}

std::string ConfigPath(const std::vector<std::string>& environment, HostSystem system, const std::string& machine,
                       bool (*is_folder)(const std::string& path)) {
  const auto value_of = [&environment](std::string_view name) -> std::string {
    for (const std::string& variable : environment) {
      if (variable.starts_with(name) && variable.size() > name.size() && variable[name.size()] == '=') {
        return variable.substr(name.size() + 1);
      }
    }
    return "";
  };
  const auto in = [&machine](const std::string& folder) { return Cat(folder, "/", machine, "/colima.yaml"); };
  if (const std::string own = value_of("COLIMA_HOME"); !own.empty() && is_folder(own)) return in(own);
  const std::string home = value_of("HOME");
  const std::string xdg = value_of("XDG_CONFIG_HOME");
  if (!home.empty() && is_folder(home + "/.colima")) return in(home + "/.colima");
  if (!xdg.empty()) return in(xdg + "/colima");
  if (home.empty()) return "";
  if (system == HostSystem::kMacOs && !is_folder(home + "/.config/colima")) return in(home + "/.colima");
  return in(home + "/.config/colima");
}

}  // namespace loadstar::agent
