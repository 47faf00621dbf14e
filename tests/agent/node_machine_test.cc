#include "agent/deployer/node_machine.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace loadstar::agent {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kS = 1'000 * kMs;

v1::NodeSpec Spec(v1::RestartPolicy policy) {
  v1::NodeSpec spec;
  spec.set_name("node1");
  spec.set_restart(policy);
  spec.mutable_health()->mutable_interval()->set_seconds(1);
  spec.mutable_health()->mutable_start_timeout()->set_seconds(20);
  spec.mutable_stop_timeout()->set_seconds(5);
  return spec;
}

// Drives one machine as the deployer would, in a time that moves when told.
struct Driver {
  explicit Driver(v1::RestartPolicy policy) : machine(Spec(policy)) {}

  NodeActions To(int64_t at_ns) {
    now = at_ns;
    return machine.OnTick(now);
  }
  // Begins, starts and makes it healthy.
  void BringUp() {
    ASSERT_TRUE(machine.Begin(now).spawn);
    machine.OnStarted(100, now);
    Answer(true);
  }
  // Waits for the next check and answers it.
  NodeActions Answer(bool passed, const std::string& why = "refused") {
    now = std::max(now, machine.NextTick());
    const NodeActions ticked = machine.OnTick(now);
    EXPECT_NE(ticked.check, 0u);
    return machine.OnCheck(ticked.check, passed, why, now);
  }

  NodeMachine machine;
  int64_t now = 1'000 * kS;
};

TEST(NodeMachine, BecomesHealthyWithItsFirstGoodCheck) {
  Driver d(v1::RESTART_POLICY_NEVER);
  const NodeActions begun = d.machine.Begin(d.now);
  EXPECT_TRUE(begun.spawn);
  EXPECT_TRUE(begun.report);
  d.machine.OnStarted(100, d.now);
  d.Answer(false);
  EXPECT_EQ(d.machine.api_state(), v1::DEPLOYMENT_STATE_STARTING);
  // Asked again sooner than its interval, so that readiness is found in time.
  EXPECT_LE(d.machine.NextTick() - d.now, NodeMachine::kStartCheckNs);
  EXPECT_TRUE(d.Answer(true).report);
  EXPECT_EQ(d.machine.state(), NodeState::kHealthy);
  EXPECT_EQ(d.machine.NextTick() - d.now, kS);
}

TEST(NodeMachine, FailsAtOnceWhenItCannotBeStarted) {
  Driver d(v1::RESTART_POLICY_ALWAYS);
  d.machine.Begin(d.now);
  EXPECT_TRUE(d.machine.OnStartFailed("port taken", d.now).report);
  EXPECT_EQ(d.machine.state(), NodeState::kFailed);
  EXPECT_EQ(d.machine.message(), "port taken");
  EXPECT_EQ(d.machine.NextTick(), INT64_MAX);
}

TEST(NodeMachine, ThatIsNotHealthyInTimeIsKilledAndFails) {
  Driver d(v1::RESTART_POLICY_NEVER);
  d.machine.Begin(d.now);
  d.machine.OnStarted(100, d.now);
  const int64_t begun = d.now;
  while (d.now < begun + 19 * kS) d.Answer(false, "HTTP 503");
  const NodeActions late = d.To(begun + 20 * kS);
  EXPECT_TRUE(late.kill);
  EXPECT_EQ(d.machine.state(), NodeState::kStopping);
  d.machine.OnGone("killed by signal 9", false, d.now);
  EXPECT_EQ(d.machine.state(), NodeState::kFailed);
  EXPECT_EQ(d.machine.message(), "not healthy within 20 s of its start; last health check: HTTP 503");
}

TEST(NodeMachine, PolicyDecidesWhatFollowsAnEnd) {
  const struct {
    v1::RestartPolicy policy;
    bool clean;
    NodeState next;
  } cases[] = {
      {v1::RESTART_POLICY_UNSPECIFIED, false, NodeState::kFailed},
      {v1::RESTART_POLICY_NEVER, false, NodeState::kFailed},
      {v1::RESTART_POLICY_ON_FAILURE, false, NodeState::kBackoff},
      {v1::RESTART_POLICY_ON_FAILURE, true, NodeState::kFailed},
      {v1::RESTART_POLICY_ALWAYS, true, NodeState::kBackoff},
      {v1::RESTART_POLICY_ALWAYS, false, NodeState::kBackoff},
  };
  for (const auto& c : cases) {
    Driver d(c.policy);
    d.BringUp();
    d.machine.OnGone("exited with code 1", c.clean, d.now);
    EXPECT_EQ(d.machine.state(), c.next) << c.policy << " " << c.clean;
  }
}

