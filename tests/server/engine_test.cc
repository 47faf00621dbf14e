// The engine with a stand-in for the core and the store: what is committed when, and what is told to whom.
#include "server/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "server/engine/clock.h"

namespace loadstar::server {
namespace {

using ::testing::ElementsAre;

// Keeps what happened, in order.
class Log : public Outlet {
 public:
  void Add(const std::string& line) {
    absl::MutexLock lock(&mutex_);
    lines_.push_back(line);
  }
  std::vector<std::string> lines() {
    absl::MutexLock lock(&mutex_);
    return lines_;
  }
  bool WaitFor(const std::string& line) {
    const auto there = [&] { return std::find(lines_.begin(), lines_.end(), line) != lines_.end(); };
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(20));
  }
  void Send(SendToAgent action) override { Add("send " + std::to_string(action.session)); }
  void Close(CloseSession action) override { Add("close " + std::to_string(action.session)); }
  void Answer(Reply action) override {
    Add("reply " + std::to_string(action.call) + " " + absl::StatusCodeToString(action.status.code()));
  }
  void Announce(Publish action) override { Add("publish " + action.run_id); }

 private:
  absl::Mutex mutex_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() {
    options_.retry_min = absl::Milliseconds(1);
    options_.retry_max = absl::Milliseconds(5);
  }
  // A core that writes a cursor for every message of an agent and acknowledges it; answers every call.
  Decider MakeDecider() {
    return {
        [this](Input input, absl::Time now, std::vector<Action>* actions) {
          EXPECT_GE(now, last_);
          last_ = now;
          if (hold_handling_) release_.WaitForNotification();
          if (const auto* said = std::get_if<SessionSaid>(&input)) {
            actions->push_back(SendToAgent{said->session, {}});
            actions->push_back(PutCursor{"h1", "i1", said->session});
          } else if (const auto* call = std::get_if<ClientCalled>(&input)) {
            if (std::holds_alternative<ClientCalled::StartTest>(call->request)) {
              started_ = call->call;
              actions->push_back(PutRun{});
              actions->push_back(SendToAgent{call->call, {}});
            }
            actions->push_back(Reply{call->call, absl::OkStatus(), v1::ListAgentsResponse(), true});
          } else if (std::holds_alternative<Tick>(input)) {
            log_.Add("tick");
            tick_ = absl::InfiniteFuture();
          } else if (const auto* closed = std::get_if<SessionClosed>(&input)) {
            log_.Add("closed " + std::to_string(closed->session));
          }
        },
        [this] { return tick_; },
        [this](const std::vector<Action>& actions, absl::Time) {
          if (store_fails_ && !actions.empty()) {
            log_.Add("failed");
            return absl::ResourceExhaustedError("disk full");
          }
          if (!actions.empty()) log_.Add("commit");
          return absl::OkStatus();
        },
        [this](CallId call) { log_.Add((call == started_ ? "revoke " : "revoke another ") + std::to_string(call)); },
        [this](absl::Time) {
          log_.Add("tidy");
          return tidy_again_;
        }};
  }
  void Start() {
    engine_ = std::make_unique<Engine>(
        MakeDecider(), [this] { return clock_.Now(); }, &log_, options_);
    engine_->Start();
  }
  static ClientCalled Call(CallId id) { return {id, v1::ListAgentsRequest()}; }

