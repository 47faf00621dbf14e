#include "lib/os/proc.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "lib/os/files.h"
#include "lib/os/lines.h"

namespace loadstar::os {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

template <typename Number>
std::optional<Number> ToNumber(std::string_view text, int base = 10) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string_view> Words(std::string_view text) {
  std::vector<std::string_view> words;
  constexpr std::string_view kBlank = " \t\n";
  for (size_t start = text.find_first_not_of(kBlank); start != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(kBlank, start), text.size());
    words.push_back(text.substr(start, end - start));
    start = text.find_first_not_of(kBlank, end);
  }
  return words;
}

// Calls visit(name) for each entry of a folder, until it returns true; whether it did.
template <typename Visit>
bool AnyEntry(const std::string& folder, Visit visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(folder.c_str()), closedir);
  if (directory == nullptr) return false;
  // readdir is safe as long as no two threads share a DIR.
  while (const dirent* entry = readdir(directory.get())) {  // NOLINT(concurrency-mt-unsafe)
    if (visit(std::string_view(entry->d_name))) return true;
  }
  return false;
}

}  // namespace

std::optional<ProcessStat> ParseProcessStat(std::string_view text) {
  // "PID (NAME) STATE PPID PGRP ...": NAME may hold blanks and brackets, so the last ')' counts.
  const size_t open = text.find(" (");
  const size_t close = text.rfind(") ");
  if (open == std::string_view::npos || close == std::string_view::npos || close < open + 2) return std::nullopt;
  const std::vector<std::string_view> words = Words(text.substr(close + 2));
  constexpr size_t kStartTime = 22 - 3;  // field 22 of the whole, field 3 being the first word here
  if (words.size() <= kStartTime || words[0].size() != 1) return std::nullopt;
  const auto pid = ToNumber<pid_t>(text.substr(0, open));
  const auto parent = ToNumber<pid_t>(words[1]);
  const auto group = ToNumber<pid_t>(words[2]);
  const auto start = ToNumber<uint64_t>(words[kStartTime]);
  if (!pid || !parent || !group || !start) return std::nullopt;
  return ProcessStat{.pid = *pid,
                     .name = std::string(text.substr(open + 2, close - open - 2)),
                     .state = words[0][0],
                     .parent = *parent,
                     .group = *group,
                     .start_ticks = *start};
}

std::optional<std::vector<uint64_t>> ParseNumbers(std::string_view text) {
  std::vector<uint64_t> numbers;
  for (std::string_view word : Words(text)) {
    const auto number = ToNumber<uint64_t>(word);
    if (!number) return std::nullopt;
    numbers.push_back(*number);
  }
  if (numbers.empty()) return std::nullopt;
  return numbers;
}

std::map<std::string, uint64_t> ParseMeminfo(std::string_view text) {
  std::map<std::string, uint64_t> values;
  for (const std::string_view line : Lines(text)) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::vector<std::string_view> words = Words(line.substr(colon + 1));
    if (words.empty()) continue;
    const auto number = ToNumber<uint64_t>(words[0]);
    if (!number) continue;
    values[std::string(line.substr(0, colon))] = words.size() > 1 && words[1] == "kB" ? *number * 1024 : *number;
  }
  return values;
}

std::optional<uint64_t> UnusedMemory(const std::map<std::string, uint64_t>& meminfo) {
  const auto free = meminfo.find("MemFree");
  const auto buffers = meminfo.find("Buffers");
  const auto cached = meminfo.find("Cached");
  const auto shared = meminfo.find("Shmem");  // counted in Cached, but no file gives it back
  for (const auto& found : {free, buffers, cached, shared}) {
    if (found == meminfo.end()) return std::nullopt;
  }
  return free->second + buffers->second + cached->second - std::min(cached->second, shared->second);
}

std::optional<uint64_t> ParseSockstat(std::string_view text, std::string_view protocol, std::string_view field) {
  for (const std::string_view line : Lines(text)) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || line.substr(0, colon) != protocol) continue;
    const std::vector<std::string_view> words = Words(line.substr(colon + 1));
    for (size_t i = 0; i + 1 < words.size(); i += 2) {
      if (words[i] == field) return ToNumber<uint64_t>(words[i + 1]);
    }
  }
  return std::nullopt;
}

