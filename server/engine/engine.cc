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

enum class Fate { kNotDone, kMayBeDone };

// What a caller is told while the store cannot be written: the store's code when it says what to do, else UNAVAILABLE.
absl::Status ToCaller(const absl::Status& store, Fate fate) {
  const std::string text =
      absl::StrCat("the coordinator cannot record anything: ", store.message(),
                   fate == Fate::kNotDone ? "; nothing was done; make room on its disk, then try again"
                                          : "; it will do what was asked for when it can again; make room on its disk, "
                                            "then look before you try again");
  return absl::IsResourceExhausted(store) ? absl::ResourceExhaustedError(text) : absl::UnavailableError(text);
}

// The call, if the input is its StartTest.
std::optional<CallId> StartedBy(const Input& input) {
  const auto* called = std::get_if<ClientCalled>(&input);
  if (called == nullptr || !std::holds_alternative<ClientCalled::StartTest>(called->request)) return std::nullopt;
  return called->call;
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
  if (call && !failing_.ok()) return ToCaller(failing_, Fate::kNotDone);
  if (!always && queue_.size() >= options_.queue_max) {
    return absl::ResourceExhaustedError("the coordinator has more to do than it can keep; try again");
  }
  queue_.push_back({std::move(input), std::move(taken)});
  return absl::OkStatus();
}

std::vector<Engine::Entry> Engine::NextBatch() {
  const absl::Time tick = std::min(decider_.next_tick(), next_tidy_);
  const absl::Duration wait =
      tick == absl::InfiniteFuture() ? absl::InfiniteDuration() : std::max(kTickMin, tick - clock_());
  std::vector<Entry> batch;
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(this, &Engine::HasWork), wait);
  while (!queue_.empty() && batch.size() < options_.batch_max) {
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
    // It has to be the last, so that it alone can be taken back.
    if (StartedBy(batch.back().input).has_value()) break;
  }
  return batch;
}

void Engine::Run() {
  if (decider_.tidy) next_tidy_ = clock_();
  while (true) {
    std::vector<Entry> batch = NextBatch();
    std::vector<Action> actions;
    std::optional<Revocable> revocable;
    for (Entry& entry : batch) {
      if (const auto call = StartedBy(entry.input)) revocable = Revocable{*call, actions.size()};
      decider_.handle(std::move(entry.input), clock_(), &actions);
    }
    bool drained = false;
    bool stopping = false;
    {
      absl::MutexLock lock(&mutex_);
      drained = queue_.empty();
      stopping = stopping_;
    }
    // Only when nothing is queued: after a long stall what agents have said counts before a timeout does.
    const bool idle = drained && !stopping && !revocable.has_value();
    if (idle && decider_.next_tick() <= clock_()) decider_.handle(Tick{}, clock_(), &actions);
    const bool committed = CommitOrRetry(&actions, revocable);
    if (committed) CarryOut(std::move(actions));
    if (committed && idle && next_tidy_ <= clock_()) next_tidy_ = clock_() + decider_.tidy(clock_());
    for (Entry& entry : batch) {
      if (entry.taken) entry.taken();
    }
    if (!committed || (stopping && drained)) return;
  }
}

bool Engine::CommitOrRetry(std::vector<Action>* actions, std::optional<Revocable> revocable) {
  absl::Duration backoff = options_.retry_min;
  bool failed = false;
  while (true) {
    const absl::Status status = decider_.commit(*actions, clock_());
    if (status.ok()) break;
    spdlog::error("store: event=commit-failed retry_in={} error=\"{}\"", absl::FormatDuration(backoff),
                  std::string(status.message()));
    if (revocable.has_value()) {
      decider_.revoke(revocable->call);
      actions->erase(actions->begin() + static_cast<std::ptrdiff_t>(revocable->first_action), actions->end());
      outlet_->Answer({revocable->call, ToCaller(status, Fate::kNotDone), {}, true});
      revocable.reset();
      continue;  // what is left may be nothing
    }
    RefuseCallsInQueue(status);  // and those that come, from here on
    if (!failed) {
      // Their callers are told now that it is not known; the answers must not follow later.
      failed = true;
      const absl::Status refusal = ToCaller(status, Fate::kMayBeDone);
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
  for (CallId call : refused) outlet_->Answer({call, ToCaller(why, Fate::kNotDone), {}, true});
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
