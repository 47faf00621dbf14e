// server/engine: the one thread that runs the core.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/core/coordinator_core.h"

namespace loadstar::server {

// Carries out what the core decided, once it is durable. Called on the engine's thread, in order; must not block.
class Outlet {
 public:
  virtual ~Outlet() = default;
  virtual void Send(SendToAgent action) = 0;
  virtual void Close(CloseSession action) = 0;
  virtual void Answer(Reply action) = 0;
  virtual void Announce(Publish action) = 0;
};

// What the engine drives: the coordinator's core, or a test's stand-in at the same interface.
struct Decider {
  std::function<void(Input input, absl::Time now, std::vector<Action>* actions)> handle;
  std::function<absl::Time()> next_tick;
  // Writes a batch's Puts and Deletes durably, all or nothing.
  std::function<absl::Status(const std::vector<Action>& actions, absl::Time now)> commit;
  // Takes back the StartTest that handle was given last.
  std::function<void(CallId call)> revoke;
  // Tidies the store up by one small step, and says when the next is due. May be null.
  std::function<absl::Duration(absl::Time now)> tidy = nullptr;
};

// Takes inputs from any thread through one bounded queue; on its own thread gives them to the core, a batch at a time,
// commits what the batch wrote, and only then carries out the rest.
//
// When a commit fails (full disk), nothing of the batch is sent, answered or acknowledged. The calls in it and in the
// queue are refused with UNAVAILABLE or RESOURCE_EXHAUSTED, new ones likewise, and the commit is tried again until it
// succeeds; agents keep their reports meanwhile. A refused call of the batch was nevertheless decided, and is carried
// out when the store can be written again: all of them but StartTest can be repeated without harm. A StartTest is the
// last input of its batch, and is taken back: a load that its caller was told would not start does not start later.
//
// When nothing is queued the store is tidied up, step by step.
class Engine {
 public:
  struct Options {
    size_t queue_max = 8192;
    size_t batch_max = 256;
    absl::Duration retry_min = absl::Milliseconds(100);
    absl::Duration retry_max = absl::Seconds(5);
  };

  Engine(Decider decider, std::function<absl::Time()> clock, Outlet* outlet, Options options);
  Engine(Decider decider, std::function<absl::Time()> clock, Outlet* outlet);
  ~Engine();

  void Start();
  // Handles what is queued, commits it and ends the thread; gives up at once on a store that cannot be written.
  void Stop();

  // Hands an input over. `taken` is called on the engine's thread when the input has been handled and committed (or the
  // engine has ended): a session reads on then. SessionClosed and ClientLeft are always taken. Others are refused with
  // RESOURCE_EXHAUSTED when the queue is full and UNAVAILABLE after Stop; a client's call also while the store fails.
  // A refused input's `taken` is not called.
  absl::Status Offer(Input input, std::function<void()> taken = nullptr);

 private:
  struct Entry {
    Input input;
    std::function<void()> taken;
  };

  // A StartTest that ends a batch, and the first of its actions.
  struct Revocable {
    CallId call;
    size_t first_action;
  };

  void Run();
  std::vector<Entry> NextBatch();
  // False: it was given up, because Stop was called.
  bool CommitOrRetry(std::vector<Action>* actions, std::optional<Revocable> revocable);
  void RefuseCallsInQueue(const absl::Status& why);
  void CarryOut(std::vector<Action> actions);
  bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_ || !queue_.empty(); }
  bool IsStopping() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_; }

  // Constant after construction.
  const Decider decider_;
  const std::function<absl::Time()> clock_;
  Outlet* const outlet_;
  const Options options_;

  std::thread thread_;
  absl::Time next_tidy_ = absl::InfiniteFuture();  // the thread's

  absl::Mutex mutex_;
  std::deque<Entry> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failing_ ABSL_GUARDED_BY(mutex_);  // why the store cannot be written at the moment
};

}  // namespace loadstar::server
