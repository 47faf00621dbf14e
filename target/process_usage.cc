#include "target/process_usage.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace loadstar::target {

std::optional<uint64_t> ParseCpuTicks(std::string_view stat) {
  // The name (field 2) stands in parentheses and may hold spaces and parentheses of its own: count from the last one.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string_view::npos) {
    return std::nullopt;
  }
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat.data() + name_end + 1, stat.size() - name_end - 1), ' ', absl::SkipEmpty());
  constexpr size_t kUser = 14 - 3;  // fields[0] is field 3 of proc(5)
  constexpr size_t kSystem = 15 - 3;
  uint64_t user = 0;
  uint64_t system = 0;
  if (fields.size() <= kSystem || !absl::SimpleAtoi(fields[kUser], &user) ||
      !absl::SimpleAtoi(fields[kSystem], &system)) {
    return std::nullopt;
  }
  return user + system;
}

std::optional<ProcessUsage> ReadUsage(pid_t pid, const os::Proc& proc) {
  const absl::StatusOr<std::string> stat = proc.Read(absl::StrCat(pid, "/stat"));
  const absl::StatusOr<std::string> statm = proc.Read(absl::StrCat(pid, "/statm"));
  if (!stat.ok() || !statm.ok()) {
    return std::nullopt;
  }
  const std::optional<uint64_t> ticks = ParseCpuTicks(*stat);
  const std::optional<std::vector<uint64_t>> pages = os::ParseNumbers(*statm);
  if (!ticks || !pages || pages->size() < 2) {
    return std::nullopt;
  }
  return ProcessUsage{.cpu_seconds = static_cast<double>(*ticks) / static_cast<double>(sysconf(_SC_CLK_TCK)),
                      .resident_bytes = (*pages)[1] * static_cast<uint64_t>(sysconf(_SC_PAGESIZE))};
}

}  // namespace loadstar::target
