// The half of Load that follows the profile: connecting, closing, losing and the end.
#include <algorithm>
#include <climits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/worker/load.h"

namespace loadstar::worker {
namespace {

// Streams of random numbers of one seed must not meet: arrivals of a total rate, of connections, and backoff.
constexpr uint64_t kArrivalSalt = 0x6172726976616C00ULL;
constexpr uint64_t kBackoffSalt = 0x6261636B6F666600ULL;

// A worker that is at its limit of connects in progress looks again after this time.
constexpr int64_t kConnectRetry_ns = 10'000'000;

}  // namespace

absl::StatusOr<std::unique_ptr<Load>> Load::Create(const Settings* settings, net::Loop* loop, Recorder* recorder,
                                                   LoadObserver* observer, Clock clock) {
  auto protocol = MakeProtocol(settings->plan, settings->connections_max);
  if (!protocol.ok()) return protocol.status();
  auto load = std::unique_ptr<Load>(new Load(settings, loop, recorder, observer, clock, *std::move(protocol)));
  if (!load->in_flight_.ok()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", settings->connections_max, " connections with ", settings->pipeline,
                     " requests in flight each: lower load.requests.pipeline or use more workers"));
  }
  return load;
}

Load::Load(const Settings* settings, net::Loop* loop, Recorder* recorder, LoadObserver* observer, Clock clock,
           std::unique_ptr<Protocol> protocol)
    : settings_(*settings),
      loop_(loop),
      recorder_(recorder),
      observer_(observer),
      clock_(clock),
      protocol_(std::move(protocol)),
      split_(settings->plan.worker_count(), static_cast<uint32_t>(settings->endpoints.size()),
             static_cast<uint32_t>(settings->sources.size())),
      arrivals_(settings->spacing, 1),
      profile_(settings->plan.load()),
      end_ns_(profile_.EndNs()),
      drain_ns_(std::min(settings->request_timeout_ns, kMaxDrain_ns)),
      connections_(settings->connections_max),
      in_flight_(settings->connections_max,
                 (settings->pace != Pace::kNone ? settings->pipeline : 0) + (settings->heartbeat_every_ns > 0 ? 1 : 0),
                 protocol_->ordered()),
      owed_(settings->pace == Pace::kClosed ? size_t{settings->connections_max} * settings->pipeline : 0),
      wheel_(settings->connections_max, clock()),
      total_(settings->pace == Pace::kTotal ? settings->rate_per_s : 0, settings->spacing,
             settings->plan.worker_index(), settings->plan.worker_count(), settings->plan.load().seed()),
      own_curve_(settings->rate_per_s) {
  fired_.reserve(settings->connections_max);
  for (uint32_t number = 0; number < connections_.size(); ++number) {
    const uint64_t k = split_.GlobalOf(settings->plan.worker_index(), number);
    connections_[number].endpoint = split_.EndpointOf(k);
    connections_[number].due.state = SplitMix(settings->plan.load().seed() ^ kArrivalSalt, k).state();
  }
}

Load::~Load() = default;

void Load::Start(int64_t start_ns) {
  start_ns_ = start_ns;
  next_profile_look_ns_ = start_ns;
}

int64_t Load::Tick(int64_t now_ns) {
  const int64_t elapsed_ns = now_ns - start_ns_;
  bool more = false;
  fired_.clear();
  wheel_.Advance(now_ns, &fired_);
  for (const uint32_t number : fired_) OnTimer(number, now_ns);

  if (!ending_) {
    const uint64_t due = total_.Advance(std::min(elapsed_ns, end_ns_ - 1));
    if (due > 0) recorder_->TotalRequestsDue(due);
    if (total_.backlog() > TotalSchedule::kMaxBacklog) ReportFull(TotalSchedule::kMaxBacklog, "");
    while (total_.backlog() > TotalSchedule::kMaxBacklog) DropTotal(now_ns);
    more |= Dispatch(kSendsPerTurn);
    if (elapsed_ns >= end_ns_) End(now_ns);
  }
  more |= FollowProfile(now_ns);
  CheckRefusal(now_ns);
  const int64_t abandon_ns = start_ns_ + end_ns_ + drain_ns_;
  if (ending_ && now_ns >= abandon_ns) AbandonAll(now_ns);

  if (more) return now_ns;
  int64_t next_ns = std::min(wheel_.NextDue(), next_profile_look_ns_);
  if (ending_) return std::min(next_ns, abandon_ns);
  next_ns = std::min(next_ns, start_ns_ + end_ns_);
  const int64_t due_ns = total_.NextDue();
  return due_ns < end_ns_ ? std::min(next_ns, start_ns_ + due_ns) : next_ns;
}

