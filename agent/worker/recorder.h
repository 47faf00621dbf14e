#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/worker/errors.h"
#include "lib/metrics/figures.h"
#include "lib/metrics/histogram.h"
#include "loadstar/v1/metrics.pb.h"
#include "loadstar/v1/worker.pb.h"

namespace loadstar::worker {

// What happened in the current second and how things stand, for each endpoint and in all. Every event is one call, and
// a call moves a counter and its gauge together, so the ledgers of metrics.proto hold at every instant by construction:
//   attempted = established + failed + change of pending       sent = answered + failed + change of outstanding
//   established = closed + lost + change of established        due = sent + dropped + change of backlog
// All times are nanoseconds and are recorded as microseconds, rounded down; negative ones count as 0.
class Recorder {
 public:
  // Distinct (phase, kind, detail) that are told apart in a run; a target that invents error codes shares one further
  // detail, kOtherDetail, for each phase and kind.
  static constexpr size_t kMaxErrorKeys = 64;
  static constexpr char kOtherDetail[] = "(others)";

  explicit Recorder(std::vector<std::string> endpoints);

  void ConnectBegun(uint32_t endpoint);
  void ConnectDone(uint32_t endpoint, int64_t took_ns);
  void ConnectFailed(uint32_t endpoint, const Failure& failure);
  void HandshakeDone(uint32_t endpoint, int64_t took_ns);
  void ConnectionClosed(uint32_t endpoint);
  void ConnectionLost(uint32_t endpoint, const Failure& failure);

  // Requests of a total rate become due without an endpoint; they get one when they are sent. One that is dropped has
  // waited that long, and never gets one: its time is in the latency of the whole, not in an endpoint's.
  void TotalRequestsDue(uint64_t count);
  void TotalRequestDropped(int64_t waited_ns);
  void RequestDue(uint32_t endpoint);
  void RequestDropped(uint32_t endpoint, int64_t waited_ns);
  // `of_total_rate`: it leaves the backlog that TotalRequestsDue filled, not the endpoint's.
  void RequestSent(uint32_t endpoint, bool of_total_rate, size_t bytes, int64_t schedule_lag_ns);
  void RequestAnswered(uint32_t endpoint, int64_t latency_ns, int64_t service_ns);
  // It failed, but its times say something: an error answer, or a timeout (the time that was waited).
  void RequestFailedAfter(uint32_t endpoint, const Failure& failure, int64_t latency_ns, int64_t service_ns);
  // It failed because we did not wait for it any longer.
  void RequestGivenUp(uint32_t endpoint, const Failure& failure, int64_t latency_ns);
  // It failed with its connection: how long it would have taken is not known.
  void RequestFailed(uint32_t endpoint, const Failure& failure);

  // Heartbeats are in no other counter but that of bytes.
  void HeartbeatSent(uint32_t endpoint, size_t bytes);
  void HeartbeatAnswered(uint32_t endpoint);
  // Its connection ended first.
  void HeartbeatFailed(uint32_t endpoint);

  void BytesSent(uint32_t endpoint, size_t bytes);
  void BytesReceived(uint32_t endpoint, size_t bytes);

  // Connections that the profile asks for, by endpoint.
  void ChangeTarget(uint32_t endpoint, int64_t change);

  uint64_t established() const { return totals_.connections_established(); }
  uint64_t pending() const { return totals_.connections_pending(); }
  uint64_t outstanding() const { return totals_.requests_outstanding(); }

  // Writes the second's figures (endpoints without anything to say are left out) and begins the next one: counters and
  // histograms from nothing, gauges as they stand.
  void TakeSecond(v1::WorkerSample* sample);

 private:
  struct Endpoint {
    std::string name;
    v1::Counters counters;
    v1::Gauges gauges;
    metrics::Histogram latency;
  };

  void CountError(v1::ErrorPhase phase, const Failure& failure);

  std::vector<Endpoint> endpoints_;
  // Due and dropped of a total rate, and how long the dropped waited.
  v1::Counters unattributed_;
  metrics::Histogram unattributed_latency_;
  v1::Gauges totals_;
  std::map<metrics::ErrorKey, uint64_t> errors_;  // keys stay for the run, counts are the second's
  metrics::Histogram service_time_, schedule_lag_, connect_time_, handshake_time_;
  metrics::Histogram scratch_;
};

}  // namespace loadstar::worker
