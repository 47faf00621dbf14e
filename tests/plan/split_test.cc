#include "lib/plan/split.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>

namespace loadstar::plan {
namespace {

TEST(Split, QuickstartPutsExactlyAQuarterOnEachOfFourNodes) {
  for (uint32_t workers = 1; workers <= 16; ++workers) {
    const Split split(workers, 4, 8);
    std::map<uint32_t, uint32_t> connections;
    for (uint64_t k = 0; k < 100'000; ++k) ++connections[split.EndpointOf(k)];
    for (const auto& [endpoint, count] : connections) EXPECT_EQ(count, 25'000u) << endpoint << " of " << workers;
  }
}

TEST(Split, QuickstartSpreadsEachNodeOverAllSourceAddresses) {
  const Split split(8, 4, 8);
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> pairs;
  for (uint64_t k = 0; k < 100'000; ++k) ++pairs[{split.SourceOf(k), split.EndpointOf(k)}];
  EXPECT_EQ(pairs.size(), 32u);
  for (const auto& [pair, count] : pairs) EXPECT_EQ(count, 3125u) << pair.first << " " << pair.second;
}

// With a plain k mod m, worker i of 4 would hold connections to node i alone.
TEST(Split, EveryWorkerReachesEveryNodeEvenWhenTheNumbersDivide) {
  for (const auto& [workers, endpoints] : {std::pair{4u, 4u}, {8u, 4u}, {4u, 8u}, {6u, 4u}, {1u, 4u}}) {
    const Split split(workers, endpoints, 0);
    for (uint32_t worker = 0; worker < workers; ++worker) {
      std::set<uint32_t> seen;
      for (uint64_t j = 0; j < split.ShareOf(worker, 10'000); ++j) {
        seen.insert(split.EndpointOf(split.GlobalOf(worker, j)));
      }
      EXPECT_EQ(seen.size(), endpoints) << worker << " of " << workers;
    }
  }
}

TEST(Split, FewerConnectionsThanWorkersLeaveSomeWithNone) {
  const Split split(4, 1, 0);
  EXPECT_EQ(split.ShareOf(0, 2), 1u);
  EXPECT_EQ(split.ShareOf(1, 2), 1u);
  EXPECT_EQ(split.ShareOf(2, 2), 0u);
  EXPECT_EQ(split.ShareOf(3, 0), 0u);
}

TEST(Split, WithoutSourcesThereIsOnlyTheFirst) {
  const Split split(2, 3, 0);
  for (uint64_t k = 0; k < 20; ++k) EXPECT_EQ(split.SourceOf(k), 0u);
}

}  // namespace
}  // namespace loadstar::plan
