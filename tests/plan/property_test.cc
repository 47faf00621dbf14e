// Laws of the plan, on random plans. rapidcheck prints the seed of a counterexample; RC_PARAMS="seed=N" repeats it.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "lib/plan/profile.h"
#include "lib/plan/split.h"
#include "tests/plan/profiles.h"

namespace loadstar::plan {
namespace {

// Profiles short enough (in ns) to be compared instant by instant.
std::vector<StageOf> SmallStages() {
  const auto stages =
      *rc::gen::resize(6, rc::gen::nonEmpty(rc::gen::container<std::vector<std::pair<int64_t, uint64_t>>>(
                              rc::gen::pair(rc::gen::inRange<int64_t>(1, 60), rc::gen::inRange<uint64_t>(0, 80)))));
  std::vector<StageOf> result;
  result.reserve(stages.size());
  for (const auto& [duration_ns, to] : stages) result.push_back({duration_ns, to});
  return result;
}

ConnectionProfile SmallUpdatedProfile() {
  ConnectionProfile profile(LoadOf(SmallStages()));
  const int updates = *rc::gen::inRange(0, 3);
  for (int i = 0; i < updates; ++i) {
    profile.Update(*rc::gen::inRange<int64_t>(-5, profile.EndNs() + 5),
                   UpdateOf(*rc::gen::inRange<uint64_t>(0, 80), *rc::gen::inRange<int64_t>(0, 60)));
  }
  return profile;
}

int64_t NextChangeByLooking(const ConnectionProfile& profile, int64_t after_ns) {
  for (int64_t at = after_ns + 1; at <= profile.EndNs(); ++at) {
    if (profile.TargetAt(at) != profile.TargetAt(after_ns)) return at;
  }
  return -1;
}

RC_GTEST_PROP(PlanProperty, WorkersSharesSumExactlyToTheProfileAtEveryInstant, ()) {
  std::vector<StageOf> stages;
  const int count = *rc::gen::inRange(1, 8);
  stages.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    stages.push_back({*rc::gen::inRange<int64_t>(1, 900'000'000'000), *rc::gen::inRange<uint64_t>(0, 100'000'001)});
  }
  const ConnectionProfile profile(LoadOf(stages));
  const uint32_t workers = *rc::gen::inRange<uint32_t>(1, 300);
  const Split split(workers, *rc::gen::inRange<uint32_t>(1, 64), 0);
  for (int i = 0; i < 20; ++i) {
    const uint64_t target = profile.TargetAt(*rc::gen::inRange<int64_t>(-1, profile.EndNs() + 2));
    uint64_t sum = 0;
    for (uint32_t worker = 0; worker < workers; ++worker) {
      const uint64_t share = split.ShareOf(worker, target);
      sum += share;
      // The worker's connections are exactly those of its residue below the target.
      if (share > 0) RC_ASSERT(split.GlobalOf(worker, share - 1) < target);
      RC_ASSERT(split.GlobalOf(worker, share) >= target);
    }
    RC_ASSERT(sum == target);
  }
}

RC_GTEST_PROP(PlanProperty, EveryConnectionBelongsToExactlyOneWorker, ()) {
  const uint32_t workers = *rc::gen::inRange<uint32_t>(1, 50);
  const uint64_t total = *rc::gen::inRange<uint64_t>(0, 2000);
  const Split split(workers, 3, 0);
  std::vector<int> owners(total, 0);
  for (uint32_t worker = 0; worker < workers; ++worker) {
    for (uint64_t j = 0; j < split.ShareOf(worker, total); ++j) ++owners.at(split.GlobalOf(worker, j));
  }
  RC_ASSERT(std::count(owners.begin(), owners.end(), 1) == static_cast<int64_t>(total));
}

RC_GTEST_PROP(PlanProperty, EndpointsAndPairsStayEvenToWithinOneConnectionOverEveryPrefix, ()) {
  const uint32_t workers = *rc::gen::inRange<uint32_t>(1, 20);
  const uint32_t endpoints = *rc::gen::inRange<uint32_t>(1, 12);
  const uint32_t sources = *rc::gen::inRange<uint32_t>(1, 10);
  const Split split(workers, endpoints, sources);
  std::vector<uint64_t> by_endpoint(endpoints, 0);
  std::vector<uint64_t> by_pair(size_t{endpoints} * sources, 0);
  const auto spread = [](const std::vector<uint64_t>& counts) {
    const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
    return *most - *least;
  };
  for (uint64_t k = 0; k < 1500; ++k) {
    ++by_endpoint.at(split.EndpointOf(k));
    ++by_pair.at(size_t{split.EndpointOf(k)} * sources + split.SourceOf(k));
    RC_ASSERT(spread(by_endpoint) <= 1);
    RC_ASSERT(spread(by_pair) <= 1);
    if ((k + 1) % endpoints == 0) RC_ASSERT(spread(by_endpoint) == 0);
    if ((k + 1) % (uint64_t{endpoints} * sources) == 0) RC_ASSERT(spread(by_pair) == 0);
  }
}

RC_GTEST_PROP(PlanProperty, EveryWorkerReachesEveryEndpoint, ()) {
  const uint32_t workers = *rc::gen::inRange<uint32_t>(1, 20);
  const uint32_t endpoints = *rc::gen::inRange<uint32_t>(1, 12);
  const Split split(workers, endpoints, 0);
  for (uint32_t worker = 0; worker < workers; ++worker) {
    std::vector<bool> seen(endpoints, false);
    for (uint64_t j = 0; j < uint64_t{endpoints} * endpoints; ++j) {
      seen[split.EndpointOf(split.GlobalOf(worker, j))] = true;
    }
    RC_ASSERT(std::count(seen.begin(), seen.end(), true) == static_cast<int64_t>(endpoints));
  }
}

RC_GTEST_PROP(PlanProperty, NextChangeAgreesWithLookingAtEveryInstant, ()) {
  const ConnectionProfile profile = SmallUpdatedProfile();
  for (int64_t at = -3; at <= profile.EndNs() + 3; ++at) {
    RC_ASSERT(profile.NextChange(at) == NextChangeByLooking(profile, at));
  }
}

RC_GTEST_PROP(PlanProperty, PeakIsTheLargestOfEveryInstant, ()) {
  const ConnectionProfile profile = SmallUpdatedProfile();
  uint64_t largest = 0;
  for (int64_t at = -1; at <= profile.EndNs() + 1; ++at) largest = std::max(largest, profile.TargetAt(at));
  RC_ASSERT(profile.Peak() == largest);
}

RC_GTEST_PROP(PlanProperty, UpdateKeepsThePastAndMeetsItsTarget, ()) {
  const ConnectionProfile before(LoadOf(SmallStages()));
  ConnectionProfile after = before;
  const int64_t at_ns = *rc::gen::inRange<int64_t>(0, before.EndNs());
  const uint64_t to = *rc::gen::inRange<uint64_t>(0, 80);
  const int64_t ramp_ns = *rc::gen::inRange<int64_t>(0, 60);
  after.Update(at_ns, UpdateOf(to, ramp_ns));
  RC_ASSERT(after.EndNs() == before.EndNs());
  for (int64_t at = 0; at < at_ns; ++at) RC_ASSERT(after.TargetAt(at) == before.TargetAt(at));
  for (int64_t at = at_ns + ramp_ns; at <= after.EndNs(); ++at) RC_ASSERT(after.TargetAt(at) == to);
}

}  // namespace
}  // namespace loadstar::plan
