#pragma once

#include <cstdint>
#include <random>

namespace loadstar::simulation {

// Every choice of a simulation comes from one seed; the same seed gives the same history on every machine (unlike the
// standard library's distributions).
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // In [low, high].
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  bool Chance(int64_t percent) { return Between(1, 100) <= percent; }
  uint64_t Draw() { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

}  // namespace loadstar::simulation
