#include "agent/tuner/condition.h"

#include <sys/stat.h>

#include <optional>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lib/spec/kernel_version.h"

namespace loadstar::agent {
namespace {

bool IsThere(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0;
}

}  // namespace

KernelFacts ReadKernelFacts(const os::Proc& proc, const std::string& cgroup_root) {
  KernelFacts facts;
  if (const auto release = proc.Read("sys/kernel/osrelease"); release.ok()) {
    facts.release = std::string(absl::StripAsciiWhitespace(*release));
  }
  // The first is only in the root of version 2, the second only where a controller of version 1 is mounted
  // (Documentation/admin-guide/cgroup-v2.rst).
  if (IsThere(cgroup_root + "/cgroup.controllers")) {
    facts.cgroup = 2;
  } else if (IsThere(cgroup_root + "/memory") || IsThere(cgroup_root + "/cpu")) {
    facts.cgroup = 1;
  }
  return facts;
}

std::string WhyNotMeant(const v1::TuneCondition& condition, const KernelFacts& facts) {
  std::string_view rest;
  const std::optional<spec::KernelVersion> is = spec::ReadKernelVersion(facts.release, &rest);
  const std::optional<spec::KernelVersion> from = spec::ReadKernelVersion(condition.kernel_from());
  const std::optional<spec::KernelVersion> before = spec::ReadKernelVersion(condition.kernel_before());
  std::vector<std::string> wanted;
  const bool old = !condition.kernel_from().empty() && !(is.has_value() && from.has_value() && *is >= *from);
  const bool recent = !condition.kernel_before().empty() && !(is.has_value() && before.has_value() && *is < *before);
  if (old) wanted.push_back(absl::StrCat("kernels from ", condition.kernel_from(), " on"));
  if (recent) wanted.push_back(absl::StrCat("kernels before ", condition.kernel_before()));
  const bool other = condition.cgroup() != 0 && condition.cgroup() != facts.cgroup;
  if (other) wanted.push_back(absl::StrCat("control groups of version ", condition.cgroup()));
  if (wanted.empty()) return "";
  std::vector<std::string> has;
  if (old || recent)
    has.push_back(absl::StrCat("kernel ", facts.release.empty() ? "of no known version" : facts.release));
  if (other) {
    has.push_back(facts.cgroup == 0 ? std::string("no control groups")
                                    : absl::StrCat("control groups of version ", facts.cgroup));
  }
  return absl::StrCat("meant for ", absl::StrJoin(wanted, " and "), "; this host has ", absl::StrJoin(has, " and "));
}

}  // namespace loadstar::agent