int64_t Load::OwnTarget(int64_t elapsed_ns) const {
  if (elapsed_ns > end_ns_) return 0;
  return static_cast<int64_t>(split_.ShareOf(settings_.plan.worker_index(), profile_.TargetAt(elapsed_ns)));
}

// True when there is more to do than one turn should.
bool Load::FollowProfile(int64_t now_ns) {
  if (now_ns < next_profile_look_ns_) return false;
  const int64_t elapsed_ns = now_ns - start_ns_;
  int64_t target = ending_ ? 0 : OwnTarget(elapsed_ns);
  if (target > static_cast<int64_t>(connections_.size())) {
    if (!std::exchange(limit_reported_, true)) {
      observer_->OnEvent(
          "connections-limit", 3,
          absl::StrCat("this worker was planned for ", connections_.size(), " connections and is asked for ", target,
                       ": it holds what it was planned for; start a new run for more"));
    }
    target = static_cast<int64_t>(connections_.size());
  }
  int closes = kClosesPerTurn;
  while (wanted_ > target && closes > 0) {
    Release(--wanted_, now_ns);
    --closes;
  }
  int connects = kConnectsPerTurn;
  while (wanted_ < target && connects > 0 && recorder_->pending() < kMaxPending) {
    Acquire(wanted_++, now_ns);
    --connects;
  }
  if (wanted_ != target) {
    next_profile_look_ns_ = now_ns + kProfileStep_ns;  // connects in progress are at their limit
    if (closes > 0 && connects > 0) return false;
    next_profile_look_ns_ = now_ns;
    return true;
  }
  const int64_t change_ns = ending_ ? -1 : profile_.NextChange(elapsed_ns);
  next_profile_look_ns_ = change_ns < 0 ? kNever : std::max(start_ns_ + change_ns, now_ns + kProfileStep_ns);
  return false;
}

bool Load::established(uint32_t number) const {
  const ConnectionState state = connections_[number].state;
  return state == ConnectionState::kHandshake || state == ConnectionState::kReady || state == ConnectionState::kDying;
}

// The profile asks for this connection (again).
void Load::Acquire(uint32_t number, int64_t now_ns) {
  Connection& c = connections_[number];
  BeginSchedule(number, now_ns);
  if (c.state == ConnectionState::kFree) {
    c.attempts = 0;
    Connect(number);
  } else if (c.state == ConnectionState::kReady) {
    // It was on its way out, waiting for answers: it goes on as if newly ready.
    const int64_t free_ns = clock_();
    FillPipeline(number, free_ns);
    Pump(number, free_ns);
  }
}

// The profile does not ask for this connection any more.
void Load::Release(uint32_t number, int64_t now_ns) {
  Connection& c = connections_[number];
  Unlist(number);
  if (settings_.pace == Pace::kPerConnection) {
    // Timers are coarse: requests that became due in the last moments may not have been collected yet.
    CollectDue(number, now_ns);
    if (!ending_) PumpOwn(number, now_ns);
    DropWaiting(number, now_ns);
    c.due_ns = kNever;
  }
  switch (c.state) {
    case ConnectionState::kBackoff:
    case ConnectionState::kGone:
      CancelTimer(number);
      c.state = ConnectionState::kFree;
      return;
    case ConnectionState::kReady:
      c.waiting = 0;
      CloseIfDone(number);
      return;
    case ConnectionState::kFree:
    case ConnectionState::kPending:
    case ConnectionState::kHandshake:
    case ConnectionState::kDying:
      return;  // their next event finds them unwanted
  }
}

