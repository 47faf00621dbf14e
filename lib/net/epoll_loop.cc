#include "lib/net/epoll_loop.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace loadstar::net {
namespace {

// Work for one socket in one turn: enough to amortise the turn, little enough that one flood does not starve the rest.
constexpr int kReadsPerTurn = 4;
constexpr int kAcceptsPerTurn = 64;
// Connections turned away at each attempt of a full process: together with the accept pause a bound on what a storm of
// clients can cost it.
constexpr int kTurnAwayBatch = 64;

constexpr size_t kDiscardAtClose = 1024 * 1024;

constexpr uint32_t kEverything = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

// Errors of connect() that are this host's lack of something, and so a refusal of the call: trying the next peer would
// not help. All others are an answer about the path or the peer.
bool IsLocalShortage(int error) {
  switch (error) {
    case EADDRNOTAVAIL:  // no port left for this pair of addresses
    case EADDRINUSE:     // the same, when the source was bound
    case EAGAIN:         // no port left, as older kernels say it
    case ENOBUFS:
    case ENOMEM:
      return true;
    default:
      return false;
  }
}

enum class AcceptError { kDrained, kTryNext, kShortage };

AcceptError Classify(int error) {
  switch (error) {
    case EAGAIN:
      return AcceptError::kDrained;
    // The connection ended while it waited, or brought an error of its own network: accept(2) says to go on.
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
      return AcceptError::kTryNext;
    default:
      return AcceptError::kShortage;
  }
}

int OpenReserve() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

int SocketError(int fd) {
  int error = 0;
  socklen_t length = sizeof(error);
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

void Enable(int fd, int level, int option) {
  const int on = 1;
  // Best effort: a socket without the option works, and the ones used here exist on every kernel since 4.2.
  (void)setsockopt(fd, level, option, &on, sizeof(on));
}

void CloseWithReset(int fd) {
  const linger hard{.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
  close(fd);
}

bool HasPort(const Address& address) {
  // sin_port and sin6_port share their place.
  return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port != 0;
}

const sockaddr* Raw(const Address& address) { return reinterpret_cast<const sockaddr*>(&address.storage); }

}  // namespace

absl::StatusOr<std::unique_ptr<Loop>> EpollLoop::Create(const LoopOptions& options) {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) {
    return absl::ErrnoToStatus(errno, "loop: epoll_create1 failed");
  }
  const int reserve_fd = OpenReserve();
  if (reserve_fd < 0) {
    const int error = errno;
    close(epoll_fd);
    return absl::ErrnoToStatus(error, "loop: cannot open /dev/null as the reserve descriptor");
  }
  return std::unique_ptr<Loop>(new EpollLoop(options, epoll_fd, reserve_fd));
}

EpollLoop::EpollLoop(const LoopOptions& options, int epoll_fd, int reserve_fd)
    : options_(options),
      epoll_fd_(epoll_fd),
      reserve_fd_(reserve_fd),
      sockets_(std::make_unique<Socket[]>(options.max_sockets)),
      receive_buffer_(std::make_unique<std::byte[]>(options.receive_buffer)) {
  timespec none{};
  nanosecond_wait_ = epoll_pwait2(epoll_fd_, events_.data(), 1, &none, nullptr) >= 0 || errno != ENOSYS;
  now_ns_ = ReadClock();
}

EpollLoop::~EpollLoop() {
  for (uint32_t id = 0; id < used_; ++id) {
    if (sockets_[id].fd >= 0) {
      close(sockets_[id].fd);
    }
  }
  if (reserve_fd_ >= 0) {
    close(reserve_fd_);
  }
  close(epoll_fd_);
}

std::string EpollLoop::backend_reason() const {
  return nanosecond_wait_ ? "" : "the kernel has no epoll_pwait2: waits are rounded up to milliseconds";
}

// --- slots ---

int EpollLoop::Register(int fd, State state, SocketHandler* handler, uint64_t tag, SocketId* id) {
  SocketId slot = used_;
  if (free_.empty()) {
    ++used_;
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  Socket& socket = sockets_[slot];
  socket.handler = handler;
  socket.tag = tag;
  socket.fd = fd;
  socket.state = state;
  epoll_event event{};
  event.events = kEverything;
  event.data.u64 = TokenOf(slot).Encode();
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
    const int error = errno;
    close(fd);
    Free(slot);
    return error;
  }
  *id = slot;
  return 0;
}

bool EpollLoop::Alive(EventToken token) const {
  const Socket& socket = sockets_[token.index];
  return socket.generation == token.generation && socket.state != State::kFree && socket.state != State::kEnding;
}

bool EpollLoop::IsConnection(SocketId id) const {
  return id < used_ && (sockets_[id].state == State::kOpen || sockets_[id].state == State::kConnecting);
}

void EpollLoop::Free(SocketId id) {
  const uint32_t next_generation = sockets_[id].generation + 1;
  sockets_[id] = Socket{};
  sockets_[id].generation = next_generation;
  free_.push_back(id);
}

void EpollLoop::MakeReady(SocketId id) {
  if (!sockets_[id].on_ready_list) {
    sockets_[id].on_ready_list = true;
    ready_.push_back(TokenOf(id));
  }
}

void EpollLoop::EndConnect(SocketId id, int error) {
  Socket& socket = sockets_[id];
  close(std::exchange(socket.fd, -1));
  socket.queue.Clear();
  socket.state = State::kEnding;
  socket.handler->OnConnected(socket.tag, id, error);
  Free(id);
}

void EpollLoop::EndOpen(SocketId id, int error) {
  Socket& socket = sockets_[id];
  // The kernel says EPIPE only where the peer had closed in order before (a reset of a live connection is ECONNRESET).
  if (error == EPIPE) {
    error = 0;
  }
  close(std::exchange(socket.fd, -1));
  socket.queue.Clear();
  socket.state = State::kEnding;
  socket.handler->OnClosed(socket.tag, id, error);
  Free(id);
}

// --- what the owner asks for ---

bool EpollLoop::Connect(const ConnectOptions& options, SocketId* id, int* error) {
  if (Full()) {
    *error = EMFILE;
    return false;
  }
  const int fd = socket(options.peer->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    *error = errno;
    return false;
  }
  Enable(fd, IPPROTO_TCP, TCP_NODELAY);
  if (options.source != nullptr) {
    if (!HasPort(*options.source)) {
      // The port is chosen at connect, when the peer is known, and so may be shared by connections to other peers.
      Enable(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT);
    }
    if (bind(fd, Raw(*options.source), options.source->length) != 0) {
      *error = errno;
      close(fd);
      return false;
    }
  }
  int failure = 0;
  // EINTR: the attempt goes on, as with EINPROGRESS.
  if (connect(fd, Raw(*options.peer), options.peer->length) != 0 && errno != EINPROGRESS && errno != EINTR) {
    failure = errno;
    if (IsLocalShortage(failure)) {
      *error = failure;
      close(fd);
      return false;
    }
  }
  SocketId slot = kNoSocket;
  *error = Register(fd, State::kConnecting, options.handler, options.tag, &slot);
  if (*error != 0) {
    return false;
  }
  if (failure != 0) {
    Fail(slot, failure);
  }
  *id = slot;
  return true;
}

absl::StatusOr<SocketId> EpollLoop::Listen(const Address& address, bool share_port, int backlog, SocketHandler* handler,
                                           uint64_t tag) {
  if (Full()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot listen on ", ToString(address), ": all ", options_.max_sockets, " sockets are in use"));
  }
  const auto failed = [&](int error) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot listen on ", ToString(address)));
  };
  const int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return failed(errno);
  }
  Enable(fd, SOL_SOCKET, SO_REUSEADDR);
  if (share_port) {
    Enable(fd, SOL_SOCKET, SO_REUSEPORT);
  }
  Enable(fd, IPPROTO_TCP, TCP_NODELAY);  // accepted sockets inherit it
  if (bind(fd, Raw(address), address.length) != 0 || listen(fd, backlog) != 0) {
    const int error = errno;
    close(fd);
    return failed(error);
  }
  SocketId id = kNoSocket;
  if (const int error = Register(fd, State::kListening, handler, tag, &id); error != 0) {
    return failed(error);
  }
  return id;
}

