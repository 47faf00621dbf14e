#include "agent/tuner/colima/machine_tree.h"

#include <algorithm>
#include <string_view>

#include "lib/os/lines.h"
#include "lib/spec/sysctl_key.h"
#include "lib/spec/text.h"

namespace loadstar::agent {
namespace {

using spec::Cat;

// As sysctl(8) is given it: with blanks where the kernel has tabs. Older ones refuse a value that is empty, and a blank
// is none to the kernel.
std::string Argument(std::string value) {
  std::replace(value.begin(), value.end(), '\t', ' ');
  return value.empty() ? " " : value;
}

std::string Complaint(const ProgramResult& result) {
  const std::string said = Said(result.err);
  return Cat("sysctl ", os::ToString(result.exit), said.empty() ? "" : ": ", said);
}

// A setting of several lines has a line of its own for each, which stay together.
std::map<std::string, std::string> ReadLines(std::string_view text) {
  constexpr std::string_view kIs = " =";
  std::map<std::string, std::string> values;
  for (const std::string_view line : os::Lines(text)) {
    const size_t at = line.find(kIs);
    if (at == std::string_view::npos) continue;
    const std::string value(spec::Trim(line.substr(at + kIs.size())));
    const auto [entry, fresh] = values.try_emplace(std::string(line.substr(0, at)), value);
    if (!fresh) entry->second += "\n" + value;
  }
  return values;
}

}  // namespace

absl::StatusOr<ProgramResult> MachineTree::Call(std::vector<std::string> command) {
  if (!failure_.ok()) return failure_;
  absl::StatusOr<ProgramResult> result = cli_.Inside(machine_, std::move(command));
  if (!result.ok()) failure_ = result.status();
  return result;
}

absl::Status MachineTree::Prefetch(const std::vector<std::string>& keys) {
  if (keys.empty()) return failure_;
  // They become arguments of a program that root runs.
  for (const std::string& key : keys) {
    if (!spec::IsSysctlKey(key)) return absl::InvalidArgumentError(Cat(spec::Quoted(key), " is no setting's name"));
  }
  std::vector<std::string> command = {"sudo", "sysctl", "-e"};
  command.insert(command.end(), keys.begin(), keys.end());
  const absl::StatusOr<ProgramResult> result = Call(std::move(command));
  if (!result.ok()) return result.status();
  std::map<std::string, std::string> values = ReadLines(result->out);
  if (!result->exit.clean() && values.empty()) {
    return absl::UnavailableError(
        Cat("the settings inside of the virtual machine ", machine_, " cannot be read: ", Complaint(*result)));
  }
  for (const std::string& key : keys) {
    const auto found = values.find(key);
    if (found != values.end()) {
      known_[key] = std::move(found->second);
    } else if (result->exit.clean()) {
      known_[key] = std::nullopt;
    } else {
      known_.erase(key);  // why it is not there is seen when it is read alone
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> MachineTree::Read(const std::string& key) {
  if (!spec::IsSysctlKey(key)) return absl::InvalidArgumentError(Cat(spec::Quoted(key), " is no setting's name"));
  if (!failure_.ok()) return failure_;
  if (!known_.contains(key)) {
    if (absl::Status read = Prefetch({key}); !read.ok()) return read;
  }
  const auto known = known_.find(key);
  if (known == known_.end()) return absl::UnavailableError(Cat(key, " cannot be read in the virtual machine"));
  if (!known->second.has_value()) {
    return absl::NotFoundError("the virtual machine's kernel has no such setting");
  }
  return *known->second;
}

absl::Status MachineTree::Write(const std::string& key, const std::string& value) {
  if (!spec::IsSysctlKey(key)) return absl::InvalidArgumentError(Cat(spec::Quoted(key), " is no setting's name"));
  if (value.size() > kLongestSysctl) return absl::InvalidArgumentError(Cat(key, ": the value is too long"));
  known_.erase(key);
  const absl::StatusOr<ProgramResult> result = Call({"sudo", "sysctl", "-w", Cat(key, "=", Argument(value))});
  if (!result.ok()) return result.status();
  // Some versions say that the kernel refused and exit with 0; what else ssh has to say is no refusal.
  const bool complains = result->err.find("sysctl:") != std::string::npos;
  if (result->exit.clean() && !complains) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat("it was not taken: ", Complaint(*result)));
}

}  // namespace loadstar::agent
