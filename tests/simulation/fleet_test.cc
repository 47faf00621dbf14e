// Whole fleets in simulated time, each history by its seed. LOADSTAR_SEEDS=N plays N histories in each of the shards
// (250 by default, four shards); LOADSTAR_SEED=S plays one.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/simulation/history.h"

namespace loadstar::simulation {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing sets it
  uint64_t value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

void ExpectHolds(uint64_t seed) {
  for (const std::string& broken : PlayHistory(seed)) {
    ADD_FAILURE() << broken << "\n  reproduce: LOADSTAR_SEED=" << seed
                  << " build/debug/tests/fleet_simulation_test --gtest_filter='*OneSeed*'";
  }
}

class FleetHistories : public testing::TestWithParam<uint64_t> {};

TEST_P(FleetHistories, KeepEverySampleAndEndEveryRun) {
  const uint64_t count = FromEnvironment("LOADSTAR_SEEDS", 250);
  for (uint64_t i = 0; i < count && !HasFailure(); ++i) ExpectHolds(GetParam() + 4 * i);
}

INSTANTIATE_TEST_SUITE_P(Shards, FleetHistories, testing::Values(1, 2, 3, 4));

TEST(FleetHistory, OneSeed) { ExpectHolds(FromEnvironment("LOADSTAR_SEED", 1)); }

}  // namespace
}  // namespace loadstar::simulation