void Load::Connect(uint32_t number) {
  Connection& c = connections_[number];
  const uint64_t k = split_.GlobalOf(settings_.plan.worker_index(), number);
  c.since_ns = clock_();
  if (c.attempts < UINT8_MAX) ++c.attempts;
  first_attempt_ns_ = std::min(first_attempt_ns_, c.since_ns);
  recorder_->ConnectBegun(c.endpoint);
  net::ConnectOptions options;
  options.peer = &settings_.endpoints[c.endpoint];
  options.source = settings_.sources.empty() ? nullptr : &settings_.sources[split_.SourceOf(k)];
  options.keepalive = settings_.keepalive.has_value() ? &*settings_.keepalive : nullptr;
  options.handler = this;
  options.tag = number;
  int error = 0;
  c.state = ConnectionState::kPending;
  if (loop_->Connect(options, &c.socket, &error)) {
    SetTimer(number, c.since_ns + settings_.connect_timeout_ns);
  } else {
    ConnectFailed(number, FailureOfErrno(v1::ERROR_PHASE_CONNECT, error));
  }
}

void Load::OnConnected(uint64_t tag, net::SocketId id, int error) {
  observer_->OnTime(loop_->now_ns());
  const auto number = static_cast<uint32_t>(tag);
  if (error != 0) return ConnectFailed(number, FailureOfErrno(v1::ERROR_PHASE_CONNECT, error));
  Connection& c = connections_[number];
  const int64_t now_ns = clock_();
  recorder_->ConnectDone(c.endpoint, now_ns - c.since_ns);
  ever_established_ = true;
  c.since_ns = now_ns;
  c.state = ConnectionState::kHandshake;
  greeting_.clear();
  const bool ready = protocol_->Begin(number, c.endpoint, &greeting_);
  if (!greeting_.empty()) {
    if (loop_->Send(id, std::as_bytes(std::span(greeting_)))) {
      recorder_->BytesSent(c.endpoint, greeting_.size());
    } else {
      c.state = ConnectionState::kDying;
    }
  }
  if (ready && c.state == ConnectionState::kHandshake) {
    BecomeReady(number, now_ns);
    Pump(number, now_ns);
    CloseIfDone(number);
  } else {
    SetTimer(number, now_ns + settings_.request_timeout_ns);
  }
}

void Load::ConnectFailed(uint32_t number, const Failure& failure) {
  Connection& c = connections_[number];
  recorder_->ConnectFailed(c.endpoint, failure);
  ++failed_attempts_;
  if (!ever_established_ && !refusal_reported_) {
    last_refusal_ = absl::StrCat(settings_.plan.endpoints(static_cast<int>(c.endpoint)), " ",
                                 v1::ErrorKind_Name(failure.kind), failure.detail.empty() ? "" : " ", failure.detail);
  }
  Forget(number);
}

void Load::BecomeReady(uint32_t number, int64_t now_ns) {
  Connection& c = connections_[number];
  c.state = ConnectionState::kReady;
  c.attempts = 0;
  c.room_since_ns = now_ns;
  c.heard_ns = now_ns;
  c.oldest_deadline_ns = kNever;
  CancelTimer(number);
  if (!wanted(number)) return;
  FillPipeline(number, now_ns);
  ArmTimer(number, HeartbeatTime(number));
  if (settings_.pace != Pace::kPerConnection) return;
  Unlist(number);
  CollectDue(number, now_ns);
  ArmTimer(number, c.due_ns);
}

void Load::OnClosed(uint64_t tag, net::SocketId /*id*/, int error) {
  observer_->OnTime(loop_->now_ns());
  const auto number = static_cast<uint32_t>(tag);
  Connection& c = connections_[number];
  c.socket = net::kNoSocket;
  if (error == 0 && c.state != ConnectionState::kDying) {
    // The close may be the end of an answer.
    received_ns_ = clock_();
    current_ = number;
    current_ended_ = false;
    protocol_->OnPeerClosed(number, this);
    current_ = kNoConnection;
    if (current_ended_) return;
  }
  Lose(number, FailureOfErrno(v1::ERROR_PHASE_CONNECTION, error));
}

