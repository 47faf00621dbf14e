#include "target/node_server.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace loadstar::target {
namespace {

// Delayed answers of one connection beyond which it is not read, and of all of them beyond which the next one is
// closed.
constexpr size_t kDelayedPerConnection = 256 * 1024;
constexpr size_t kDelayedTotal = 64 * 1024 * 1024;
constexpr int64_t kAcceptLogInterval_ns = 10'000'000'000;

// The shortest request line that gets the longest answer is tools/list; it multiplies its bytes by less than 16.
static_assert(NodeServer::kPauseAtQueued + NodeServer::kReceiveBuffer * 16 + NodeServer::kLineMax * 8 <
              NodeServer::kSendQueueLimit);

std::string_view Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Sessions of the processes of a node, and of one process after another in the same place, do not meet.
uint64_t FirstSession(uint32_t process) {
  return (static_cast<uint64_t>(net::Loop::ReadClock()) << 8) + process * (uint64_t{1} << 40);
}

}  // namespace

NodeServer::NodeServer(net::Loop* loop, ProcessCells* cells, const FaultCells* faults, NodeServerOptions options)
    : loop_(loop),
      cells_(cells),
      faults_(faults),
      options_(std::move(options)),
      rpc_(options_.name, LOADSTAR_VERSION),
      http_({.body_bytes = options_.http_body,
             .longest_body = kLineMax,
             .enough_answers = kPauseAtQueued,
             .first_session = FirstSession(options_.process_index)},
            &rpc_, &request_faults_, cells),
      connections_(options_.max_sockets),
      delayed_(kDelayedTotal) {}

absl::Status NodeServer::ApplyFaults() {
  delay_ns_ = faults_->delay_ns.load();
  delays_.SetRows(faults_->Delays());
  dealt_ = cells_->requests.Get();
  request_faults_.error.SetRatio(faults_->error_ratio.load());
  request_faults_.close.SetRatio(faults_->close_ratio.load());
  const bool refuse = faults_->refuse.load();
  if (refuse && listener_ != net::kNoSocket) {
    loop_->Close(std::exchange(listener_, net::kNoSocket));
  } else if (!refuse && listener_ == net::kNoSocket) {
    absl::StatusOr<net::SocketId> id = loop_->Listen(options_.listen, /*share_port=*/true, options_.backlog, this, 0);
    if (!id.ok()) {
      return id.status();
    }
    listener_ = *id;
  }
  return absl::OkStatus();
}

int64_t NodeServer::ReleaseDelayed(int64_t now_ns) {
  delayed_.Release(now_ns, [this](net::SocketId id, std::string_view bytes) {
    if (SendNow(id, bytes)) {
      UpdateReading(id);
      released_.push_back(id);
    }
  });
  for (const net::SocketId id : released_) {
    ResumeHttp(id);
  }
  released_.clear();
  return delayed_.NextDue();
}

net::SocketHandler::Accepted NodeServer::OnAccepted(uint64_t /*tag*/, net::SocketId id) {
  Connection& connection = connections_[id];
  connection.open = true;
  connection.protocol = options_.protocol;
  cells_->accepted.Add(1);
  cells_->connections.Add(1);
  return {this, 0};
}

void NodeServer::OnAcceptFailed(uint64_t /*tag*/, int error) {
  cells_->accept_failures.Add(1);
  if (loop_->now_ns() >= next_accept_log_ns_) {
    next_accept_log_ns_ = loop_->now_ns() + kAcceptLogInterval_ns;
    spdlog::warn(
        "target: event=accept_failed errno={} error=\"{}\" failures={} remedy=\"raise the descriptor limit (ulimit -n) "
        "or --processes\"",
        error, std::strerror(error), cells_->accept_failures.Get());  // NOLINT(concurrency-mt-unsafe): one thread
  }
}

void NodeServer::OnReceived(uint64_t /*tag*/, net::SocketId id, std::span<const std::byte> bytes) {
  cells_->bytes_received.Add(bytes.size());
  Connection& connection = connections_[id];
  if (connection.protocol == Protocol::kAuto) {
    const char first = Text(bytes).front();
    connection.protocol = first == '{'                   ? Protocol::kMcpTcp
                          : first >= 'A' && first <= 'Z' ? Protocol::kHttp
                                                         : Protocol::kTcp;
  }
  if (connection.protocol == Protocol::kHttp) {
    if (connection.http == nullptr) {
      connection.http = std::make_unique<HttpConnection>();
    }
    ServeHttp(id, Text(bytes));
    return;
  }
  answers_.clear();
  const bool live_on = connection.protocol == Protocol::kMcpTcp ? AnswerLines(id, Text(bytes)) : Echo(id, Text(bytes));
  Deliver(id);
  if (!live_on && connections_[id].open) {
    CloseConnection(id);
  }
}

void NodeServer::OnDrained(uint64_t /*tag*/, net::SocketId id) {
  UpdateReading(id);
  ResumeHttp(id);
}

void NodeServer::OnClosed(uint64_t /*tag*/, net::SocketId id, int error) {
  if (error == ECONNRESET) {
    cells_->peer_resets.Add(1);
  } else if (error != 0) {
    cells_->CountError(ErrorKind::kTransport);
  }
  Forget(id);
}

