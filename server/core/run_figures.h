// The figures of one run: every sample is merged once, seconds are made into snapshots, and the whole run's totals are
// kept. Memory is bounded by the seconds that are not yet final, not by the length of the run.
//
// Invariants:
//   1. An agent reports the seconds of a run in order, so its highest second says which are in and which never will be:
//      a skipped second is a gap. A second at or below the highest is a repeat and counts for nothing.
//   2. A second is settled for an agent when the agent delivered it, delivered a later one, or is closed (finished or
//      lost). A second is final when it is settled for all; then its merge is dropped. As settled seconds have no
//      unsettled one before them, final seconds are a prefix.
//   3. Snapshots first appear strictly in order; a second that was given out without a late agent is given out again
//      when that agent's part comes in.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "lib/metrics/figures.h"
#include "loadstar/v1/metrics.pb.h"
#include "server/core/strain.h"

namespace loadstar::server {

class RunFigures {
 public:
  // Seconds that are kept waiting for an agent; past it the oldest is final without it. Larger than the seconds that
  // an agent may be out of reach for before it is lost.
  static constexpr size_t kMaxOpenSeconds = 900;

  // `processes`: of the nodes, where they are known.
  RunFigures(std::vector<std::string> endpoints, std::vector<std::string> nodes, uint32_t planned_s,
             const std::map<std::string, uint32_t>& processes = {});

  // An agent takes part; `has_workers` says whether a missing second of it is a gap.
  void Join(const std::string& agent, bool has_workers);
  // Nothing more comes of it. `finished`: it said so itself, so nothing is missing after its last second.
  void Close(const std::string& agent, bool finished);

  enum class Taken { kMerged, kRepeat, kMalformed };
  Taken Add(const std::string& agent, const v1::AgentSample& sample);

  // Hands out what is new: first-time snapshots in order, of every second that is final, or that is below `due` (whose
  // patience is over) with some later or equal second in; and again those that late data changed. The receiver fills in
  // run_id, time, stage_index and planned_s.
  using Receiver = std::function<void(v1::Snapshot*)>;
  void Publish(uint32_t due, const Receiver& receive);
  // The last call: also everything that is not final.
  void PublishAll(const Receiver& receive);
  // Seconds that Publish may still have to hand out by patience alone; the first of them.
  uint32_t next_second() const { return next_; }

  // Over everything merged. Gauges are the sums of every agent's last ones.
  void Totals(v1::LoadFigures* out) const;
  const metrics::FiguresMerger& totals() const { return totals_; }
  // True: the latency is left out of them, because some second came without or all of it is more than a message
  // carries.
  bool EndpointTotals(google::protobuf::RepeatedPtrField<v1::EndpointFigures>* out) const;
  // Some second came without the latency by endpoint, so that the run's would be no more than a part.
  bool endpoint_latency_left_out() const { return endpoint_latency_left_out_; }
  // Final after PublishAll.
  uint64_t peak_connections() const { return peak_connections_; }
  uint32_t recorded_s() const { return recorded_s_; }
  // "AGENT:FROM-TO" or "AGENT:SECOND"; past kMaxGaps a last one says how many more there are.
  static constexpr size_t kMaxGaps = 10'000;
  std::vector<std::string> Gaps() const;
  const Strain& strain() const { return strain_; }
  // Seconds in which an agent could not merge all of its workers.
  uint32_t seconds_without_worker() const { return seconds_without_worker_; }

 private:
  struct Second {
    metrics::FiguresMerger figures;
    std::map<uint32_t, metrics::FiguresMerger> endpoints;  // by index in the plan
    std::vector<v1::NodeFigures> nodes;
    std::vector<v1::WorkerUsage> workers;
    std::vector<v1::HostFigures> hosts;
    std::vector<std::string> delivered;
    bool endpoint_latency_left_out = false;
    bool changed = false;  // since it was handed out
  };
  struct Part {
    bool has_workers = false;
    bool closed = false;
    bool finished = false;
    int64_t highest = -1;
    std::vector<std::pair<uint32_t, uint32_t>> skipped;  // inclusive ranges below highest
    v1::Gauges gauges;                                   // of its last second
    std::map<uint32_t, v1::Gauges> endpoint_gauges;
  };

  bool Final(uint32_t second) const;
  void HandOut(uint32_t second, const Receiver& receive);
  void DropFinal(bool all);

  const std::vector<std::string> endpoints_;
  const std::vector<std::string> nodes_;
  const uint32_t planned_s_;
  std::map<std::string, uint32_t> endpoint_index_;
  std::map<std::string, Part> parts_;
  std::map<uint32_t, Second> open_;
  uint32_t next_ = 0;     // first second that was never handed out
  int64_t highest_ = -1;  // of any agent
  uint32_t dropped_below_ = 0;
  metrics::FiguresMerger totals_;
  std::map<uint32_t, metrics::FiguresMerger> endpoint_totals_;
  uint64_t peak_connections_ = 0;
  uint32_t recorded_s_ = 0;
  uint32_t seconds_without_worker_ = 0;
  bool endpoint_latency_left_out_ = false;
  Strain strain_;
};

}  // namespace loadstar::server
