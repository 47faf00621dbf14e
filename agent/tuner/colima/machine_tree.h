#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/tuner/colima/colima_cli.h"
#include "agent/tuner/sysctl_tree.h"

namespace loadstar::agent {

// The kernel's settings inside of a running machine, through sysctl(8). Each call of it takes a good part of a second,
// so what Prefetch has read is not read again until it is written.
//
// When the machine cannot be reached any more (it was stopped, the call took too long, this process is to end), nothing
// more is called: every later read and write fails as that one did.
class MachineTree final : public SysctlTree {
 public:
  // `cli` must outlive it.
  MachineTree(ColimaCli* cli, std::string machine) : cli_(*cli), machine_(std::move(machine)) {}

  // Reads these keys in one call. An error: none of them can be read.
  absl::Status Prefetch(const std::vector<std::string>& keys);
  // Why the machine cannot be reached; OK while it can be.
  const absl::Status& failure() const { return failure_; }

  absl::StatusOr<std::string> Read(const std::string& key) override;
  bool Writable(const std::string& key) override { return Read(key).ok(); }
  absl::Status Write(const std::string& key, const std::string& value) override;

 private:
  absl::StatusOr<ProgramResult> Call(std::vector<std::string> command);

  ColimaCli& cli_;
  const std::string machine_;
  std::map<std::string, std::optional<std::string>> known_;  // nullopt: there is no such key
  absl::Status failure_;
};

}  // namespace loadstar::agent
