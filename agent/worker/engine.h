#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/worker/load.h"
#include "agent/worker/recorder.h"
#include "agent/worker/settings.h"
#include "agent/worker/usage.h"
#include "lib/net/loop.h"
#include "loadstar/v1/worker.pb.h"

namespace loadstar::worker {

// Where an engine's messages go.
class AgentLink {
 public:
  virtual ~AgentLink() = default;
  virtual void Send(const v1::WorkerToAgent& message) = 0;
};

// One worker's part of one run: ties the load to its seconds and to the agent. Runs on the loop's thread.
//
// Life: Create (plan understood, memory taken: the owner says WorkerReady), then Receive is given start, updates and
// stop, then samples go to the link, one a second without a gap from elapsed 0 on, then WorkerFinished and finished().
// A stop before the start finishes at once, without samples.
class Engine final : public net::TickHandler, private LoadObserver {
 public:
  // `loop` and `link` must outlive the engine, which becomes the loop's tick handler.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const v1::WorkerPlan& plan, net::Loop* loop, AgentLink* link,
                                                        Clock clock = &net::Loop::ReadClock);
  ~Engine() override;

  // A message of the agent after the plan. A second plan or an empty message is an error and changes nothing.
  absl::Status Receive(const v1::AgentToWorker& message);
  // Ends as WorkerStop now, but what is in flight gets a second at most.
  void Terminate();
  bool finished() const { return finished_; }

  int64_t OnTick(int64_t now_ns) override;

 private:
  static constexpr int64_t kSecond_ns = 1'000'000'000;

  Engine(Settings settings, net::Loop* loop, AgentLink* link, Clock clock);

  void OnTime(int64_t now_ns) override {
    if (batch_began_ns_ == 0) batch_began_ns_ = now_ns;
    if (started_ && now_ns >= second_ends_ns_) CloseSeconds(now_ns);
  }
  void OnEvent(const char* code, uint32_t severity, const std::string& message) override;
  void Stop(int64_t at_elapsed_ns);
  void CloseSeconds(int64_t now_ns);
  void SendSecond();
  void Finish();

  // Constant after construction.
  const Settings settings_;
  net::Loop* const loop_;
  AgentLink* const link_;
  const Clock clock_;

  Recorder recorder_;
  std::unique_ptr<Load> load_;  // constant after Create
  UsageMeter usage_;
  v1::WorkerToAgent sample_;  // kept: its memory is used again each second
  int64_t start_ns_ = -1;     // -1: not told yet
  bool started_ = false;
  bool finished_ = false;
  bool truncation_reported_ = false;
  int64_t second_ends_ns_ = 0;
  uint32_t second_ = 0;
  int64_t batch_began_ns_ = 0;  // first completion since the last tick; 0: none
  int64_t loop_max_ns_ = 0;
};

}  // namespace loadstar::worker
