#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace loadstar::agent {

// How a command ended that could be started.
struct CommandResult {
  int code = 0;        // as a shell counts: 128 and the number of the signal that ended it
  std::string output;  // both streams, at most 64 KiB
};

// Runs a program with its arguments and waits for its end. NOT_FOUND: there is no such program; DEADLINE_EXCEEDED: it
// took too long and was killed, with its children.
using CommandRunner = std::function<absl::StatusOr<CommandResult>(const std::vector<std::string>& command)>;

// A program's output as part of a sentence: printable, at most 500 characters.
std::string OneLine(const std::string& output);

// Looks a program that is no path up where a host's administration is (sbin and bin below /usr, /usr/local and /).
CommandRunner MakeCommandRunner(std::chrono::seconds limit);

}  // namespace loadstar::agent
