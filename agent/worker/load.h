#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/worker/connection.h"
#include "agent/worker/in_flight.h"
#include "agent/worker/pacer.h"
#include "agent/worker/protocols/protocol.h"
#include "agent/worker/recorder.h"
#include "agent/worker/settings.h"
#include "lib/net/loop.h"
#include "lib/net/timer_wheel.h"
#include "lib/plan/profile.h"
#include "lib/plan/split.h"

namespace loadstar::worker {

// Reads CLOCK_MONOTONIC, or a test's clock, in ns.
using Clock = int64_t (*)();

// What the load tells its owner while it runs.
class LoadObserver {
 public:
  virtual ~LoadObserver() = default;
  // Before anything is recorded: the moment for closing the second that has passed.
  virtual void OnTime(int64_t now_ns) = 0;
  // Something worth recording in the run; severity as in WorkerEvent.
  virtual void OnEvent(const char* code, uint32_t severity, const std::string& message) = 0;
};

// The load itself: this worker's connections and the requests on them. Runs on the loop's thread and owns its sockets.
//
// Life: constructed, Start, then Tick once a turn until finished(). The profile's end (or EndAt) drops what was due and
// not sent, lets requests in flight have their time, closes every connection and abandons the rest at a deadline.
//
// Schedules. A rate per connection is that of each connection *number* from the moment at which the profile asks for it
// (its first connect begins) until the profile does not any more, whatever becomes of its TCP connection meanwhile:
// what is asked for is known beforehand, and a target that refuses or loses connections is asked no less. Requests that
// become due while the number has no connection wait in order and are sent when it has one (again), with their original
// intended times. They have no timer: they are counted when the number's state changes and when a second ends. A number
// that is asked for again goes on in its stream of random gaps, so nothing repeats. A total rate runs for the whole
// run. Where late requests are to be skipped, one that is late by more than an interval (see LateRequests) when it
// could be sent is dropped instead.
//
// What the recorded times mean. Latency counts from the intended time, service time from the actual send, both to the
// reading of the answer. Schedule lag is the actual send minus the later of the intended time and the moment at which
// the connection that took the request last came to have room (its handshake ended, an answer or a timeout freed a
// place, its queue drained): waiting for a busy target is the target's, the rest is the generator's own fault. In the
// closed model a request is intended after the answer and the think time, and its latency is its service time.
//
// Heartbeats. A connection that is ready, has nothing in flight and has received nothing for `every` is asked for a
// sign of life, in whatever the protocol has for it. What is asked is no request: it has no schedule and is in no
// histogram and no counter of requests. It takes a place of its own in the InFlightTable, beside the `pipeline` places
// of requests, so that the order of answers, ids and timeouts go one way, and so that no request ever waits for a
// heartbeat: one that becomes due meanwhile is sent behind it. (Were it to wait, the generator would have to be blamed
// for a stall of the target.) Any answer, an error too, proves life; without one in time the connection is lost, with
// what was sent behind the heartbeat. A connection is asked from its own readiness on, so that heartbeats are spread as
// the ramp was. They end with the profile's wish for the connection; one that is in flight then is waited for as a
// request is.
//
// A request that this worker gives up took longer than it waited, so the time it waited is in the latency and an
// overload or a stall shows in full, also at the end: those that timed out (in the service time too), those in flight
// on a connection that a timeout cost (a request's, when answers have an order, or a heartbeat's), those in flight when
// the run is over, and those that were due and never sent. A connection that the far side ends takes its requests in
// flight with it; they fail as it did and are not recorded, for how long they would have taken is not known.
class Load final : public net::SocketHandler, private ProtocolEvents {
 public:
  // Connects in progress at once: a slow target is not flooded.
  static constexpr uint32_t kMaxPending = 512;
  // What one turn may do before completions get their turn again.
  static constexpr int kConnectsPerTurn = 64;
  static constexpr int kClosesPerTurn = 256;
  static constexpr int kSendsPerTurn = 256;
  // While connections change, the profile is looked at this often.
  static constexpr int64_t kProfileStep_ns = 5'000'000;
  // Requests in flight at the end get their timeout, but no more than this.
  static constexpr int64_t kMaxDrain_ns = 30'000'000'000;
  // Bytes that may wait on a connection for the kernel; the loop must be made with no less.
  static constexpr size_t kMaxQueuedBytes = size_t{4} * 1024 * 1024;
  // "The target refuses": this many attempts failed, none ever succeeded, and it went on for this long.
  static constexpr uint64_t kRefusals = 50;
  static constexpr int64_t kRefusalTime_ns = 1'000'000'000;