  SteadyWallClock clock_{absl::Now(), absl::InfinitePast()};
  Engine::Options options_;
  Log log_;
  std::atomic<bool> store_fails_{false};
  std::atomic<bool> hold_handling_{false};
  absl::Notification release_;
  absl::Time tick_ = absl::InfiniteFuture();
  absl::Duration tidy_again_ = absl::InfiniteDuration();
  CallId started_ = 0;
  absl::Time last_ = absl::InfinitePast();
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, NothingIsSentBeforeItIsCommitted) {
  Start();
  absl::Notification taken;
  ASSERT_TRUE(engine_->Offer(SessionSaid{7, {}}, [&] { taken.Notify(); }).ok());
  ASSERT_TRUE(taken.WaitForNotificationWithTimeout(absl::Seconds(20)));
  std::vector<std::string> lines = log_.lines();
  std::erase(lines, "tidy");
  EXPECT_THAT(lines, ElementsAre("commit", "send 7"));
}

TEST_F(EngineTest, WhileTheStoreFailsNothingIsAcknowledgedAndCallsAreRefused) {
  store_fails_ = true;
  Start();
  ASSERT_TRUE(engine_->Offer(SessionSaid{7, {}}).ok());
  ASSERT_TRUE(log_.WaitFor("failed"));
  // Refused at the door or out of the queue.
  absl::Status refused;
  for (int i = 0; i < 1000 && refused.ok(); ++i) {
    refused = engine_->Offer(Call(i));
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), ::testing::HasSubstr("make room"));
  EXPECT_THAT(log_.lines(), ::testing::Not(::testing::Contains("send 7")));
  EXPECT_THAT(log_.lines(), ::testing::Not(::testing::Contains(::testing::HasSubstr("OK"))));
  store_fails_ = false;
  EXPECT_TRUE(log_.WaitFor("send 7")) << "what was decided is carried out when it is durable";
  while (!engine_->Offer(Call(5000)).ok()) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(log_.WaitFor("reply 5000 OK"));
}

TEST_F(EngineTest, ACallInTheFailingBatchIsAnsweredOnceAndNotWithSuccess) {
  store_fails_ = true;
  Start();
  ASSERT_TRUE(engine_->Offer(Call(1)).ok());
  ASSERT_TRUE(log_.WaitFor("reply 1 RESOURCE_EXHAUSTED"));
  store_fails_ = false;
  while (!engine_->Offer(Call(2)).ok()) absl::SleepFor(absl::Milliseconds(1));
  ASSERT_TRUE(log_.WaitFor("reply 2 OK"));
  EXPECT_THAT(log_.lines(), ::testing::Not(::testing::Contains("reply 1 OK")));
}

TEST_F(EngineTest, AStartTestThatCannotBeRecordedIsTakenBack) {
  store_fails_ = true;
  hold_handling_ = true;
  Start();
  const auto start = [](CallId call) { return ClientCalled{call, ClientCalled::StartTest()}; };
  // The first holds the thread, so that the others make one batch.
  ASSERT_TRUE(engine_->Offer(SessionClosed{1}).ok());
  ASSERT_TRUE(engine_->Offer(start(2)).ok());
  ASSERT_TRUE(engine_->Offer(start(3)).ok());
  hold_handling_ = false;
  release_.Notify();
  ASSERT_TRUE(log_.WaitFor("reply 2 RESOURCE_EXHAUSTED"));
  ASSERT_TRUE(log_.WaitFor("reply 3 RESOURCE_EXHAUSTED"));
  store_fails_ = false;
  ASSERT_TRUE(engine_->Offer(start(4)).ok());
  ASSERT_TRUE(log_.WaitFor("reply 4 OK"));
  const std::vector<std::string> lines = log_.lines();
  EXPECT_THAT(lines, ::testing::IsSupersetOf({"revoke 2", "revoke 3", "send 4"}));
  EXPECT_THAT(lines, ::testing::Not(::testing::Contains("send 2"))) << "it must not start later";
  EXPECT_THAT(lines, ::testing::Not(::testing::Contains("send 3")));
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "commit"), 1);
}

TEST_F(EngineTest, TakingBackAStartTestLeavesTheRestOfItsBatch) {
  store_fails_ = true;
  hold_handling_ = true;
  Start();
  ASSERT_TRUE(engine_->Offer(SessionClosed{1}).ok());
  ASSERT_TRUE(engine_->Offer(SessionSaid{7, {}}).ok());
  ASSERT_TRUE(engine_->Offer(ClientCalled{8, ClientCalled::StartTest()}).ok());
  hold_handling_ = false;
  release_.Notify();
  ASSERT_TRUE(log_.WaitFor("reply 8 RESOURCE_EXHAUSTED"));
  store_fails_ = false;
  EXPECT_TRUE(log_.WaitFor("send 7"));
  EXPECT_THAT(log_.lines(), ::testing::Not(::testing::Contains("send 8")));
}

