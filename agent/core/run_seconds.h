// The seconds of one run on this agent: worker samples merged by second, each reported once and in order.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/metrics/figures.h"
#include "loadstar/v1/agent_service.pb.h"
#include "loadstar/v1/worker.pb.h"

namespace loadstar::agent {

// A second is reported when every worker that is still at work has delivered it or a later one, and the observed nodes
// have spoken; or, once its patience is over, as soon as one worker has. The host's own reading comes within
// milliseconds of the second's end and is waited for no longer than host_patience_ns: a second that it misses has none,
// and what it counted is in a later one. Nothing measured is dropped: what comes after
// its second was reported is counted in the next one (without its gauges), and the second that lacked it says so by
// workers_merged < workers_expected.
class RunSeconds {
 public:
  struct Options {
    std::string run_id;
    uint32_t first_worker = 0;
    uint32_t worker_count = 0;
    std::vector<std::string> endpoints;
    std::vector<std::string> nodes;
    bool observing = false;
    int64_t patience_ns = 0;
    int64_t host_patience_ns = 0;  // 0: nobody reads the host
  };
  explicit RunSeconds(Options options);

  // False when the sample cannot be read.
  bool Add(uint32_t worker, const v1::WorkerSample& sample);
  void AddNodes(uint32_t second, std::vector<v1::NodeFigures> nodes);
  // What the nodes said, and the memory of the host that was unused, before there was any load: reported with the first
  // second.
  void AddNodesBefore(std::vector<v1::NodeFigures> nodes) { nodes_before_ = std::move(nodes); }
  void AddMemoryBefore(uint64_t unused_bytes) { memory_unused_before_bytes_ = unused_bytes; }
  void AddHost(uint32_t second, const v1::HostFigures& host);

  enum class Ending {
    kFinished,  // it said so; its ledger is closed
    kDied,      // its connections are lost from the second after its last one on
    kAborted,   // it was killed at our own wish: its connections count as closed, what was under way as abandoned
  };
  void End(uint32_t worker, Ending ending);

  // Reports what is ready at this time since the start.
  void Report(int64_t elapsed_ns, const std::function<void(v1::AgentSample)>& report);

  // Every worker has ended and every second is reported.
  bool Through() const { return live_ == 0 && seconds_.empty(); }
  uint32_t next_second() const { return next_; }
  // Connections of the workers that have not ended, by their last samples: established and being established.
  uint64_t ConnectionsHeld() const;
  // When Report may have something by patience alone, since the start, ns.
  int64_t NextInstant() const;

 private:
  struct Worker {
    int64_t highest = -1;
    bool live = true;
    bool died = false;
    v1::Gauges gauges;
    std::map<uint32_t, v1::Gauges> endpoint_gauges;
  };
  struct Second {
    metrics::FiguresMerger figures;
    std::map<uint32_t, metrics::FiguresMerger> endpoints;
    std::vector<v1::WorkerUsage> usage;
    std::vector<v1::NodeFigures> nodes;
    uint32_t merged = 0;
    v1::HostFigures host;
    bool has_nodes = false;
    bool has_host = false;
    bool has_figures = false;
  };

  bool Delivered(uint32_t second) const;
  uint32_t Expected(uint32_t second) const;
  // The last worker has had its last second before this one: nothing is under load any more.
  bool PastLoad(uint32_t second) const;
  v1::AgentSample Make(uint32_t k, const Second& second);
  static int64_t EndOf(uint32_t second) { return (int64_t{second} + 1) * 1'000'000'000; }
  int64_t DueAt(uint32_t second) const { return EndOf(second) + options_.patience_ns; }
  bool HostSettled(uint32_t second, bool has_host, int64_t elapsed_ns) const;
  int64_t HostDueAt(uint32_t second) const { return EndOf(second) + options_.host_patience_ns; }

  const Options options_;
  std::map<std::string, uint32_t> endpoint_index_;
  std::vector<Worker> workers_;
  uint32_t live_;
  std::map<uint32_t, Second> seconds_;  // not yet reported
  uint32_t next_ = 0;
  std::vector<v1::NodeFigures> nodes_before_;  // as the next: until it is reported
  std::optional<uint64_t> memory_unused_before_bytes_;
};

}  // namespace loadstar::agent
