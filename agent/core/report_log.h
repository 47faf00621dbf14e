// The agent's outbox: reports that must not be lost, numbered, kept until acknowledged, sent in order within a window.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "agent/core/agent_core.h"
#include "loadstar/v1/agent_service.pb.h"

namespace loadstar::agent {

// Invariants: acknowledged_ < next_ <= last_ + 1; memory_ holds the newest reports without a hole, the spill everything
// older that is not acknowledged. Memory is bounded by the bytes given, the window and, when the spill fails (a full
// disk), by giving up the oldest samples: each is replaced by an event that says so, so that the sequence has no hole.
class ReportLog {
 public:
  // Reports on the way without an acknowledgement.
  static constexpr uint64_t kWindow = 256;
  // Without any progress of acknowledgements for so long, everything on the way is sent again.
  static constexpr int64_t kResendAfterNs = 10'000'000'000;

  // `spill` may be null: then the memory bound is kept as if it had failed.
  ReportLog(ReportSpill* spill, uint64_t memory_bytes_max) : spill_(spill), memory_bytes_max_(memory_bytes_max) {}

  // Takes a report, gives it its number and returns that.
  uint64_t Append(v1::Report report);
  // The session stands: the coordinator has everything up to `acknowledged` and is sent what follows.
  void Begin(uint64_t acknowledged, int64_t now_ns);
  void End() { up_ = false; }
  void Acknowledge(uint64_t sequence, int64_t now_ns);
  // Hands out what may be sent now.
  void Send(int64_t now_ns, const std::function<void(const v1::Report&)>& send);

  bool acknowledged(uint64_t number) const { return number <= acknowledged_; }
  uint64_t last() const { return last_; }
  // When Send has something to do though nothing new came; INT64_MAX: never.
  int64_t NextInstant() const;

 private:
  void Bound();

  ReportSpill* const spill_;
  const uint64_t memory_bytes_max_;
  std::deque<v1::Report> memory_;
  uint64_t memory_bytes_ = 0;
  uint64_t acknowledged_ = 0;
  uint64_t next_ = 1;  // to be sent
  uint64_t last_ = 0;
  // Number on the wire = number here - shift. Not 0 only after a coordinator has lost its store and begins anew.
  uint64_t shift_ = 0;
  bool up_ = false;
  int64_t progress_ns_ = 0;
};

}  // namespace loadstar::agent