absl::StatusOr<SocketId> EpollLoop::Adopt(int fd, SocketHandler* handler, uint64_t tag) {
  if (Full()) {
    close(fd);
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot adopt a descriptor: all ", options_.max_sockets, " sockets are in use"));
  }
  int type = 0;
  socklen_t length = sizeof(type);
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0) {
    const int error = errno;
    if (error != EBADF) {
      close(fd);
    }
    return absl::ErrnoToStatus(error, absl::StrCat("cannot adopt descriptor ", fd, ": it is no socket"));
  }
  const int flags = fcntl(fd, F_GETFL);
  if (type != SOCK_STREAM || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
      fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat("cannot adopt descriptor ", fd, ": it is no stream socket"));
  }
  SocketId id = kNoSocket;
  if (const int error = Register(fd, State::kOpen, handler, tag, &id); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot adopt descriptor ", fd));
  }
  return id;
}

absl::StatusOr<Address> EpollLoop::LocalAddress(SocketId id) const {
  Address address;
  address.length = sizeof(address.storage);
  if (id >= used_ || sockets_[id].fd < 0) {
    return absl::NotFoundError(absl::StrCat("socket ", id, " is not open"));
  }
  if (getsockname(sockets_[id].fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("no local address for socket ", id));
  }
  return address;
}