  // Everything given must outlive the load. Fails when the protocol's settings are wrong or memory cannot be had.
  static absl::StatusOr<std::unique_ptr<Load>> Create(const Settings* settings, net::Loop* loop, Recorder* recorder,
                                                      LoadObserver* observer, Clock clock);
  ~Load() override;

  // The common start, on the loop's clock. Before the first Tick, which may not come before it.
  void Start(int64_t start_ns);
  // Does what is due. Returns when it wants to be called again at the latest.
  int64_t Tick(int64_t now_ns);
  // A change to the load; see WorkerUpdate.
  void Update(int64_t at_elapsed_ns, const v1::LoadUpdate& update);
  // The profile counts as over at that moment, if it is before its own end.
  void EndAt(int64_t at_elapsed_ns);
  // No longer than this beyond the end for what is still in flight.
  void LimitDrain(int64_t longest_ns) { drain_ns_ = std::min(drain_ns_, longest_ns); }
  // The end has come, and no connection is left.
  bool finished() const;
  // Brings what is only counted then to an instant, for the sample that ends there: the gauge of wanted connections,
  // and requests due of numbers that have no connection.
  void RecordUntil(int64_t elapsed_ns);

  // net::SocketHandler; the tag is the connection's local number.
  void OnConnected(uint64_t tag, net::SocketId id, int error) override;
  void OnReceived(uint64_t tag, net::SocketId id, std::span<const std::byte> bytes) override;
  void OnDrained(uint64_t tag, net::SocketId id) override;
  void OnClosed(uint64_t tag, net::SocketId id, int error) override;
  void Prefetch(uint64_t tag) const override;

 private:
  Load(const Settings* settings, net::Loop* loop, Recorder* recorder, LoadObserver* observer, Clock clock,
       std::unique_ptr<Protocol> protocol);

  // load_connections.cc: the profile, connecting and closing.
  int64_t OwnTarget(int64_t elapsed_ns) const;
  bool FollowProfile(int64_t now_ns);
  void Acquire(uint32_t number, int64_t now_ns);
  void Release(uint32_t number, int64_t now_ns);
  void Connect(uint32_t number);
  void ConnectFailed(uint32_t number, const Failure& failure);
  void BecomeReady(uint32_t number, int64_t now_ns);
  void Lose(uint32_t number, const Failure& failure);
  void CloseIfDone(uint32_t number);
  void CloseNow(uint32_t number);
  // What follows the end of a connection that the profile wants.
  enum class After : uint8_t { kReconnectPolicy, kAnother };
  void Forget(uint32_t number, After after = After::kReconnectPolicy);
  void Retry(uint32_t number);
  int64_t BackoffOf(uint32_t number);
  void End(int64_t now_ns);
  void AbandonAll(int64_t now_ns);
  void CheckRefusal(int64_t now_ns);
  bool wanted(uint32_t number) const { return number < wanted_; }
  bool established(uint32_t number) const;