// An established connection has ended otherwise than by our will; its socket is gone.
void Load::Lose(uint32_t number, const Failure& failure) {
  Connection& c = connections_[number];
  FailInFlight(number, failure);
  recorder_->ConnectionLost(c.endpoint, failure);
  protocol_->End(number);
  Forget(number);
}

// The far side ends the connection by agreement. Reset for the reason that CloseNow has; what the far side may still
// send is nothing that we wait for.
void Load::OnLast() {
  const uint32_t number = current_;
  Connection& c = connections_[number];
  current_ended_ = true;
  if (c.socket != net::kNoSocket) loop_->Reset(c.socket);
  FailInFlight(number, {v1::ERROR_KIND_CLOSED_BY_PEER, ""});
  recorder_->ConnectionClosed(c.endpoint);
  protocol_->End(number);
  Forget(number, After::kAnother);
}

void Load::CloseIfDone(uint32_t number) {
  const Connection& c = connections_[number];
  if (!wanted(number) && c.state == ConnectionState::kReady && c.places.count == 0) CloseNow(number);
}

// Ends a connection by our will. Reset, not Close: nothing is in flight in either direction (or it was given up), so
// RST takes nothing from anybody, and the side that closes in order would be left with a TIME_WAIT for each connection:
// a hundred thousand at the end of a run, which fill the port range of the next one.
void Load::CloseNow(uint32_t number) {
  Connection& c = connections_[number];
  loop_->Reset(c.socket);
  recorder_->ConnectionClosed(c.endpoint);
  protocol_->End(number);
  Forget(number);
}

// The socket is gone: what remains is whether to try again.
void Load::Forget(uint32_t number, After after) {
  Connection& c = connections_[number];
  CancelTimer(number);
  Unlist(number);
  c.socket = net::kNoSocket;
  c.places = InFlightPlaces();
  c.blocked = false;
  c.heartbeat = false;
  c.oldest_deadline_ns = kNever;
  if (settings_.pace == Pace::kClosed) c.waiting = 0;
  if (!wanted(number)) {
    c.state = ConnectionState::kFree;
    return;
  }
  if (settings_.pace == Pace::kPerConnection) List(number);
  if (after == After::kAnother && !ending_) {
    c.attempts = 0;
    c.state = ConnectionState::kBackoff;
    Retry(number);
  } else if (settings_.reconnect) {
    c.state = ConnectionState::kBackoff;
    SetTimer(number, clock_() + BackoffOf(number));
  } else {
    c.state = ConnectionState::kGone;
  }
}

int64_t Load::BackoffOf(uint32_t number) {
  const int doublings = std::min<int>(std::max<int>(connections_[number].attempts, 1) - 1, 30);
  const double longest =
      std::min(static_cast<double>(settings_.initial_backoff_ns) * static_cast<double>(1 << doublings),
               static_cast<double>(settings_.max_backoff_ns));
  const uint64_t k = split_.GlobalOf(settings_.plan.worker_index(), number);
  SplitMix random(settings_.plan.load().seed() ^ kBackoffSalt, (++backoffs_ << 32) + k);
  return static_cast<int64_t>(longest * random.Uniform());
}

void Load::Retry(uint32_t number) {
  if (recorder_->pending() < kMaxPending) {
    Connect(number);
  } else {
    SetTimer(number, clock_() + kConnectRetry_ns);
  }
}

// The profile is over: nothing becomes due any more, and what was due and could not be sent is dropped.
void Load::End(int64_t now_ns) {
  ending_ = true;
  ended_ns_ = now_ns;
  next_profile_look_ns_ = now_ns;
  if (settings_.pace == Pace::kPerConnection) {
    // As in Release, but before connections are closed, which takes many turns.
    for (uint32_t number = 0; number < wanted_; ++number) {
      CollectDue(number, now_ns);
      PumpOwn(number, now_ns);
    }
  }
  Dispatch(INT_MAX);
  while (total_.backlog() > 0) DropTotal(now_ns);
}

