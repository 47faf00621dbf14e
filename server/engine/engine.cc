#include "server/engine/engine.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/store/run_row.h"

namespace loadstar::server {
namespace {

// A core that always wants its tick at once must not keep a processor busy.
constexpr absl::Duration kTickMin = absl::Milliseconds(1);

// What a caller is told while the store cannot be written: the store's code when it says what to do, else UNAVAILABLE.
absl::Status ToCaller(const absl::Status& store) {
  const std::string text = absl::StrCat("the coordinator cannot record anything: ", store.message(),
                                        "; make room on its disk, then try again (with the same request_id)");
  return absl::IsResourceExhausted(store) ? absl::ResourceExhaustedError(text) : absl::UnavailableError(text);
}

}  // namespace

Engine::Engine(Decider decider, std::function<absl::Time()> clock, Outlet* outlet, Options options)
    : decider_(std::move(decider)), clock_(std::move(clock)), outlet_(outlet), options_(options) {}
Engine::Engine(Decider decider, std::function<absl::Time()> clock, Outlet* outlet)
    : Engine(std::move(decider), std::move(clock), outlet, Options()) {}

Engine::~Engine() { Stop(); }

void Engine::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Engine::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

absl::Status Engine::Offer(Input input, std::function<void()> taken) {
  const bool always = std::holds_alternative<SessionClosed>(input) || std::holds_alternative<ClientLeft>(input);
  const bool call = std::holds_alternative<ClientCalled>(input);
  absl::MutexLock lock(&mutex_);
  if (stopping_) return absl::UnavailableError("the coordinator is shutting down");
  if (call && !failing_.ok()) return ToCaller(failing_);
  if (!always && queue_.size() >= options_.queue_max) {
    return absl::ResourceExhaustedError("the coordinator has more to do than it can keep; try again");
  }
  queue_.push_back({std::move(input), std::move(taken)});
  return absl::OkStatus();
}

std::vector<Engine::Entry> Engine::NextBatch() {
  const absl::Time tick = decider_.next_tick();
  const absl::Duration wait =
      tick == absl::InfiniteFuture() ? absl::InfiniteDuration() : std::max(kTickMin, tick - clock_());
  std::vector<Entry> batch;
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(this, &Engine::HasWork), wait);
  while (!queue_.empty() && batch.size() < options_.batch_max) {
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return batch;
}

void Engine::Run() {
  while (true) {
    std::vector<Entry> batch = NextBatch();
    std::vector<Action> actions;
    for (Entry& entry : batch) decider_.handle(std::move(entry.input), clock_(), &actions);
    bool drained = false;
    bool stopping = false;
    {
      absl::MutexLock lock(&mutex_);
      drained = queue_.empty();
      stopping = stopping_;
    }
    // Only when nothing is queued: after a long stall what agents have said counts before a timeout does.
    if (drained && !stopping && decider_.next_tick() <= clock_()) decider_.handle(Tick{}, clock_(), &actions);
    const bool committed = CommitOrRetry(&actions);
    if (committed) CarryOut(std::move(actions));
    for (Entry& entry : batch) {
      if (entry.taken) entry.taken();
    }
    if (!committed || (stopping && drained)) return;
  }
}

bool Engine::CommitOrRetry(std::vector<Action>* actions) {
  absl::Duration backoff = options_.retry_min;
  bool failed = false;
  while (true) {
    const absl::Status status = decider_.commit(*actions, clock_());
    if (status.ok()) break;
    spdlog::error("store: event=commit-failed retry_in={} error=\"{}\"", absl::FormatDuration(backoff),
                  std::string(status.message()));
    RefuseCallsInQueue(status);  // and those that come, from here on
    if (!failed) {
      // Their callers are told now that it is not known; the answers must not follow later.
      failed = true;
      const absl::Status refusal = ToCaller(status);
      for (Action& action : *actions) {
        if (auto* reply = std::get_if<Reply>(&action)) outlet_->Answer({reply->call, refusal, {}, true});
      }
      std::erase_if(*actions, [](const Action& action) { return std::holds_alternative<Reply>(action); });
    }
    absl::MutexLock lock(&mutex_);
    if (mutex_.AwaitWithTimeout(absl::Condition(this, &Engine::IsStopping), backoff)) {
      spdlog::error(
          "store: event=gave-up reason=\"stopping while the store cannot be written; nothing of it was "
          "acknowledged, agents will send it again\"");
      return false;
    }
    backoff = std::min(backoff * 2, options_.retry_max);
  }
  if (failed) {
    absl::MutexLock lock(&mutex_);
    failing_ = absl::OkStatus();
    spdlog::info("store: event=commit-succeeded-again");
  }
  return true;
}

void Engine::RefuseCallsInQueue(const absl::Status& why) {
  std::vector<CallId> refused;
  {
    absl::MutexLock lock(&mutex_);
    failing_ = why;
    std::erase_if(queue_, [&](const Entry& entry) {
      const auto* call = std::get_if<ClientCalled>(&entry.input);
      if (call != nullptr) refused.push_back(call->call);
      return call != nullptr;
    });
  }
  for (CallId call : refused) outlet_->Answer({call, ToCaller(why), {}, true});
}

void Engine::CarryOut(std::vector<Action> actions) {
  for (Action& action : actions) {
    if (auto* send = std::get_if<SendToAgent>(&action)) {
      outlet_->Send(std::move(*send));
    } else if (auto* close = std::get_if<CloseSession>(&action)) {
      outlet_->Close(std::move(*close));
    } else if (auto* reply = std::get_if<Reply>(&action)) {
      outlet_->Answer(std::move(*reply));
    } else if (auto* publish = std::get_if<Publish>(&action)) {
      outlet_->Announce(std::move(*publish));
    }
  }
}

}  // namespace loadstar::server
