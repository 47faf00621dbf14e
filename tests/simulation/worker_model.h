// A load worker as its agent sees it: follows its part of the profile, makes up requests, keeps its ledgers, and says
// one sample a second. What it measures is drawn from its seed, so that it can be compared with what arrives.
#pragma once

#include <cstdint>
#include <memory>

#include "lib/metrics/histogram.h"
#include "lib/plan/profile.h"
#include "loadstar/v1/worker.pb.h"
#include "tests/simulation/random.h"

namespace loadstar::simulation {

class WorkerModel {
 public:
  WorkerModel(const v1::WorkerPlan& plan, uint64_t seed);

  const v1::WorkerPlan& plan() const { return plan_; }
  void Update(const v1::WorkerUpdate& update);
  // The profile counts as over at that time since the start.
  void StopAt(int64_t elapsed_ns);
  int64_t end_ns() const { return end_ns_; }
  // When the next sample is due, since the start: the end of its second or of the load.
  int64_t NextSampleNs() const;
  // The next second; the last one closes everything.
  v1::WorkerSample Sample();
  bool finished() const { return finished_; }
  uint32_t samples() const { return second_; }

 private:
  const v1::WorkerPlan plan_;
  Random random_;
  plan::ConnectionProfile profile_;
  int64_t end_ns_;
  uint32_t second_ = 0;
  v1::Gauges gauges_;
  bool finished_ = false;
};

}  // namespace loadstar::simulation