void Load::AbandonAll(int64_t now_ns) {
  const Failure abandoned{v1::ERROR_KIND_ABANDONED, ""};
  while (wanted_ > 0) Release(--wanted_, now_ns);
  for (uint32_t number = 0; number < connections_.size(); ++number) {
    if (connections_[number].state == ConnectionState::kPending) {
      loop_->Close(connections_[number].socket);
      ConnectFailed(number, abandoned);
    } else if (established(number)) {
      GiveUpInFlight(number, abandoned, now_ns);
      CloseNow(number);
    }
  }
}

bool Load::finished() const {
  return ending_ && wanted_ == 0 && recorder_->pending() == 0 && recorder_->established() == 0;
}

void Load::RecordUntil(int64_t elapsed_ns) {
  if (settings_.pace == Pace::kPerConnection) {
    for (uint32_t number = first_listed_; number != kNoConnection; number = connections_[number].next) {
      CollectDue(number, start_ns_ + elapsed_ns - 1);
    }
  }
  const auto target = static_cast<uint64_t>(OwnTarget(elapsed_ns));
  const uint32_t worker = settings_.plan.worker_index();
  while (counted_target_ < target) {
    recorder_->ChangeTarget(split_.EndpointOf(split_.GlobalOf(worker, counted_target_++)), 1);
  }
  while (counted_target_ > target) {
    recorder_->ChangeTarget(split_.EndpointOf(split_.GlobalOf(worker, --counted_target_)), -1);
  }
}

void Load::Update(int64_t at_elapsed_ns, const v1::LoadUpdate& update) {
  profile_.Update(at_elapsed_ns, update);
  next_profile_look_ns_ = std::min(next_profile_look_ns_, clock_());
  if (!update.has_rate_per_s()) return;
  const int64_t at_ns = std::max(at_elapsed_ns, start_ns_ > 0 ? clock_() - start_ns_ + 1 : 0);
  bool changed = false;
  if (settings_.pace == Pace::kTotal) {
    changed = total_.Update(at_ns, update.rate_per_s());
  } else if (settings_.pace == Pace::kPerConnection) {
    changed = own_curve_.Update(at_ns, update.rate_per_s());
    for (uint32_t number = 0; changed && number < wanted_; ++number) {
      Connection& c = connections_[number];
      c.due_ns = DueTime(c);
      if (c.state == ConnectionState::kReady) ArmTimer(number, c.due_ns);
    }
  }
  if (!changed) {
    observer_->OnEvent(
        "update-refused", 2,
        settings_.pace == Pace::kTotal || settings_.pace == Pace::kPerConnection
            ? absl::StrCat("the rate was changed more than ", RateCurve::kMaxSegments, " times in this run")
            : "the rate cannot be changed: this test has no requests of the open model");
  }
}

void Load::EndAt(int64_t at_elapsed_ns) {
  if (ending_) return;
  end_ns_ = std::min(end_ns_, std::max<int64_t>(at_elapsed_ns, 0));
}

void Load::CheckRefusal(int64_t now_ns) {
  if (refusal_reported_ || ever_established_ || failed_attempts_ == 0) return;
  if (now_ns - first_attempt_ns_ < kRefusalTime_ns) return;
  // A small test cannot fail fifty times: there it is enough that everything has been tried and failed.
  if (failed_attempts_ < kRefusals && (failed_attempts_ < wanted_ || recorder_->pending() > 0)) return;
  refusal_reported_ = true;
  observer_->OnEvent("target-refuses", 3,
                     absl::StrCat("all ", failed_attempts_, " connection attempts failed and none succeeded in ",
                                  (now_ns - first_attempt_ns_) / 1'000'000, " ms; the last: ", last_refusal_,
                                  ". Is the target up, and does it listen there?"));
}

void Load::SetTimer(uint32_t number, int64_t due_ns) {
  connections_[number].timer_ns = due_ns;
  wheel_.Set(number, due_ns);
}

void Load::ArmTimer(uint32_t number, int64_t due_ns) {
  if (due_ns < connections_[number].timer_ns) SetTimer(number, due_ns);
}

void Load::CancelTimer(uint32_t number) {
  connections_[number].timer_ns = kNever;
  wheel_.Cancel(number);
}

}  // namespace loadstar::worker