std::optional<std::vector<std::pair<uint32_t, uint32_t>>> ParsePortList(std::string_view text) {
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  const std::vector<std::string_view> words = Words(text);
  if (words.size() > 1) return std::nullopt;
  if (words.empty()) return ranges;
  std::string_view rest = words[0];
  for (;;) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view range = rest.substr(0, comma);
    const size_t dash = range.find('-');
    const auto first = ToNumber<uint32_t>(range.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : ToNumber<uint32_t>(range.substr(dash + 1));
    if (!first || !last || *first > *last || *last > 65'535) return std::nullopt;
    ranges.emplace_back(*first, *last);
    if (comma == rest.size()) return ranges;
    rest.remove_prefix(comma + 1);
  }
}

std::optional<std::map<uint32_t, CoreTimes>> ParseCpuStat(std::string_view text) {
  std::map<uint32_t, CoreTimes> cores;
  constexpr std::string_view kPrefix = "cpu";
  for (const std::string_view line : Lines(text)) {
    const std::vector<std::string_view> words = Words(line);
    // The line without a number is the sum.
    if (words.empty() || !words[0].starts_with(kPrefix) || words[0] == kPrefix) continue;
    const auto core = ToNumber<uint32_t>(words[0].substr(kPrefix.size()));
    CoreTimes times;
    const std::array fields = {&times.user,   &times.nice, &times.system,  &times.idle,
                               &times.iowait, &times.irq,  &times.softirq, &times.steal};
    if (!core || words.size() <= fields.size()) return std::nullopt;
    for (size_t i = 0; i < fields.size(); ++i) {
      const auto ticks = ToNumber<uint64_t>(words[i + 1]);
      if (!ticks) return std::nullopt;
      *fields[i] = *ticks;
    }
    cores[*core] = times;
  }
  if (cores.empty()) return std::nullopt;
  return cores;
}

std::optional<std::map<std::string, uint64_t>> ParseNetCounters(std::string_view text, std::string_view group) {
  std::vector<std::string_view> names;
  for (const std::string_view line : Lines(text)) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || line.substr(0, colon) != group) continue;
    std::vector<std::string_view> words = Words(line.substr(colon + 1));
    if (names.empty()) {
      names = std::move(words);
      continue;
    }
    if (words.size() != names.size()) return std::nullopt;
    std::map<std::string, uint64_t> counters;
    for (size_t i = 0; i < words.size(); ++i) {
      if (const auto value = ToNumber<uint64_t>(words[i])) {
        counters[std::string(names[i])] = *value;
      } else if (!ToNumber<int64_t>(words[i])) {
        return std::nullopt;
      }
    }
    return counters;
  }
  return std::nullopt;
}

std::optional<std::map<std::string, uint64_t>> ParseConntrackStat(std::string_view text) {
  const std::vector<std::string_view> lines = Lines(text);
  if (lines.size() < 2) return std::nullopt;
  const std::vector<std::string_view> names = Words(lines[0]);
  std::map<std::string, uint64_t> sums;
  for (size_t line = 1; line < lines.size(); ++line) {
    const std::vector<std::string_view> words = Words(lines[line]);
    if (words.size() != names.size()) return std::nullopt;
    for (size_t i = 0; i < words.size(); ++i) {
      const auto value = ToNumber<uint64_t>(words[i], 16);
      if (!value) return std::nullopt;
      sums[std::string(names[i])] += *value;
    }
  }
  return sums;
}

std::optional<std::map<std::string, SlabCache>> ParseSlabinfo(std::string_view text) {
  if (!text.starts_with("slabinfo - version: 2.")) return std::nullopt;
  std::map<std::string, SlabCache> caches;
  for (const std::string_view line : Lines(text)) {
    // name, active objects, objects, bytes of an object, objects of a slab, pages of a slab
    const std::vector<std::string_view> words = Words(line);
    if (words.size() < 6) continue;
    const auto objects = ToNumber<uint64_t>(words[4]);
    const auto pages = ToNumber<uint64_t>(words[5]);
    if (!objects || !pages || *objects == 0) continue;
    caches[std::string(words[0])] = {.objects_per_slab = *objects, .pages_per_slab = *pages};
  }
  return caches;
}

absl::StatusOr<std::string> Proc::Read(std::string_view path) const {
  return ReadFile(absl::StrCat(root_, "/", View(path)));
}

absl::StatusOr<std::vector<uint64_t>> Proc::Sysctl(std::string_view name) const {
  const std::string path = absl::StrCat("sys/", absl::StrReplaceAll(View(name), {{".", "/"}}));
  absl::StatusOr<std::string> text = Read(path);
  if (!text.ok()) return text.status();
  std::optional<std::vector<uint64_t>> numbers = ParseNumbers(*text);
  if (!numbers) return absl::InternalError(absl::StrCat(View(name), " is not a list of numbers: ", *text));
  return *std::move(numbers);
}

absl::StatusOr<ProcessStat> Proc::Stat(pid_t pid) const {
  absl::StatusOr<std::string> text = Read(absl::StrCat(pid, "/stat"));
  // ESRCH comes when the process ends between open and read.
  if (!text.ok()) return absl::NotFoundError(absl::StrCat("there is no process ", pid));
  std::optional<ProcessStat> stat = ParseProcessStat(*text);
  if (!stat) return absl::InternalError(absl::StrCat("/proc/", pid, "/stat is not understood: ", *text));
  return *std::move(stat);
}

std::vector<pid_t> Proc::Pids() const {
  std::vector<pid_t> pids;
  AnyEntry(root_, [&](std::string_view name) {
    if (const auto pid = ToNumber<pid_t>(name)) pids.push_back(*pid);
    return false;
  });
  return pids;
}

std::optional<std::string> Proc::EnvironmentOf(pid_t pid, std::string_view variable) const {
  absl::StatusOr<std::string> text = Read(absl::StrCat(pid, "/environ"));
  if (!text.ok()) return std::nullopt;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\0'), rest.size());
    const std::string_view entry = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (entry.size() > variable.size() && entry.starts_with(variable) && entry[variable.size()] == '=') {
      return std::string(entry.substr(variable.size() + 1));
    }
  }
  return std::nullopt;
}

bool Proc::HoldsSocket(pid_t pid, uint64_t inode) const {
  const std::string folder = absl::StrCat(root_, "/", pid, "/fd");
  const std::string wanted = absl::StrCat("socket:[", inode, "]");
  return AnyEntry(folder, [&](std::string_view name) {
    char link[64];
    const std::string path = absl::StrCat(folder, "/", View(name));
    const ssize_t length = readlink(path.c_str(), link, sizeof link);
    return length > 0 && std::string_view(link, static_cast<size_t>(length)) == wanted;
  });
}

}  // namespace loadstar::os