bool EpollLoop::Send(SocketId id, std::span<const std::byte> bytes) {
  if (!IsConnection(id)) {
    return false;
  }
  Socket& socket = sockets_[id];
  if (socket.failed || socket.finish_requested || socket.queue.size() + bytes.size() > options_.send_queue_limit) {
    return false;
  }
  while (socket.state == State::kOpen && socket.queue.empty() && !bytes.empty()) {
    const ssize_t n = send(socket.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      Fail(id, errno);
      return false;
    }
  }
  socket.queue.Append(bytes);
  return true;
}

size_t EpollLoop::QueuedBytes(SocketId id) const { return id < used_ ? sockets_[id].queue.size() : 0; }

void EpollLoop::PauseReceive(SocketId id) {
  if (id < used_ && sockets_[id].fd >= 0) {
    sockets_[id].paused = true;
  }
}

void EpollLoop::ResumeReceive(SocketId id) {
  if (id < used_ && sockets_[id].paused) {
    sockets_[id].paused = false;
    if (sockets_[id].readable) {
      MakeReady(id);
    }
  }
}

void EpollLoop::Close(SocketId id) {
  if (id >= used_ || sockets_[id].fd < 0) {
    return;
  }
  Socket& socket = sockets_[id];
  if (socket.state == State::kOpen) {
    if (!socket.queue.empty()) {
      const std::span<const std::byte> bytes = socket.queue.front();
      (void)send(socket.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    }
    if (socket.readable) {
      // close() with unread bytes would send RST, and that may take our last bytes away from the peer.
      // MSG_TRUNC discards without a buffer; the loop's own may be in the caller's hands.
      (void)recv(socket.fd, nullptr, kDiscardAtClose, MSG_DONTWAIT | MSG_TRUNC);
    }
  }
  close(socket.fd);
  Free(id);
}

void EpollLoop::Reset(SocketId id) {
  if (id < used_ && sockets_[id].fd >= 0) {
    CloseWithReset(sockets_[id].fd);
    Free(id);
  }
}

void EpollLoop::FinishSending(SocketId id) {
  if (!IsConnection(id)) {
    return;
  }
  Socket& socket = sockets_[id];
  socket.finish_requested = true;
  if (socket.state == State::kOpen && socket.queue.empty() && !socket.finished) {
    socket.finished = true;
    (void)shutdown(socket.fd, SHUT_WR);  // fails only when the connection has ended, which the next read tells
  }
}

// --- the turn ---

void EpollLoop::RunOnce(int64_t max_wait_ns) {
  now_ns_ = ReadClock();
  int64_t until_ns = INT64_MAX;
  if (tick_handler_ != nullptr) {
    until_ns = tick_handler_->OnTick(now_ns_);
    now_ns_ = ReadClock();  // the tick's own work must not be slept a second time
  }
  ResumeListeners();
  int64_t wait_ns = std::min(WaitTime(until_ns), std::max<int64_t>(max_wait_ns, 0));
  if (!ready_.empty() || stopped_) {
    wait_ns = 0;
  }
  const int count = Wait(wait_ns);
  now_ns_ = ReadClock();
  ready_now_.swap(ready_);  // what becomes ready from here on is for the next turn: each socket once a turn
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events_[static_cast<size_t>(i)];
    HandleEvent(EventToken::Decode(event.data.u64), event.events);
  }
  for (const EventToken token : ready_now_) {
    HandleReady(token);
  }
  ready_now_.clear();
}

