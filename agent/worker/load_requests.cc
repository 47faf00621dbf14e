// The half of Load that paces requests and matches answers.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/worker/load.h"

namespace loadstar::worker {
namespace {

// Requests of one number's own schedule that may wait; beyond it the oldest are dropped.
constexpr uint32_t kMaxWaiting = 1'000'000;

// No request is skipped that is late by less: timers are coarse, and at thousands of requests a second and connection
// that alone is an interval.
constexpr int64_t kSkipFloor_ns = 1'000'000;

}  // namespace

// The profile asks for the number: its own schedule begins here, and goes on in its random stream.
void Load::BeginSchedule(uint32_t number, int64_t now_ns) {
  if (settings_.pace != Pace::kPerConnection) return;
  Connection& c = connections_[number];
  const uint64_t k = split_.GlobalOf(settings_.plan.worker_index(), number);
  c.due = arrivals_.First(own_curve_.PhaseAt(now_ns - start_ns_), PhaseOffset(k),
                          settings_.spacing.poisson ? c.due.state : 0);
  c.sent = c.due;
  c.due_ns = DueTime(c);
  if (c.state == ConnectionState::kReady) {
    ArmTimer(number, c.due_ns);
  } else {
    List(number);
  }
}

// Closed model: the connection may send at once whatever it has room for.
void Load::FillPipeline(uint32_t number, int64_t now_ns) {
  if (settings_.pace != Pace::kClosed) return;
  Connection& c = connections_[number];
  c.waiting = 0;
  while (c.waiting + RequestsOn(c) < settings_.pipeline) Owe(number, now_ns);
}

// When the next request of the number's own schedule becomes due, on the loop's clock.
int64_t Load::DueTime(const Connection& c) const {
  const int64_t due_ns = own_curve_.TimeAt(c.due.phase);
  return due_ns < end_ns_ ? start_ns_ + due_ns : kNever;
}

void Load::OnTimer(uint32_t number, int64_t now_ns) {
  Connection& c = connections_[number];
  c.timer_ns = kNever;
  switch (c.state) {
    case ConnectionState::kPending:
      loop_->Close(c.socket);
      return ConnectFailed(number, {v1::ERROR_KIND_CONNECT_TIMEOUT, ""});
    case ConnectionState::kHandshake:
      loop_->Reset(c.socket);
      return Lose(number, {v1::ERROR_KIND_REQUEST_TIMEOUT, "handshake"});
    case ConnectionState::kBackoff:
      return Retry(number);
    case ConnectionState::kReady:
      break;
    case ConnectionState::kDying:
    case ConnectionState::kFree:
    case ConnectionState::kGone:
      return;
  }
  if (now_ns >= c.oldest_deadline_ns && !Expire(number, now_ns)) return;
  if (wanted(number)) {
    CollectDue(number, now_ns);
    Pump(number, now_ns);
    if (HeartbeatTime(number) <= now_ns) SendHeartbeat(number);
    if (c.state != ConnectionState::kReady) return;
  }
  ArmTimer(number, std::min({c.oldest_deadline_ns, c.due_ns, HeartbeatTime(number)}));
  CloseIfDone(number);
}

// Lets the number's own schedule come up to now.
void Load::CollectDue(uint32_t number, int64_t now_ns) {
  Connection& c = connections_[number];
  while (c.due_ns <= now_ns && c.due_ns - start_ns_ < end_ns_) {
    const int64_t due_ns = c.due_ns;
    recorder_->RequestDue(c.endpoint);
    arrivals_.Next(&c.due);
    c.due_ns = DueTime(c);
    if (++c.waiting <= kMaxWaiting) continue;
    ReportFull(kMaxWaiting, " of one connection");
    DropOwn(number, due_ns);
  }
}

// The oldest request of the number's own schedule that waits will not be sent.
void Load::DropOwn(uint32_t number, int64_t now_ns) {
  Connection& c = connections_[number];
  const int64_t intended_ns = start_ns_ + own_curve_.TimeAt(c.sent.phase);
  recorder_->RequestDropped(c.endpoint, std::min(now_ns, ended_ns_) - intended_ns);
  arrivals_.Next(&c.sent);
  --c.waiting;
}

void Load::DropWaiting(uint32_t number, int64_t now_ns) {
  while (connections_[number].waiting > 0) DropOwn(number, now_ns);
}

// The oldest request of the total rate that waits will not be sent.
void Load::DropTotal(int64_t now_ns) {
  recorder_->TotalRequestDropped(std::min(now_ns, ended_ns_) - (start_ns_ + total_.OldestIntended()));
  total_.TakeOldest();
}

// Whether the oldest request of the total rate is skipped: each connection's own interval is that of as many requests
// as there are connections.
bool Load::TotalTooLate(int64_t now_ns) const {
  const double connections = static_cast<double>(wanted_) * settings_.plan.worker_count();
  return total_.OldestLateness(now_ns - start_ns_) > std::max<double>(connections, settings_.spacing.burst) &&
         now_ns - start_ns_ - total_.OldestIntended() > kSkipFloor_ns;
}

void Load::ReportFull(uint64_t bound, const char* of) {
  if (std::exchange(drop_reported_, true)) return;
  observer_->OnEvent("backlog-full", 2,
                     absl::StrCat("more than ", bound, " requests", of,
                                  " are due and cannot be sent: the oldest are dropped and counted"));
}

// Sends what this connection can send now.
void Load::Pump(uint32_t number, int64_t now_ns) {
  if (!wanted(number)) return;
  switch (settings_.pace) {
    case Pace::kNone:
      return;
    case Pace::kTotal:
      Offer(number);
      if (total_.backlog() > 0) Dispatch(kSendsPerTurn);
      return;
    case Pace::kPerConnection:
      return PumpOwn(number, now_ns);
    case Pace::kClosed:
      return PumpClosed(number, now_ns);
  }
}

void Load::PumpOwn(uint32_t number, int64_t now_ns) {
  Connection& c = connections_[number];
  while (c.waiting > 0 && HasRoom(c)) {
    const int64_t intended_ns = start_ns_ + own_curve_.TimeAt(c.sent.phase);
    // The phase tells lateness in intervals, whatever became of the rate meanwhile.
    if (settings_.skip_late && own_curve_.PhaseAt(now_ns - start_ns_) - c.sent.phase > settings_.spacing.burst &&
        now_ns - intended_ns > kSkipFloor_ns) {
      DropOwn(number, now_ns);
      continue;
    }
    if (!Send(number, intended_ns)) return;
    arrivals_.Next(&c.sent);
    --c.waiting;
  }
}

void Load::PumpClosed(uint32_t number, int64_t now_ns) {
  Connection& c = connections_[number];
  const int64_t* ring = owed_.data() + size_t{number} * settings_.pipeline;
  while (c.waiting > 0 && HasRoom(c) && !ending_) {
    const int64_t due_ns = ring[c.first_owed];
    if (due_ns - start_ns_ >= end_ns_) return;
    if (due_ns > now_ns) return ArmTimer(number, due_ns);
    if (!Send(number, due_ns)) return;
    c.first_owed = static_cast<uint16_t>((c.first_owed + 1U) % settings_.pipeline);
    --c.waiting;
  }
}

// Closed model: one more request is to be sent at that time. Times come in order, because the think time is constant.
void Load::Owe(uint32_t number, int64_t due_ns) {
  if (settings_.pace != Pace::kClosed) return;
  Connection& c = connections_[number];
  owed_[size_t{number} * settings_.pipeline + (c.first_owed + c.waiting) % settings_.pipeline] = due_ns;
  ++c.waiting;
}

// Gives the oldest requests of the total rate to the connections whose turn it is. True when the budget ended it.
bool Load::Dispatch(int budget) {
  while (total_.backlog() > 0 && first_listed_ != kNoConnection) {
    if (budget-- == 0) return true;
    if (settings_.skip_late) {
      const int64_t now_ns = clock_();
      if (TotalTooLate(now_ns)) {
        DropTotal(now_ns);
        continue;
      }
    }
    const uint32_t number = first_listed_;
    Unlist(number);
    if (Send(number, start_ns_ + total_.OldestIntended())) {
      total_.TakeOldest();
      Offer(number);  // behind all others
    }
  }
  return false;
}

// The connection takes requests of the total rate, if it can.
void Load::Offer(uint32_t number) {
  if (wanted(number) && HasRoom(connections_[number])) List(number);
}

void Load::List(uint32_t number) {
  Connection& c = connections_[number];
  if (c.listed) return;
  c.listed = true;
  c.next = kNoConnection;
  c.previous = last_listed_;
  (last_listed_ != kNoConnection ? connections_[last_listed_].next : first_listed_) = number;
  last_listed_ = number;
}

void Load::Unlist(uint32_t number) {
  Connection& c = connections_[number];
  if (!c.listed) return;
  c.listed = false;
  (c.previous != kNoConnection ? connections_[c.previous].next : first_listed_) = c.next;
  (c.next != kNoConnection ? connections_[c.next].previous : last_listed_) = c.previous;
}

// False when the request was not sent and stays where it is: the connection is blocked or about to be lost.
bool Load::Send(uint32_t number, int64_t intended_ns) {
  Connection& c = connections_[number];
  const uint64_t id = in_flight_.NextId(c.places);
  const std::span<const std::byte> bytes = protocol_->Request(number, id);
  const std::optional<int64_t> sent_ns = HandOver(number, id, bytes, intended_ns, settings_.request_timeout_ns);
  if (!sent_ns.has_value()) return false;
  if (settings_.pace == Pace::kClosed) recorder_->RequestDue(c.endpoint);
  recorder_->RequestSent(c.endpoint, settings_.pace == Pace::kTotal, bytes.size(),
                         *sent_ns - std::max(intended_ns, c.room_since_ns));
  return true;
}

void Load::SendHeartbeat(uint32_t number) {
  Connection& c = connections_[number];
  const uint64_t id = in_flight_.NextId(c.places);
  const std::span<const std::byte> bytes = protocol_->Heartbeat(number, id);
  if (!HandOver(number, id, bytes, InFlightRequest::kHeartbeat, settings_.heartbeat_timeout_ns).has_value()) return;
  c.heartbeat = true;
  recorder_->HeartbeatSent(c.endpoint, bytes.size());
}

// Gives the bytes to the loop and puts what they ask for in flight. When that was; nullopt as Send's false.
std::optional<int64_t> Load::HandOver(uint32_t number, uint64_t id, std::span<const std::byte> bytes,
                                      int64_t intended_ns, int64_t timeout_ns) {
  Connection& c = connections_[number];
  if (loop_->QueuedBytes(c.socket) + bytes.size() > kMaxQueuedBytes) {
    c.blocked = true;
    return std::nullopt;
  }
  const int64_t now_ns = clock_();
  if (!loop_->Send(c.socket, bytes)) {
    c.state = ConnectionState::kDying;
    return std::nullopt;
  }
  in_flight_.Add(number, &c.places, id, intended_ns, now_ns);
  const int64_t deadline_ns = now_ns + timeout_ns;
  if (c.oldest_deadline_ns > deadline_ns) {
    c.oldest_deadline_ns = deadline_ns;
    ArmTimer(number, deadline_ns);
  }
  return now_ns;
}

// When the connection is to be asked for a sign of life unless something happens on it before; kNever while something
// is in flight, whose answer or timeout is awaited anyhow.
int64_t Load::HeartbeatTime(uint32_t number) const {
  const Connection& c = connections_[number];
  const bool watched = settings_.heartbeat_every_ns > 0 && c.state == ConnectionState::kReady && wanted(number);
  return watched && c.places.count == 0 && !c.blocked && !ending_ ? c.heard_ns + settings_.heartbeat_every_ns : kNever;
}

void Load::OnDrained(uint64_t tag, net::SocketId /*id*/) {
  const auto number = static_cast<uint32_t>(tag);
  Connection& c = connections_[number];
  if (!c.blocked) return;
  observer_->OnTime(loop_->now_ns());
  c.blocked = false;
  c.room_since_ns = clock_();
  Pump(number, c.room_since_ns);
  ArmTimer(number, HeartbeatTime(number));
}

void Load::OnReceived(uint64_t tag, net::SocketId id, std::span<const std::byte> bytes) {
  observer_->OnTime(loop_->now_ns());
  const auto number = static_cast<uint32_t>(tag);
  Connection& c = connections_[number];
  received_ns_ = clock_();
  c.heard_ns = received_ns_;
  recorder_->BytesReceived(c.endpoint, bytes.size());
  current_ = number;
  protocol_->OnReceived(number, bytes, this);
  current_ = kNoConnection;
  if (c.socket != id || c.state != ConnectionState::kReady) return;
  Pump(number, received_ns_);
  ArmTimer(number, HeartbeatTime(number));
  CloseIfDone(number);
}

void Load::Prefetch(uint64_t tag) const {
  const auto number = static_cast<uint32_t>(tag);
  const Connection& c = connections_[number];
  __builtin_prefetch(&c, 1);
  __builtin_prefetch(&c.oldest_deadline_ns, 1);  // its second cache line
  in_flight_.Prefetch(number);
  protocol_->Prefetch(number);
}

bool Load::OnReady() {
  const Connection& c = connections_[current_];
  recorder_->HandshakeDone(c.endpoint, received_ns_ - c.since_ns);
  BecomeReady(current_, received_ns_);
  return true;
}

bool Load::OnSend(std::span<const std::byte> bytes) {
  Connection& c = connections_[current_];
  if (c.socket == net::kNoSocket) return false;  // the far side has closed it
  if (!loop_->Send(c.socket, bytes)) {
    c.state = ConnectionState::kDying;
    return false;
  }
  recorder_->BytesSent(c.endpoint, bytes.size());
  return true;
}

bool Load::OnAnswer(uint64_t id) { return Matched(id, nullptr); }

bool Load::OnErrorAnswer(uint64_t id, const Failure& failure) { return Matched(id, &failure); }

// `failure` null: a success.
bool Load::Matched(uint64_t id, const Failure* failure) {
  const Connection& c = connections_[current_];
  InFlightRequest* request = in_flight_.Find(current_, c.places, id);
  if (request == nullptr) {
    // A late answer to a request that has been given up is ignored; one to a request that never was cannot be.
    if (!protocol_->ordered() && InFlightTable::SequenceOf(id) <= c.places.sequence) return true;
    OnBroken("unknown-id");
    return false;
  }
  if (protocol_->ordered() && InFlightTable::SequenceOf(id) != c.places.sequence - c.places.count + 1) {
    OnBroken("out-of-order");
    return false;
  }
  Answered(current_, request, failure);
  return true;
}

void Load::Answered(uint32_t number, InFlightRequest* request, const Failure* failure) {
  Connection& c = connections_[number];
  if (request->heartbeat()) {
    recorder_->HeartbeatAnswered(c.endpoint);
    c.heartbeat = false;
    return in_flight_.Remove(number, &c.places, request);
  }
  const int64_t service_ns = received_ns_ - request->sent_ns;
  const int64_t latency_ns = LatencyOf(*request, received_ns_);
  if (failure == nullptr) {
    recorder_->RequestAnswered(c.endpoint, latency_ns, service_ns);
  } else {
    recorder_->RequestFailedAfter(c.endpoint, *failure, latency_ns, service_ns);
  }
  if (RequestsOn(c) == settings_.pipeline) c.room_since_ns = received_ns_;
  in_flight_.Remove(number, &c.places, request);
  if (wanted(number)) Owe(number, received_ns_ + settings_.think_ns);
}

void Load::OnBroken(const char* detail) {
  current_ended_ = true;
  if (connections_[current_].socket != net::kNoSocket) loop_->Reset(connections_[current_].socket);
  Lose(current_, {v1::ERROR_KIND_PROTOCOL, detail});
}

// Gives up what has had its time. False when the connection is lost with it.
bool Load::Expire(uint32_t number, int64_t now_ns) {
  Connection& c = connections_[number];
  Failure timeout{v1::ERROR_KIND_REQUEST_TIMEOUT, ""};
  c.oldest_deadline_ns = kNever;
  bool expired = false;
  bool silent = false;
  for (uint16_t place = 0; place < c.places.touched; ++place) {
    InFlightRequest* request = in_flight_.At(number, place);
    if (request == nullptr) continue;
    const int64_t deadline_ns =
        request->sent_ns + (request->heartbeat() ? settings_.heartbeat_timeout_ns : settings_.request_timeout_ns);
    if (deadline_ns > now_ns) {
      c.oldest_deadline_ns = std::min(c.oldest_deadline_ns, deadline_ns);
      continue;
    }
    if (request->heartbeat()) {
      silent = true;
      continue;
    }
    expired = true;
    received_ns_ = now_ns;
    Answered(number, request, &timeout);
  }
  if (silent) {
    timeout.kind = v1::ERROR_KIND_HEARTBEAT_TIMEOUT;
  } else if (!expired || !protocol_->ordered()) {
    return true;
  }
  GiveUpInFlight(number, timeout, now_ns);
  loop_->Reset(c.socket);
  Lose(number, timeout);
  return false;
}

// The far side has ended the connection, and what was in flight on it.
void Load::FailInFlight(uint32_t number, const Failure& failure) {
  Connection& c = connections_[number];
  for (uint16_t place = 0; place < c.places.touched && c.places.count > 0; ++place) {
    InFlightRequest* request = in_flight_.At(number, place);
    if (request == nullptr) continue;
    if (request->heartbeat()) {
      c.heartbeat = false;
      recorder_->HeartbeatFailed(c.endpoint);
    } else {
      recorder_->RequestFailed(c.endpoint, failure);
    }
    in_flight_.Remove(number, &c.places, request);
  }
}

// We end the connection, and with it what was in flight.
void Load::GiveUpInFlight(uint32_t number, const Failure& failure, int64_t now_ns) {
  Connection& c = connections_[number];
  for (uint16_t place = 0; place < c.places.touched && c.places.count > 0; ++place) {
    InFlightRequest* request = in_flight_.At(number, place);
    if (request == nullptr) continue;
    if (request->heartbeat()) {
      c.heartbeat = false;
      recorder_->HeartbeatFailed(c.endpoint);
    } else {
      recorder_->RequestGivenUp(c.endpoint, failure, LatencyOf(*request, now_ns));
    }
    in_flight_.Remove(number, &c.places, request);
  }
}

}  // namespace loadstar::worker
