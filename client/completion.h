// Shell completion, generated from the tree of verbs, so that it cannot go stale.
#pragma once

#include <string>

#include "client/command_line.h"

namespace loadstar::client {

// A script to be sourced. It completes verbs, options, the words an argument allows, names of documents in
// deploy/stacks and deploy/scenarios, and, when a coordinator answers, ids of runs and names of deployments.
std::string BashCompletion(const CommandTree& tree);
std::string ZshCompletion(const CommandTree& tree);

}  // namespace loadstar::client