int64_t EpollLoop::WaitTime(int64_t until_ns) const {
  for (const PausedListener& paused : paused_listeners_) {
    until_ns = std::min(until_ns, paused.resume_ns);
  }
  return until_ns == INT64_MAX ? INT64_MAX : std::max<int64_t>(until_ns - now_ns_, 0);
}

int EpollLoop::Wait(int64_t wait_ns) {
  constexpr int64_t kSecond_ns = 1'000'000'000;
  constexpr int64_t kMillisecond_ns = 1'000'000;
  constexpr int64_t kLongest_ns = 3600 * kSecond_ns;  // fits every type below; an idle loop wakes once an hour
  const int size = static_cast<int>(events_.size());
  int count = 0;
  if (wait_ns == 0) {
    count = epoll_wait(epoll_fd_, events_.data(), size, 0);
  } else if (!nanosecond_wait_) {
    const int64_t wait_ms = (std::min(wait_ns, kLongest_ns) + kMillisecond_ns - 1) / kMillisecond_ns;
    count = epoll_wait(epoll_fd_, events_.data(), size, static_cast<int>(wait_ms));
  } else {
    const int64_t bounded = std::min(wait_ns, kLongest_ns);
    const timespec wait{.tv_sec = bounded / kSecond_ns, .tv_nsec = bounded % kSecond_ns};
    count = epoll_pwait2(epoll_fd_, events_.data(), size, &wait, nullptr);
  }
  return std::max(count, 0);  // EINTR: a turn without events
}

void EpollLoop::ResumeListeners() {
  std::erase_if(paused_listeners_, [this](const PausedListener& paused) {
    const bool alive = Alive(paused.token);
    if (alive && paused.resume_ns > now_ns_) {
      return false;
    }
    if (alive && sockets_[paused.token.index].readable) {
      MakeReady(paused.token.index);
    }
    return true;
  });
}

void EpollLoop::HandleEvent(EventToken token, uint32_t events) {
  if (!Alive(token)) {
    return;
  }
  Socket& socket = sockets_[token.index];
  if (socket.state == State::kListening) {
    socket.readable = true;
    Accept(token);
    return;
  }
  if (socket.state == State::kConnecting) {
    HandleConnect(token, events);
    if (!Alive(token) || socket.state != State::kOpen) {
      return;
    }
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
    socket.readable = true;
    socket.hung_up = socket.hung_up || (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  }
  if ((events & EPOLLOUT) != 0 && !socket.queue.empty() && !socket.failed) {
    Flush(token);
    if (!Alive(token)) {
      return;
    }
  }
  if (socket.failed) {
    return;  // the ready list tells
  }
  if (socket.paused && (events & EPOLLERR) != 0) {
    EndOpen(token.index, SocketError(socket.fd));
  } else if (socket.readable && !socket.paused && !socket.on_ready_list) {
    Read(token);
  }
}

void EpollLoop::HandleReady(EventToken token) {
  if (!Alive(token)) {
    return;
  }
  Socket& socket = sockets_[token.index];
  socket.on_ready_list = false;
  if (socket.state == State::kListening) {
    Accept(token);
    return;
  }
  if (socket.state == State::kConnecting) {
    if (socket.failed) {
      EndConnect(token.index, socket.failure);
    }
    return;
  }
  if (socket.readable && !socket.paused) {
    Read(token);
  }
  // A failed Send is told after what the peer had sent before it, unless that still goes on.
  if (Alive(token) && socket.failed && !socket.on_ready_list) {
    EndOpen(token.index, socket.failure);
  }
}

void EpollLoop::HandleConnect(EventToken token, uint32_t events) {
  Socket& socket = sockets_[token.index];
  if (socket.failed) {
    return;  // the ready list tells
  }
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
    const int error = SocketError(socket.fd);
    if (error != 0) {
      EndConnect(token.index, error);
      return;
    }
    // Connected, and ended since: the read that follows tells how.
  } else if ((events & EPOLLOUT) == 0) {
    return;
  }
  socket.state = State::kOpen;
  socket.handler->OnConnected(socket.tag, token.index, 0);
  if (Alive(token) && (!socket.queue.empty() || socket.finish_requested) && !socket.failed) {
    Flush(token);
  }
}

