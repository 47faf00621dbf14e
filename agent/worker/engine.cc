#include "agent/worker/engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/worker/control.h"

namespace loadstar::worker {
namespace {

// Rather than break the channel's bound a sample leaves its endpoints out.
constexpr size_t kMaxSample = kMaxControlMessage - 1024;

// What is in flight when the worker is told to terminate.
constexpr int64_t kTerminateDrain_ns = 1'000'000'000;

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const v1::WorkerPlan& plan, net::Loop* loop, AgentLink* link,
                                                       Clock clock) {
  auto settings = Settings::From(plan);
  if (!settings.ok()) return settings.status();
  auto engine = std::unique_ptr<Engine>(new Engine(*std::move(settings), loop, link, clock));
  auto load = Load::Create(&engine->settings_, loop, &engine->recorder_, engine.get(), clock);
  if (!load.ok()) return load.status();
  engine->load_ = *std::move(load);
  loop->SetTickHandler(engine.get());
  return engine;
}

Engine::Engine(Settings settings, net::Loop* loop, AgentLink* link, Clock clock)
    : settings_(std::move(settings)),
      loop_(loop),
      link_(link),
      clock_(clock),
      recorder_({settings_.plan.endpoints().begin(), settings_.plan.endpoints().end()}) {}

Engine::~Engine() { loop_->SetTickHandler(nullptr); }

absl::Status Engine::Receive(const v1::AgentToWorker& message) {
  switch (message.message_case()) {
    case v1::AgentToWorker::kStart:
      if (start_ns_ >= 0) return absl::FailedPreconditionError("start: the load was started before");
      if (message.start().start_monotonic_ns() < 0) return absl::InvalidArgumentError("start: the instant is negative");
      start_ns_ = message.start().start_monotonic_ns();
      load_->Start(start_ns_);
      return absl::OkStatus();
    case v1::AgentToWorker::kUpdate:
      load_->Update(message.update().at_elapsed_ns(), message.update().update());
      return absl::OkStatus();
    case v1::AgentToWorker::kStop:
      Stop(message.stop().at_elapsed_ns());
      return absl::OkStatus();
    case v1::AgentToWorker::kPlan:
      return absl::FailedPreconditionError("plan: a worker carries out one plan; start another worker");
    case v1::AgentToWorker::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("the message says nothing this worker knows: is it older than its agent?");
}

void Engine::Stop(int64_t at_elapsed_ns) {
  if (start_ns_ < 0) return Finish();
  load_->EndAt(at_elapsed_ns);
}

void Engine::Terminate() {
  if (finished_) return;
  load_->LimitDrain(kTerminateDrain_ns);
  Stop(clock_() - start_ns_);
}

int64_t Engine::OnTick(int64_t now_ns) {
  if (start_ns_ < 0 || finished_) return kNever;
  if (now_ns < start_ns_) return start_ns_;
  if (!std::exchange(started_, true)) {
    second_ends_ns_ = start_ns_ + kSecond_ns;
    usage_.Begin(clock_(), loop_->stats());
    v1::WorkerToAgent message;
    message.mutable_started()->set_started_monotonic_ns(now_ns);
    link_->Send(message);
  }
  OnTime(now_ns);
  const int64_t next_ns = load_->Tick(now_ns);
  if (load_->finished()) {
    Finish();
    return kNever;
  }
  // A turn is what was done since the loop woke up: its completions and this tick.
  loop_max_ns_ = std::max(loop_max_ns_, clock_() - std::exchange(batch_began_ns_, 0));
  return std::min(next_ns, second_ends_ns_);
}

void Engine::CloseSeconds(int64_t now_ns) {
  // A loop that was late still sends every second: what happened meanwhile counts in the one that is open.
  while (now_ns >= second_ends_ns_) {
    load_->RecordUntil(second_ends_ns_ - start_ns_);
    SendSecond();
    second_ends_ns_ += kSecond_ns;
  }
}

void Engine::SendSecond() {
  v1::WorkerSample* sample = sample_.mutable_sample();
  sample->set_elapsed_s(second_++);
  recorder_.TakeSecond(sample);
  v1::WorkerUsage* usage = sample->mutable_usage();
  usage->Clear();
  usage->set_worker_index(settings_.plan.worker_index());
  usage_.Take(clock_(), loop_->stats(), usage);
  usage->set_loop_max_ns(static_cast<uint64_t>(std::exchange(loop_max_ns_, 0)));
  if (sample_.ByteSizeLong() > kMaxSample) {
    sample->clear_endpoints();
    if (!std::exchange(truncation_reported_, true)) {
      OnEvent("sample-truncated", 2,
              absl::StrCat("a second's figures of ", settings_.endpoints.size(),
                           " endpoints are beyond the channel's 4 MiB: sums are sent, endpoints are left out"));
    }
  }
  link_->Send(sample_);
}

void Engine::OnEvent(const char* code, uint32_t severity, const std::string& message) {
  v1::WorkerToAgent out;
  v1::WorkerEvent* event = out.mutable_event();
  event->set_code(code);
  event->set_severity(severity);
  event->set_message(message);
  event->set_at_elapsed_ns(started_ ? clock_() - start_ns_ : 0);
  link_->Send(out);
}

void Engine::Finish() {
  if (std::exchange(finished_, true)) return;
  if (started_) {
    load_->RecordUntil(INT64_MAX);
    SendSecond();
  }
  v1::WorkerToAgent message;
  message.mutable_finished()->set_samples(second_);
  link_->Send(message);
}

}  // namespace loadstar::worker