bool NodeServer::Echo(net::SocketId id, std::string_view bytes) {
  uint64_t requests = 1;
  size_t begin = 0;  // of the request in `bytes`; 0 also for one that began in an earlier piece
  size_t next = bytes.size();
  if (options_.tcp_payload > 0) {
    uint32_t& partial = connections_[id].payload_bytes;
    next = options_.tcp_payload - partial;
    const uint64_t sum = uint64_t{partial} + bytes.size();
    requests = sum / options_.tcp_payload;
    partial = static_cast<uint32_t>(sum % options_.tcp_payload);
  }
  cells_->requests.Add(requests);
  const size_t echoed = answers_.size();
  answers_.append(bytes);
  for (; requests > 0; --requests, begin = next, next += options_.tcp_payload) {
    if (request_faults_.close.Hits()) {
      cells_->CountError(ErrorKind::kInjectedClose);
      answers_.clear();
      return false;
    }
    if (request_faults_.error.Hits()) {
      cells_->CountError(ErrorKind::kInjectedError);
      answers_[echoed + begin] = static_cast<char>(~answers_[echoed + begin]);
    }
    if (request_faults_.idle()) {
      break;
    }
  }
  return true;
}

bool NodeServer::AnswerLines(net::SocketId id, std::string_view bytes) {
  const LineSplitter::Result result =
      connections_[id].lines.Feed(bytes, kLineMax, [this](std::string_view line) { return AnswerLine(line); });
  if (result == LineSplitter::Result::kTooLong) {
    cells_->CountError(ErrorKind::kLineTooLong);
  }
  return result == LineSplitter::Result::kMore;
}

bool NodeServer::AnswerLine(std::string_view line) {
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
    return true;
  }
  const RpcOutcome outcome = rpc_.Answer(line, &request_faults_, &answers_);
  if (outcome.answered) {
    answers_.push_back('\n');
  }
  CountOutcome(outcome, cells_);
  return !outcome.close;
}

void NodeServer::ServeHttp(net::SocketId id, std::string_view bytes) {
  HttpConnection* const http = connections_[id].http.get();
  if (http->finished) {
    return;
  }
  if (!http->unread.empty()) {  // behind those that wait already
    http->unread.append(bytes);
    return;
  }
  while (true) {
    answers_.clear();
    const Http::Result result = http_.Serve(http, &bytes, &answers_);
    Deliver(id);
    if (!connections_[id].open) {
      return;  // and *http is gone
    }
    if (result == Http::Result::kClosed) {
      CloseConnection(id);
      return;
    }
    if (result == Http::Result::kLast) {
      ResumeHttp(id);
      return;
    }
    if (bytes.empty()) {
      return;
    }
    if (IsBehind(id)) {
      http->unread.assign(bytes);
      return;
    }
  }
}

void NodeServer::ResumeHttp(net::SocketId id) {
  HttpConnection* const http = connections_[id].http.get();
  if (http == nullptr) {
    return;
  }
  if (http->finished) {
    if (!http->ended && !delayed_.Holds(id)) {
      http->ended = true;
      loop_->FinishSending(id);  // and not Close, which could take an answer from a client that is still sending
    }
  } else if (!http->unread.empty() && !IsBehind(id)) {
    const std::string waiting = std::exchange(http->unread, {});
    ServeHttp(id, waiting);
  }
}

// The longest of the delays of the requests that were counted since the last time: their answers leave together.
int64_t NodeServer::DealDelay() {
  int64_t longest_ns = 0;
  for (const uint64_t requests = cells_->requests.Get(); dealt_ < requests; ++dealt_) {
    longest_ns = std::max(longest_ns, delays_.Deal_ns());
  }
  return longest_ns;
}

void NodeServer::Deliver(net::SocketId id) {
  const int64_t delay_ns = delays_.idle() ? delay_ns_ : DealDelay();
  if (answers_.empty()) {
    return;
  }
  if (delay_ns == 0 && !delayed_.Holds(id)) {
    if (!SendNow(id, answers_)) {
      return;
    }
  } else {
    // A fresh reading: the request may have come after the turn's, and would be held back too short.
    const int64_t due_ns = net::Loop::ReadClock() + delay_ns;
    if (!delayed_.Push(id, due_ns, answers_)) {
      Overload(id);
      return;
    }
  }
  UpdateReading(id);
}

bool NodeServer::SendNow(net::SocketId id, std::string_view bytes) {
  const size_t queued = loop_->QueuedBytes(id);
  if (loop_->Send(id, std::as_bytes(std::span(bytes.data(), bytes.size())))) {
    cells_->bytes_sent.Add(bytes.size());
    return true;
  }
  if (queued + bytes.size() > kSendQueueLimit) {
    Overload(id);
  }
  return false;  // else the peer is gone and OnClosed is on its way
}

// The client has not taken what was answered, or not yet been given it.
bool NodeServer::IsBehind(net::SocketId id) const {
  return loop_->QueuedBytes(id) > kPauseAtQueued || delayed_.Bytes(id) > kDelayedPerConnection;
}

void NodeServer::UpdateReading(net::SocketId id) {
  if (IsBehind(id)) {
    loop_->PauseReceive(id);
  } else {
    loop_->ResumeReceive(id);
  }
}

void NodeServer::Overload(net::SocketId id) {
  cells_->CountError(ErrorKind::kOverload);
  CloseConnection(id);
}

void NodeServer::CloseConnection(net::SocketId id) {
  loop_->Close(id);
  Forget(id);
}

void NodeServer::Forget(net::SocketId id) {
  connections_[id] = Connection{};
  delayed_.Forget(id);
  cells_->connections.Set(cells_->connections.Get() - 1);
}

}  // namespace loadstar::target