void EpollLoop::Read(EventToken token) {
  Socket& socket = sockets_[token.index];
  for (int reads = 0; reads < kReadsPerTurn; ++reads) {
    const ssize_t n = recv(socket.fd, receive_buffer_.get(), options_.receive_buffer, 0);
    if (n > 0) {
      // A short read has emptied the socket; whatever comes later makes a new edge. Not so when the peer's end was
      // announced: that edge is spent, so the end has to be read now.
      if (static_cast<size_t>(n) < options_.receive_buffer && !socket.hung_up) {
        socket.readable = false;
      }
      socket.handler->OnReceived(socket.tag, token.index, {receive_buffer_.get(), static_cast<size_t>(n)});
      if (!Alive(token) || socket.paused || !socket.readable) {
        return;
      }
    } else if (n == 0) {
      EndOpen(token.index, socket.failure);
      return;
    } else if (errno == EAGAIN) {
      socket.readable = false;
      return;
    } else if (errno != EINTR) {
      EndOpen(token.index, errno);
      return;
    }
  }
  MakeReady(token.index);
}

void EpollLoop::Flush(EventToken token) {
  Socket& socket = sockets_[token.index];
  const bool was_queued = !socket.queue.empty();
  while (!socket.queue.empty()) {
    const std::span<const std::byte> bytes = socket.queue.front();
    const ssize_t n = send(socket.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n > 0) {
      socket.queue.Consume(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR) {
      Fail(token.index, errno);
      return;
    }
  }
  if (socket.finish_requested) {
    FinishSending(token.index);
  }
  if (was_queued) {
    socket.handler->OnDrained(socket.tag, token.index);
  }
}

void EpollLoop::Fail(SocketId id, int error) {
  Socket& socket = sockets_[id];
  socket.failed = true;
  socket.failure = error;
  socket.readable = true;
  socket.queue.Clear();
  MakeReady(id);
}

void EpollLoop::Accept(EventToken token) {
  Socket& listener = sockets_[token.index];
  const bool waits = std::any_of(paused_listeners_.begin(), paused_listeners_.end(), [token](const PausedListener& p) {
    return p.token.index == token.index && p.token.generation == token.generation;
  });
  if (listener.paused || waits) {
    return;  // `readable` stays: resuming goes on here
  }
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    if (Full()) {
      TurnAway(token, EMFILE);
      return;
    }
    const int fd = accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      const int error = errno;
      switch (Classify(error)) {
        case AcceptError::kDrained:
          listener.readable = false;
          return;
        case AcceptError::kTryNext:
          continue;
        case AcceptError::kShortage:
          TurnAway(token, error);
          return;
      }
    }
    SocketId id = kNoSocket;
    if (const int error = Register(fd, State::kOpen, nullptr, 0, &id); error != 0) {
      TurnAway(token, error);
      return;
    }
    const EventToken accepted = TokenOf(id);
    const SocketHandler::Accepted owner = listener.handler->OnAccepted(listener.tag, id);
    if (Alive(accepted)) {
      if (owner.handler == nullptr) {
        Close(id);
      } else {
        sockets_[id].handler = owner.handler;
        sockets_[id].tag = owner.tag;
      }
    }
    if (!Alive(token) || listener.paused) {
      return;
    }
  }
  MakeReady(token.index);
}

void EpollLoop::TurnAway(EventToken token, int error) {
  Socket& listener = sockets_[token.index];
  if (error != EMFILE) {
    paused_listeners_.push_back({token, now_ns_ + kAcceptPause_ns});
    listener.handler->OnAcceptFailed(listener.tag, error);
    return;
  }
  // Without a descriptor the waiting connections could not even be refused: the reserve lends one.
  if (reserve_fd_ >= 0) {
    close(std::exchange(reserve_fd_, -1));
  }
  int turned_away = 0;
  int stopped_by = 0;
  for (int attempt = 0; attempt < kTurnAwayBatch && stopped_by == 0; ++attempt) {
    const int fd = accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      CloseWithReset(fd);
      ++turned_away;
    } else if (Classify(errno) != AcceptError::kTryNext) {
      stopped_by = errno;
    }
  }
  reserve_fd_ = OpenReserve();
  if (stopped_by == EAGAIN) {
    listener.readable = false;
    if (turned_away == 0) {
      return;  // accept4 wants a descriptor before it looks whether anyone waits: nobody did, nothing failed
    }
  }
  paused_listeners_.push_back({token, now_ns_ + kAcceptPause_ns});
  for (int i = 0; i < std::max(turned_away, 1) && Alive(token); ++i) {
    listener.handler->OnAcceptFailed(listener.tag, error);
  }
}

}  // namespace loadstar::net
