#include "agent/tuner/persist.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "lib/os/files.h"
#include "lib/os/proc.h"

namespace loadstar::agent {
namespace {

namespace fs = std::filesystem;

// The first one wins where the same name is in several.
constexpr std::array kFolders = {"etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d"};

std::string NameOf(const std::string& profile) { return absl::StrCat("90-loadstar-", profile, ".conf"); }

std::string PathOf(const std::string& root, const std::string& profile) {
  return (fs::path(root) / kFolders[0] / NameOf(profile)).string();
}

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// The key's path below /proc/sys: where the first separator is a dot, dots and slashes stand for each other.
std::string PathOfKey(std::string_view key) {
  std::string path(key);
  const size_t first = path.find_first_of("./");
  if (first == std::string::npos || path[first] == '/') return path;
  for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
  return path;
}

bool SameValue(const std::string& one, const std::string& other) {
  const auto numbers = os::ParseNumbers(one);
  return one == other || (numbers.has_value() && numbers == os::ParseNumbers(other));
}

struct Line {
  std::string key;
  std::string value;
};

std::optional<Line> ParseLine(std::string_view text) {
  text = Trimmed(text);
  const size_t equals = text.find('=');
  if (text.empty() || text[0] == '#' || text[0] == ';' || equals == std::string_view::npos) return std::nullopt;
  std::string_view key = Trimmed(text.substr(0, equals));
  if (!key.empty() && key[0] == '-') key.remove_prefix(1);  // a failure to set it is no error
  return Line{std::string(key), std::string(Trimmed(text.substr(equals + 1)))};
}

void FindIn(const std::string& text, const std::string& file, const PersistentValues& values,
            std::vector<Rival>* rivals) {
  std::string_view rest = text;
  for (size_t number = 1; !rest.empty(); ++number) {
    const std::string_view raw = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(raw.size() + 1, rest.size()));
    const std::optional<Line> line = ParseLine(raw);
    if (!line.has_value()) continue;
    const std::string pattern = PathOfKey(line->key);
    for (const auto& [key, value] : values) {
      if (fnmatch(pattern.c_str(), PathOfKey(key).c_str(), FNM_PATHNAME) == 0 && !SameValue(line->value, value)) {
        rivals->push_back({key, line->value, file, number});
      }
    }
  }
}

}  // namespace

absl::Status Persist(const std::string& root, const std::string& profile, const PersistentValues& values) {
  std::string text = absl::StrCat("# Written by loadstar-agent for the tuning profile ", profile,
                                  "; \"loadstar tune rollback ", profile, "\" removes it.\n");
  for (const auto& [key, value] : values) absl::StrAppend(&text, key, " = ", value, "\n");
  const std::string path = PathOf(root, profile);
  if (absl::Status made = os::MakeFolders(fs::path(path).parent_path().string()); !made.ok()) return made;
  return os::WriteFileAtomically(path, text);
}

absl::Status Unpersist(const std::string& root, const std::string& profile) {
  return os::RemoveTree(PathOf(root, profile));
}

std::vector<Rival> FindRivals(const std::string& root, const std::string& profile, const PersistentValues& values) {
  std::map<std::string, fs::path> files;  // by name
  for (const char* folder : kFolders) {
    std::error_code error;
    for (fs::directory_iterator entry(fs::path(root) / folder, error), end; !error && entry != end;
         entry.increment(error)) {
      if (entry->path().extension() == ".conf") {
        files.emplace(entry->path().filename().string(), fs::path("/") / folder / entry->path().filename());
      }
    }
  }
  std::vector<Rival> rivals;
  for (auto file = files.upper_bound(NameOf(profile)); file != files.end(); ++file) {
    const absl::StatusOr<std::string> text = os::ReadFile((fs::path(root) / file->second.relative_path()).string());
    if (text.ok()) FindIn(*text, file->second.string(), values, &rivals);
  }
  return rivals;
}

}  // namespace loadstar::agent
