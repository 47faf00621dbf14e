#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "client/program.h"

int main(int argc, char** argv) {
  // A reader of our output that went away is an error of a write, not a death in the middle of a run.
  std::signal(SIGPIPE, SIG_IGN);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return static_cast<int>(loadstar::client::MakeCommandLine()->Run(arguments, stdout, stderr));
}
