// Whole fleets in simulated time, each history by its seed. LOADSTAR_SEEDS=N plays N histories in each of the shards
// (250 by default, four shards); LOADSTAR_SEED=S plays one.

#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
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

std::set<std::string> ExpectHolds(uint64_t seed) {
  const Outcome outcome = PlayHistory(seed);
  for (const std::string& broken : outcome.broken) {
    ADD_FAILURE() << broken << "\n  reproduce: LOADSTAR_SEED=" << seed
                  << " build/debug/tests/fleet_simulation_test --gtest_filter='*OneSeed*'";
  }
  return outcome.seen;
}

class FleetHistories : public testing::TestWithParam<uint64_t> {};

TEST_P(FleetHistories, KeepEverySampleAndEndEveryRun) {
  const uint64_t count = FromEnvironment("LOADSTAR_SEEDS", 250);
  std::set<std::string> seen;
  for (uint64_t i = 0; i < count && !HasFailure(); ++i) seen.merge(ExpectHolds(GetParam() + 4 * i));
  if (count < 250 || HasFailure()) return;
  // So many histories have tried everything, or the simulation has become too kind.
  for (const char* what :
       {"VERDICT_KIND_PASSED", "VERDICT_KIND_STOPPED", "VERDICT_KIND_NOT_CARRIED_OUT", "agent-lost", "worker-died",
        "prepare-failed", "deploy-failed", "load-updated", "stop-requested", "agent-finished", "spilled"}) {
    EXPECT_TRUE(seen.count(what) > 0) << what << " never occurred";
  }
}

INSTANTIATE_TEST_SUITE_P(Shards, FleetHistories, testing::Values(1, 2, 3, 4));

TEST(FleetHistory, OneSeed) { ExpectHolds(FromEnvironment("LOADSTAR_SEED", 1)); }

}  // namespace
}  // namespace loadstar::simulation
