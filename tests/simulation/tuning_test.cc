// Fleets that are tuned while agents and links die, each by its seed.
#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/simulation/fleet.h"

namespace loadstar::simulation {
namespace {

constexpr int kAgents = 3;
constexpr int kSettings = 4;

// One call of Tune on all hosts, with up to three misfortunes while it goes on.
void Play(uint64_t seed, std::set<std::string>* seen) {
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  FleetOptions options;
  options.seed = seed;
  options.agents = kAgents;
  options.tune_failures = seed % 3 == 0 ? 0 : 8;
  Fleet fleet(options);
  Random random(seed * 7'919);
  fleet.scheduler().RunUntil(5 * kSecond);

  v1::TuneRequest request;
  request.set_action(v1::TUNE_ACTION_APPLY);
  request.set_all_or_nothing(random.Chance(70));
  request.mutable_profile()->set_name("big");
  for (int i = 0; i < kSettings; ++i) request.mutable_profile()->add_sysctls()->set_key(absl::StrCat("net.key", i));
  std::optional<v1::TuneVerdict> verdict;
  int ends = 0;
  ASSERT_TRUE(fleet.Call(request, [&](const server::Reply& reply) {
    ASSERT_TRUE(reply.status.ok()) << reply.status;
    const auto& response = std::get<v1::TuneResponse>(reply.response);
    ends += reply.last ? 1 : 0;
    if (response.has_verdict()) verdict = response.verdict();
  }));
  for (int64_t misfortunes = random.Between(0, 3); misfortunes > 0; --misfortunes) {
    fleet.scheduler().After(random.Between(1, 6'000) * kMs, [&fleet, &random] {
      const auto agent = static_cast<int>(random.Between(0, kAgents - 1));
      const int64_t down_ns = random.Chance(30) ? random.Between(31, 60) * kSecond : random.Between(1, 5'000) * kMs;
      if (random.Chance(50)) {
        fleet.CrashAgent(agent, down_ns);
      } else {
        fleet.CutLink(agent, down_ns);
      }
    });
  }
  fleet.scheduler().RunUntil(300 * kSecond);

  ASSERT_TRUE(fleet.violations().empty()) << fleet.violations().front();
  ASSERT_TRUE(verdict.has_value()) << "a tuning comes to its end";
  EXPECT_EQ(ends, 1);
  EXPECT_TRUE(fleet.store().Restore().commands.empty()) << "nothing is left to be done later";
  bool known = true;
  for (const v1::TuneHostResult& host : verdict->hosts()) {
    known =
        known && !absl::StrContains(host.message(), "not known") && !absl::StrContains(host.message(), "not put back");
  }
  size_t tuned = 0;
  for (int agent = 0; agent < kAgents; ++agent) tuned += fleet.Tuned(agent).size();
  if (verdict->ok()) {
    EXPECT_EQ(tuned, size_t{kAgents * kSettings});
    seen->insert("ok");
  } else if (request.all_or_nothing()) {
    EXPECT_EQ(tuned, 0u) << "at the latest when the last agent is back\n" << verdict->DebugString();
    seen->insert(!known                                              ? "not known"
                 : absl::StrContains(verdict->message(), "put back") ? "put back"
                                                                     : "nothing changed");
  } else {
    seen->insert("in part");
  }
}

TEST(FleetTuning, AllOrNothingIsThatWhateverDies) {
  std::set<std::string> seen;
  for (uint64_t seed = 1; seed <= 1000 && !HasFailure(); ++seed) Play(seed, &seen);
  EXPECT_EQ(seen, (std::set<std::string>{"in part", "not known", "nothing changed", "ok", "put back"}))
      << "so many histories have tried everything";
}

}  // namespace
}  // namespace loadstar::simulation
