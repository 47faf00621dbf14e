#include "agent/deployer/launch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace loadstar::agent {

absl::StatusOr<Launch> PlanLaunch(const Policy& policy, const v1::NodeSpec& node, const std::string& mark) {
  absl::StatusOr<std::string> program = ResolveProgram(policy, node);
  if (!program.ok()) return program.status();
  Launch launch;
  launch.program = *std::move(program);
  if (node.command().empty()) {
    launch.arguments = {"--listen",  node.listen_address(), "--name",
                        node.name(), "--processes",         absl::StrCat(std::max(1u, node.processes()))};
    if (!node.api_address().empty()) {
      launch.arguments.push_back("--api");
      launch.arguments.push_back(node.api_address());
    }
    if (!node.role().empty()) {
      launch.arguments.push_back("--role");
      launch.arguments.push_back(node.role());
    }
  } else {
    launch.arguments.assign(node.command().begin() + 1, node.command().end());
  }
  launch.environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/",
                        "LC_ALL=C.UTF-8"};
  launch.environment.insert(launch.environment.end(), node.environment().begin(), node.environment().end());
  launch.environment.push_back(absl::StrCat(kNodeVariable, "=", mark));
  return launch;
}

}  // namespace loadstar::agent
