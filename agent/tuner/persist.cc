#include "agent/tuner/persist.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "agent/tuner/wish.h"
#include "lib/os/files.h"
#include "lib/spec/name.h"

namespace loadstar::agent {
namespace {

namespace fs = std::filesystem;

// The first one wins where the same name is in several.
constexpr std::array kFolders = {"etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d"};

constexpr std::string_view kPrefix = "90-loadstar-";
constexpr std::string_view kSuffix = ".conf";

std::string NameOf(const std::string& profile) {
  return absl::StrCat(std::string(kPrefix), profile, std::string(kSuffix));
}

std::string PathOf(const std::string& root, const std::string& profile) {
  return (fs::path(root) / kFolders[0] / NameOf(profile)).string();
}

// The key's path below /proc/sys: where the first separator is a dot, dots and slashes stand for each other.
std::string PathOfKey(std::string path) {
  const size_t first = path.find_first_of("./");
  if (first == std::string::npos || path[first] == '/') return path;
  for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
  return path;
}

struct Line {
  std::string key;
  std::string value;
};

std::optional<Line> ParseLine(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  const size_t equals = text.find('=');
  if (text.empty() || text[0] == '#' || text[0] == ';' || equals == absl::string_view::npos) return std::nullopt;
  absl::string_view key = absl::StripAsciiWhitespace(text.substr(0, equals));
  absl::ConsumePrefix(&key, "-");  // a failure to set it is no error
  return Line{std::string(key), std::string(absl::StripAsciiWhitespace(text.substr(equals + 1)))};
}

void FindIn(const std::string& text, const std::string& file, const PersistentValues& values,
            std::vector<Rival>* rivals) {
  size_t number = 0;
  for (const absl::string_view raw : absl::StrSplit(text, '\n')) {
    ++number;
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

std::string Compose(const std::string& profile, const PersistentValues& values) {
  std::string text = absl::StrCat("# Written by loadstar-agent for the tuning profile ", profile,
                                  "; \"loadstar tune rollback ", profile, "\" removes it.\n");
  for (const auto& [key, value] : values) absl::StrAppend(&text, key, " = ", value, "\n");
  return text;
}

}  // namespace

bool Holds(const std::string& root, const std::string& profile, const PersistentValues& values) {
  const absl::StatusOr<std::string> text = os::ReadFile(PathOf(root, profile));
  return text.ok() && *text == Compose(profile, values);
}

absl::Status Persist(const std::string& root, const std::string& profile, const PersistentValues& values) {
  const std::string text = Compose(profile, values);
  const std::string path = PathOf(root, profile);
  if (absl::Status made = os::MakeFolders(fs::path(path).parent_path().string()); !made.ok()) return made;
  return os::WriteFileAtomically(path, text);
}

std::string PersistentPath(const std::string& profile) { return PathOf("/", profile); }

bool IsPersisted(const std::string& root, const std::string& profile) {
  std::error_code error;
  return fs::exists(PathOf(root, profile), error);
}

std::vector<std::string> PersistedProfiles(const std::string& root) {
  std::vector<std::string> profiles;
  std::error_code error;
  for (fs::directory_iterator entry(fs::path(root) / kFolders[0], error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix) || name.size() < kPrefix.size() + kSuffix.size())
      continue;
    std::string profile = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
    if (spec::IsName(profile)) profiles.push_back(std::move(profile));
  }
  std::sort(profiles.begin(), profiles.end());
  return profiles;
}

absl::Status Unpersist(const std::string& root, const std::string& profile) {
  return os::RemoveTree(PathOf(root, profile));
}

void TidyPersisted(const std::string& root) {
  // One that is being written belongs to an agent that is alive.
  const fs::file_time_type old = fs::file_time_type::clock::now() - std::chrono::minutes(1);
  std::vector<fs::path> stray;
  std::error_code error;
  for (fs::directory_iterator entry(fs::path(root) / kFolders[0], error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(kPrefix) || !name.ends_with(absl::StrCat(std::string(kSuffix), ".tmp"))) continue;
    std::error_code unreadable;
    if (entry->last_write_time(unreadable) < old && !unreadable) stray.push_back(entry->path());
  }
  for (const fs::path& path : stray) fs::remove(path, error);
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
