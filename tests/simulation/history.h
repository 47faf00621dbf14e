// One simulated history: a client that deploys, starts, changes and stops tests while a seed's faults strike, and the
// judgement of what is left when all is quiet again.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace loadstar::simulation {

struct Outcome {
  std::vector<std::string> broken;  // what should have held; empty: all did
  // What occurred, so that many histories together can be seen to have tried everything: codes of events, kinds of
  // verdicts, and "spilled".
  std::set<std::string> seen;
};

// Plays the history of this seed.
Outcome PlayHistory(uint64_t seed);

}  // namespace loadstar::simulation