TEST(NodeMachine, BackoffDoublesAndIsForgottenAfterAMinuteOfHealth) {
  Driver d(v1::RESTART_POLICY_ALWAYS);
  d.BringUp();
  int64_t expected = NodeMachine::kBackoffFirstNs;
  for (int i = 1; i <= 10; ++i) {
    d.machine.OnGone("killed by signal 9", false, d.now);
    ASSERT_EQ(d.machine.state(), NodeState::kBackoff);
    EXPECT_EQ(d.machine.api_state(), v1::DEPLOYMENT_STATE_UNHEALTHY);
    EXPECT_EQ(d.machine.NextTick() - d.now, expected);
    expected = std::min(expected * 2, NodeMachine::kBackoffMaxNs);
    EXPECT_FALSE(d.To(d.machine.NextTick() - 1).spawn);
    EXPECT_TRUE(d.To(d.machine.NextTick()).spawn);
    EXPECT_EQ(d.machine.restarts(), static_cast<uint32_t>(i));
    d.machine.OnStarted(100 + i, d.now);
    d.Answer(true);
  }
  d.now += NodeMachine::kBackoffResetNs;
  d.machine.OnGone("killed by signal 9", false, d.now);
  EXPECT_EQ(d.machine.NextTick() - d.now, NodeMachine::kBackoffFirstNs);
}

TEST(NodeMachine, NeverHealthyIsTriedOnlyUntilItsStartTimeout) {
  Driver d(v1::RESTART_POLICY_ALWAYS);
  const int64_t begun = d.now;
  d.machine.Begin(d.now);
  int starts = 0;
  while (d.machine.state() != NodeState::kFailed) {
    ASSERT_LT(++starts, 50);
    d.machine.OnStarted(100, d.now);
    d.machine.OnGone("exited with code 1", false, d.now);
    if (d.machine.state() == NodeState::kBackoff) d.To(d.machine.NextTick());
  }
  EXPECT_GT(starts, 3);
  EXPECT_LE(d.now, begun + 20 * kS);
}

TEST(NodeMachine, ThreeFailedChecksInARowMakeItUnhealthyAndNothingIsEnded) {
  Driver d(v1::RESTART_POLICY_ALWAYS);
  d.BringUp();
  d.Answer(false);
  d.Answer(false);
  d.Answer(true);
  d.Answer(false);
  d.Answer(false);
  EXPECT_EQ(d.machine.state(), NodeState::kHealthy);
  const NodeActions actions = d.Answer(false, "no answer in time");
  EXPECT_EQ(d.machine.state(), NodeState::kUnhealthy);
  EXPECT_EQ(d.machine.message(), "health check fails: no answer in time");
  EXPECT_FALSE(actions.kill || actions.terminate || actions.spawn);
  d.Answer(true);
  EXPECT_EQ(d.machine.state(), NodeState::kHealthy);
}

TEST(NodeMachine, StopTerminatesThenKillsThenGivesUp) {
  Driver d(v1::RESTART_POLICY_ALWAYS);
  d.BringUp();
  const NodeActions stop = d.machine.Stop(d.now);
  EXPECT_TRUE(stop.terminate);
  EXPECT_FALSE(stop.kill);
  EXPECT_FALSE(d.To(d.now + 5 * kS - 1).kill);
  EXPECT_TRUE(d.To(d.now + 1).kill);
  const int64_t killed = d.now;
  while (d.machine.state() == NodeState::kStopping) d.To(d.machine.NextTick());
  EXPECT_EQ(d.machine.state(), NodeState::kFailed);
  EXPECT_EQ(d.now - killed, NodeMachine::kGiveUpNs);
}

TEST(NodeMachine, StopWithoutAProcessIsOverAtOnce) {
  Driver d(v1::RESTART_POLICY_ALWAYS);
  d.BringUp();
  d.machine.OnGone("killed by signal 9", false, d.now);
  EXPECT_FALSE(d.machine.Stop(d.now).terminate);
  EXPECT_EQ(d.machine.state(), NodeState::kStopped);
  EXPECT_EQ(d.machine.NextTick(), INT64_MAX);
}

TEST(NodeMachine, StopDuringAFailedStartEndsInStopped) {
  Driver d(v1::RESTART_POLICY_ALWAYS);
  d.machine.Begin(d.now);
  d.machine.OnStarted(100, d.now);
  d.To(d.now + 20 * kS);
  ASSERT_EQ(d.machine.state(), NodeState::kStopping);
  d.machine.Stop(d.now);
  d.machine.OnGone("killed by signal 9", false, d.now);
  EXPECT_EQ(d.machine.state(), NodeState::kStopped);
}

