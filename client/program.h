// The program: every verb on one command line.
#pragma once

#include <memory>
#include <vector>

#include "client/command_line.h"

namespace loadstar::client {

// All verbs, in the order in which help shows them.
std::unique_ptr<CommandLine> MakeCommandLine();

}  // namespace loadstar::client
