#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/policy.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::agent {

// The command line of a node.
struct Launch {
  std::string program;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
};

// Name of the variable that every process of a node carries. Its value says whose node it is, so that processes which
// left their group, or whose agent died before it could write their number down, are still found.
inline constexpr char kNodeVariable[] = "LOADSTAR_NODE";

// Pure: NodeSpec.command, or loadstar-target with the flags that the node's fields imply. The environment is small and
// known: PATH, HOME, LC_ALL, the node's own variables and kNodeVariable=`mark`.
absl::StatusOr<Launch> PlanLaunch(const Policy& policy, const v1::NodeSpec& node, const std::string& mark);

}  // namespace loadstar::agent