TEST(NodeMachine, AnswerToACheckOfAnEarlierProcessIsIgnored) {
  Driver d(v1::RESTART_POLICY_ALWAYS);
  d.BringUp();
  const uint64_t old = d.To(d.machine.NextTick()).check;
  d.machine.OnGone("killed by signal 9", false, d.now);
  d.To(d.machine.NextTick());
  d.machine.OnStarted(101, d.now);
  d.machine.OnCheck(old, true, "", d.now);
  EXPECT_EQ(d.machine.state(), NodeState::kStarting);
}

TEST(NodeMachine, AdoptedIsCheckedAtOnce) {
  Driver d(v1::RESTART_POLICY_NEVER);
  EXPECT_FALSE(d.machine.Adopt(77, 3, d.now).report);
  EXPECT_EQ(d.machine.pid(), 77);
  EXPECT_EQ(d.machine.restarts(), 3u);
  EXPECT_TRUE(d.Answer(true).report);
  EXPECT_EQ(d.machine.state(), NodeState::kHealthy);
}

TEST(NodeMachine, AdoptedButGoneFollowsItsPolicy) {
  Driver never(v1::RESTART_POLICY_NEVER);
  never.machine.AdoptGone(0, never.now);
  EXPECT_EQ(never.machine.state(), NodeState::kFailed);
  Driver always(v1::RESTART_POLICY_ALWAYS);
  always.machine.AdoptGone(0, always.now);
  EXPECT_EQ(always.machine.state(), NodeState::kBackoff);
}

// Property: for any history, transitions are those of the table (the machine asserts that itself), a spawn is asked for
// only without a process, a signal only with one, every state that waits for something has a timer, and Stop ends in
// STOPPED or, after giving up, in FAILED.
TEST(NodeMachine, KeepsItsPromisesForAnyHistory) {
  for (uint32_t seed = 1; seed <= 2'000; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    Driver d(static_cast<v1::RestartPolicy>(random() % 4));
    bool process = false;
    uint64_t check = 0;
    pid_t pid = 1;
    const auto follow = [&](NodeActions actions) {
      for (int i = 0; i < 3 && actions.spawn; ++i) {
        ASSERT_FALSE(process);
        if (random() % 4 == 0) {
          actions = d.machine.OnStartFailed("no", d.now);
        } else {
          process = true;
          actions = d.machine.OnStarted(++pid, d.now);
        }
      }
      ASSERT_FALSE(actions.spawn);
      if (actions.terminate || actions.kill) {
        ASSERT_TRUE(process);
      }
      if (actions.check != 0) check = actions.check;
    };
    for (int step = 0; step < 100; ++step) {
      switch (random() % 8) {
        case 0:
          follow(d.machine.Begin(d.now));
          break;
        case 1:
          if (random() % 5 == 0) follow(d.machine.Stop(d.now));
          break;
        case 2:
        case 3:
          follow(d.machine.OnCheck(check, random() % 2 == 0, "no", d.now));
          break;
        case 4:
          if (process && random() % 3 == 0) {
            process = false;
            follow(d.machine.OnGone("gone", random() % 2 == 0, d.now));
          }
          break;
        default:
          d.now = random() % 3 == 0 || d.machine.NextTick() == INT64_MAX
                      ? d.now + static_cast<int64_t>(random() % 3'000) * kMs
                      : std::max(d.now, d.machine.NextTick());
          follow(d.machine.OnTick(d.now));
      }
      const NodeState state = d.machine.state();
      if (state == NodeState::kBackoff || state == NodeState::kStopping) {
        ASSERT_NE(d.machine.NextTick(), INT64_MAX) << ToString(state);
      }
      if (state == NodeState::kBackoff || state == NodeState::kStopped) {
        ASSERT_FALSE(process);
      }
      if (state == NodeState::kHealthy || state == NodeState::kUnhealthy) {
        ASSERT_TRUE(process);
      }
    }
    follow(d.machine.Stop(d.now));
    for (int i = 0; i < 200 && d.machine.NextTick() != INT64_MAX; ++i) {
      d.now = std::max(d.now, d.machine.NextTick());
      follow(d.machine.OnTick(d.now));
    }
    const NodeState end = d.machine.state();
    ASSERT_TRUE(end == NodeState::kStopped || end == NodeState::kFailed) << ToString(end);
  }
}

}  // namespace
}  // namespace loadstar::agent