TEST_F(EngineTest, TidiesUpWhenIdleAndAgainWhenThatIsDue) {
  tidy_again_ = absl::Milliseconds(5);
  Start();
  const auto often = [this] {
    const std::vector<std::string> lines = log_.lines();
    return std::count(lines.begin(), lines.end(), "tidy") >= 3;
  };
  for (int i = 0; i < 4000 && !often(); ++i) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_TRUE(often());
}

TEST_F(EngineTest, StopGivesUpOnAStoreThatCannotBeWritten) {
  store_fails_ = true;
  Start();
  ASSERT_TRUE(engine_->Offer(SessionSaid{7, {}}).ok());
  ASSERT_TRUE(log_.WaitFor("failed"));
  engine_->Stop();
  EXPECT_THAT(log_.lines(), ::testing::Not(::testing::Contains("send 7")));
}

TEST_F(EngineTest, AFullQueueRefusesButAlwaysTakesTheEndOfASession) {
  options_.queue_max = 4;
  hold_handling_ = true;
  Start();
  absl::Status status;
  int taken = 0;
  while (taken < 100) {
    status = engine_->Offer(SessionSaid{1, {}});
    if (!status.ok()) break;
    ++taken;
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_LE(taken, 8) << "4 queued and at most 4 in the batch";
  EXPECT_TRUE(engine_->Offer(SessionClosed{9}).ok());
  hold_handling_ = false;
  release_.Notify();
  EXPECT_TRUE(log_.WaitFor("closed 9"));
}

TEST_F(EngineTest, StopHandlesWhatIsQueuedThenRefuses) {
  Start();
  for (CallId i = 1; i <= 1000; ++i) ASSERT_TRUE(engine_->Offer(Call(i)).ok());
  engine_->Stop();
  EXPECT_TRUE(log_.WaitFor("reply 1000 OK"));
  EXPECT_EQ(engine_->Offer(Call(1)).code(), absl::StatusCode::kUnavailable);
}

TEST_F(EngineTest, TicksWhenTheCoreWantsIt) {
  tick_ = clock_.Now() + absl::Milliseconds(30);
  const absl::Time due = tick_;
  Start();
  ASSERT_TRUE(log_.WaitFor("tick"));
  EXPECT_GE(clock_.Now(), due);
}

TEST(SteadyWallClock, IsNeverEarlierThanWhatAnEarlierLifeStored) {
  const absl::Time stored = absl::Now() + absl::Hours(1);
  const SteadyWallClock clock(absl::Now(), stored);
  EXPECT_GE(clock.Now(), stored);
}

// A suspend is what makes CLOCK_BOOTTIME run ahead of CLOCK_MONOTONIC; a child in a time namespace sees the same.
TEST(SteadyWallClock, GoesOnWhileTheHostIsSuspended) {
  const SteadyWallClock clock(absl::FromUnixSeconds(1'700'000'000), absl::InfinitePast());
  constexpr int kCannot = 77;
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWTIME) != 0) _exit(kCannot);
    FILE* offsets = fopen("/proc/self/timens_offsets", "w");
    if (offsets == nullptr || fputs("boottime 3600 0", offsets) < 0 || fclose(offsets) != 0) _exit(kCannot);
    const pid_t suspended = fork();
    if (suspended == 0) _exit(clock.Now() >= absl::FromUnixSeconds(1'700'000'000 + 3600) ? 0 : 1);
    int status = 0;
    waitpid(suspended, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == kCannot) GTEST_SKIP() << "no time namespaces here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace loadstar::server
