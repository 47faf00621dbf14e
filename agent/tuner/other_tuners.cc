#include "agent/tuner/other_tuners.h"

#include <algorithm>
#include <cstddef>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lib/os/files.h"
#include "lib/os/lines.h"
#include "lib/spec/sysctl_key.h"
#include "lib/spec/text.h"

namespace loadstar::agent {
namespace {

constexpr size_t kMostText = size_t{1} << 20;
constexpr size_t kMostProfiles = 32;
// Where tuned looks for NAME/tuned.conf, in order; those below "profiles" since its version 2.23.
constexpr const char* kFolders[] = {"/etc/tuned/profiles/", "/etc/tuned/", "/usr/lib/tuned/profiles/",
                                    "/usr/lib/tuned/"};

bool IsProfileName(std::string_view name) {
  return !name.empty() && !name.starts_with('.') && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  });
}

// As the kernel's documentation writes it. tuned takes it in either form of sysctl(8): when its first separator is a
// slash, all of them are.
std::string Dotted(std::string_view key) {
  std::string dotted(key);
  const size_t first = dotted.find_first_of("./");
  if (first == std::string::npos || dotted[first] == '.') return dotted;
  for (char& c : dotted) c = c == '/' ? '.' : c == '.' ? '/' : c;
  return dotted;
}

// Names with blanks or commas between them.
std::vector<std::string> Words(std::string_view text) {
  std::string spaced(text);
  std::replace(spaced.begin(), spaced.end(), ',', ' ');
  std::istringstream stream(spaced);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::string ReadProfileText(const std::string& root, const std::string& name) {
  for (const char* folder : kFolders) {
    absl::StatusOr<std::string> text = os::ReadFile(absl::StrCat(root, folder, name, "/tuned.conf"), kMostText);
    if (text.ok()) return *std::move(text);
  }
  return "";
}

}  // namespace

TunedProfile ReadTunedProfile(std::string_view text) {
  TunedProfile profile;
  std::string_view section;
  bool sysctls = false;
  for (const std::string_view whole : os::Lines(text)) {
    const std::string_view line = spec::Trim(whole);
    if (line.starts_with('#') || line.starts_with(';')) continue;
    if (line.starts_with('[') && line.ends_with(']')) {
      section = line.substr(1, line.size() - 2);
      sysctls = section == "sysctl";
      continue;
    }
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = spec::Trim(line.substr(0, equals));
    const std::string_view value = spec::Trim(line.substr(equals + 1));
    // An instance of the plug-in may have any name.
    if (name == "type" && value == "sysctl") sysctls = true;
    if (section == "main" && name == "include") {
      for (std::string& include : Words(value)) profile.includes.push_back(std::move(include));
    } else if (std::string key = Dotted(name); sysctls && spec::IsSysctlKey(key)) {
      profile.keys.insert(std::move(key));
    }
  }
  return profile;
}

std::vector<OtherTuner> FindOtherTuners(const std::string& root, const os::Proc& proc) {
  const absl::StatusOr<std::string> pid_text = os::ReadFile(root + "/run/tuned/tuned.pid", 64);
  pid_t pid = 0;
  // What it leaves behind when it is killed names a process that is another by now, or none.
  if (!pid_text.ok() || !absl::SimpleAtoi(*pid_text, &pid)) return {};
  const absl::StatusOr<os::ProcessStat> process = proc.Stat(pid);
  if (!process.ok() || (process->name != "tuned" && !process->name.starts_with("python"))) return {};

  const absl::StatusOr<std::string> active = os::ReadFile(root + "/etc/tuned/active_profile", kMostText);
  const std::vector<std::string> names = Words(active.value_or(""));
  OtherTuner tuned{.name = absl::StrCat("tuned (process ", pid, ", profile ", absl::StrJoin(names, " "), ")"),
                   .off = "Before tuning, \"tuned-adm off\" ends it; afterwards it would put back what tuned found",
                   .keys = {}};
  std::vector<std::string> open = names;
  std::set<std::string> seen;
  while (!open.empty() && seen.size() < kMostProfiles) {
    const std::string name = open.back();
    open.pop_back();
    if (!IsProfileName(name) || !seen.insert(name).second) continue;
    TunedProfile profile = ReadTunedProfile(ReadProfileText(root, name));
    tuned.keys.merge(profile.keys);
    open.insert(open.end(), profile.includes.begin(), profile.includes.end());
  }
  return {tuned};
}

}  // namespace loadstar::agent