  // load_requests.cc: schedules, sending, answers, timeouts.
  void BeginSchedule(uint32_t number, int64_t now_ns);
  void FillPipeline(uint32_t number, int64_t now_ns);
  int64_t DueTime(const Connection& c) const;
  void OnTimer(uint32_t number, int64_t now_ns);
  void Pump(uint32_t number, int64_t now_ns);
  void PumpOwn(uint32_t number, int64_t now_ns);
  void PumpClosed(uint32_t number, int64_t now_ns);
  bool Dispatch(int budget);
  bool Send(uint32_t number, int64_t intended_ns);
  void SendHeartbeat(uint32_t number);
  std::optional<int64_t> HandOver(uint32_t number, uint64_t id, std::span<const std::byte> bytes, int64_t intended_ns,
                                  int64_t timeout_ns);
  int64_t HeartbeatTime(uint32_t number) const;
  void CollectDue(uint32_t number, int64_t now_ns);
  void DropOwn(uint32_t number, int64_t now_ns);
  void DropWaiting(uint32_t number, int64_t now_ns);
  void DropTotal(int64_t now_ns);
  bool TotalTooLate(int64_t now_ns) const;
  void ReportFull(uint64_t bound, const char* of);
  bool Expire(uint32_t number, int64_t now_ns);
  void Owe(uint32_t number, int64_t due_ns);
  void Answered(uint32_t number, InFlightRequest* request, const Failure* failure);
  bool Matched(uint64_t id, const Failure* failure);
  void FailInFlight(uint32_t number, const Failure& failure);
  void GiveUpInFlight(uint32_t number, const Failure& failure, int64_t now_ns);
  int64_t LatencyOf(const InFlightRequest& request, int64_t now_ns) const {
    return now_ns - (settings_.pace == Pace::kClosed ? request.sent_ns : request.intended_ns);
  }
  void Offer(uint32_t number);
  void List(uint32_t number);
  void Unlist(uint32_t number);
  bool HasRoom(const Connection& c) const {
    return c.state == ConnectionState::kReady && !c.blocked && RequestsOn(c) < settings_.pipeline;
  }
  // Requests in flight.
  static uint32_t RequestsOn(const Connection& c) { return c.places.count - (c.heartbeat ? 1U : 0U); }

  // ProtocolEvents, of connection current_.
  bool OnReady() override;
  bool OnAnswer(uint64_t id) override;
  bool OnErrorAnswer(uint64_t id, const Failure& failure) override;
  uint64_t OldestInFlight() const override { return in_flight_.OldestId(connections_[current_].places); }
  bool OnSend(std::span<const std::byte> bytes) override;
  void OnBroken(const char* detail) override;
  void OnLast() override;

  void SetTimer(uint32_t number, int64_t due_ns);  // whatever it was
  void ArmTimer(uint32_t number, int64_t due_ns);  // no later than
  void CancelTimer(uint32_t number);

  // Constant after construction.
  const Settings& settings_;
  net::Loop* const loop_;
  Recorder* const recorder_;
  LoadObserver* const observer_;
  const Clock clock_;
  const std::unique_ptr<Protocol> protocol_;
  const plan::Split split_;
  const Arrivals arrivals_;

  plan::ConnectionProfile profile_;
  int64_t start_ns_ = 0;
  int64_t end_ns_;  // elapsed
  int64_t drain_ns_;
  bool ending_ = false;
  int64_t ended_ns_ = kNever;  // when the end was carried out, on the loop's clock
  int64_t next_profile_look_ns_ = 0;

  std::vector<Connection> connections_;
  InFlightTable in_flight_;
  std::vector<int64_t> owed_;  // closed model: a ring of `pipeline` times for each connection
  net::TimerWheel wheel_;
  std::vector<uint32_t> fired_;
  uint32_t wanted_ = 0;          // connections [0, wanted_) are to be open
  uint64_t counted_target_ = 0;  // as last told to the recorder
  bool limit_reported_ = false;

  TotalSchedule total_;
  RateCurve own_curve_;  // phase of the schedules of single connections
  // A total rate: the connections that can take a request. A rate per connection: the numbers that have a schedule and
  // no connection that is ready.
  uint32_t first_listed_ = kNoConnection;
  uint32_t last_listed_ = kNoConnection;
  bool drop_reported_ = false;

  // While the protocol reads.
  uint32_t current_ = kNoConnection;
  bool current_ended_ = false;
  int64_t received_ns_ = 0;
  std::string greeting_;

  // For "the target refuses".
  int64_t first_attempt_ns_ = kNever;
  uint64_t failed_attempts_ = 0;
  uint64_t backoffs_ = 0;  // drawn so far, so that no connection draws the same delay again and again
  bool ever_established_ = false;
  bool refusal_reported_ = false;
  std::string last_refusal_;
};

}  // namespace loadstar::worker
