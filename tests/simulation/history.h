// One simulated history: a client that deploys, starts, changes and stops tests while a seed's faults strike, and the
// judgement of what is left when all is quiet again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace loadstar::simulation {

// Plays the history of this seed. Returns what broke; empty: nothing did.
std::vector<std::string> PlayHistory(uint64_t seed);

}  // namespace loadstar::simulation
