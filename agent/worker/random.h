#pragma once

#include <cmath>
#include <cstdint>

namespace loadstar::worker {

// SplitMix64 (Steele, Lea, Flood): eight bytes of state, so that every connection can have a stream of its own. Equal
// seeds give equal streams on every machine, which is what makes a run repeatable.
class SplitMix {
 public:
  SplitMix() = default;
  explicit SplitMix(uint64_t seed) : state_(seed) {}
  // A stream of its own for each (seed, number).
  SplitMix(uint64_t seed, uint64_t number) : state_(SplitMix(seed ^ (number * 0xD1342543DE82EF95ULL)).Next()) {}

  uint64_t Next() {
    state_ += 0x9E3779B97F4A7C15ULL;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  // What SplitMix(uint64_t) goes on from.
  uint64_t state() const { return state_; }
  // Uniform in (0, 1]: never 0, so that its logarithm exists.
  double Uniform() { return static_cast<double>((Next() >> 11) + 1) * 0x1.0p-53; }
  // Exponential with mean 1.
  double Exponential() { return -std::log(Uniform()); }

 private:
  uint64_t state_ = 0;
};

}  // namespace loadstar::worker
