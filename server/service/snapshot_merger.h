#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>

#include "lib/metrics/figures.h"
#include "loadstar/v1/metrics.pb.h"

namespace loadstar::server {

// Merges consecutive snapshots of a run into one: counters and histograms add up, gauges and nodes are the last's,
// percentiles are read from the merged histograms, what workers spent and hosts counted adds up.
class SnapshotMerger {
 public:
  // Snapshots in the order of their seconds. False when a histogram is malformed; then the merger is of no more use.
  [[nodiscard]] bool Add(v1::Snapshot snapshot);
  v1::Snapshot Take();

 private:
  v1::Snapshot last_;  // everything that the last one decides
  bool begun_ = false;
  uint32_t from_elapsed_s_ = 0;
  metrics::FiguresMerger figures_;
  // By node and endpoint, in the order of the plan as first seen.
  std::map<std::pair<std::string, std::string>, metrics::FiguresMerger> endpoints_;
  std::map<uint32_t, v1::WorkerUsage> workers_;
  std::map<std::string, v1::HostFigures> hosts_;  // by agent
  std::set<std::string> missing_agents_;
  bool endpoint_latency_left_out_ = false;
};

}  // namespace loadstar::server
