#include "lib/net/socket_loop.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace loadstar::net {
namespace {

// Connections turned away at each attempt of a full process: together with the accept pause a bound on what a storm of
// clients can cost it.
constexpr int kTurnAwayBatch = 64;

constexpr size_t kDiscardAtClose = 1024 * 1024;

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

int OpenNull() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

void Enable(int fd, int level, int option) {
  const int on = 1;
  // Best effort: a socket without the option works, and the ones used here exist on every kernel since 4.2.
  (void)setsockopt(fd, level, option, &on, sizeof(on));
}

bool KeepAlive(int fd, const Keepalive& keepalive) {
  const auto set = [fd](int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
  };
  return set(IPPROTO_TCP, TCP_KEEPIDLE, keepalive.idle_s) && set(IPPROTO_TCP, TCP_KEEPINTVL, keepalive.interval_s) &&
         set(IPPROTO_TCP, TCP_KEEPCNT, keepalive.probes) && set(SOL_SOCKET, SO_KEEPALIVE, 1);
}

bool HasPort(const Address& address) {
  // sin_port and sin6_port share their place.
  return reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port != 0;
}

const sockaddr* Raw(const Address& address) { return reinterpret_cast<const sockaddr*>(&address.storage); }

}  // namespace

absl::StatusOr<int> SocketLoop::OpenReserve() {
  const int fd = OpenNull();
  if (fd < 0) {
    return absl::ErrnoToStatus(errno, "loop: cannot open /dev/null as the reserve descriptor");
  }
  return fd;
}

SocketLoop::SocketLoop(const LoopOptions& options, int reserve_fd)
    : options_(options), sockets_(std::make_unique<Socket[]>(options.max_sockets)), reserve_fd_(reserve_fd) {
  now_ns_ = ReadClock();
}

SocketLoop::~SocketLoop() {
  if (reserve_fd_ >= 0) {
    close(reserve_fd_);
  }
}

SocketLoop::AcceptError SocketLoop::Classify(int error) {
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

int SocketLoop::SocketError(int fd) {
  int error = 0;
  socklen_t length = sizeof(error);
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

void SocketLoop::CloseWithReset(int fd) {
  const linger hard{.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
  close(fd);
}

void SocketLoop::DiscardUnread(int fd) {
  // MSG_TRUNC discards without a buffer; the loop's own may be in the caller's hands.
  (void)recv(fd, nullptr, kDiscardAtClose, MSG_DONTWAIT | MSG_TRUNC);
}

// --- slots ---

int SocketLoop::Register(int fd, State state, SocketHandler* handler, uint64_t tag, const Address* peer,
                         int* connect_error, SocketId* id) {
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
  if (const int error = Watch(slot, peer, connect_error); error != 0) {
    close(fd);
    Free(slot);
    return error;
  }
  *id = slot;
  return 0;
}

bool SocketLoop::Alive(EventToken token) const {
  const Socket& socket = sockets_[token.index];
  return socket.generation == token.generation && socket.state != State::kFree && socket.state != State::kEnding;
}

bool SocketLoop::IsConnection(SocketId id) const {
  return id < used_ && (sockets_[id].state == State::kOpen || sockets_[id].state == State::kConnecting);
}

void SocketLoop::Free(SocketId id) {
  const uint32_t next_generation = sockets_[id].generation + 1;
  sockets_[id] = Socket{};
  sockets_[id].generation = next_generation;
  free_.push_back(id);
}

void SocketLoop::MakeReady(SocketId id) {
  if (!sockets_[id].on_ready_list) {
    sockets_[id].on_ready_list = true;
    ready_.push_back(TokenOf(id));
  }
}

void SocketLoop::Fail(SocketId id, int error) {
  Socket& socket = sockets_[id];
  socket.failed = true;
  socket.failure = error;
  socket.readable = true;
  socket.queue.Clear();
  MakeReady(id);
}

void SocketLoop::EndConnect(SocketId id, int error) {
  Socket& socket = sockets_[id];
  CloseDescriptor(&socket, false);
  socket.queue.Clear();
  socket.state = State::kEnding;
  socket.handler->OnConnected(socket.tag, id, error);
  Free(id);
}

void SocketLoop::EndOpen(SocketId id, int error) {
  Socket& socket = sockets_[id];
  // The kernel says EPIPE only where the peer had closed in order before (a reset of a live connection is ECONNRESET).
  if (error == EPIPE) {
    error = 0;
  }
  CloseDescriptor(&socket, false);
  socket.queue.Clear();
  socket.held.Clear();
  socket.state = State::kEnding;
  socket.handler->OnClosed(socket.tag, id, error);
  Free(id);
}

// --- what the owner asks for ---

bool SocketLoop::Connect(const ConnectOptions& options, SocketId* id, int* error) {
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
  if (options.keepalive != nullptr && !KeepAlive(fd, *options.keepalive)) {
    *error = errno;
    close(fd);
    return false;
  }
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
  SocketId slot = kNoSocket;
  *error = Register(fd, State::kConnecting, options.handler, options.tag, options.peer, &failure, &slot);
  if (*error != 0) {
    return false;
  }
  if (failure != 0 && IsLocalShortage(failure)) {
    CloseDescriptor(&sockets_[slot], false);
    Free(slot);
    *error = failure;
    return false;
  }
  if (failure != 0) {
    Fail(slot, failure);
  }
  *id = slot;
  return true;
}

absl::StatusOr<SocketId> SocketLoop::Listen(const Address& address, bool share_port, int backlog,
                                            SocketHandler* handler, uint64_t tag) {
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
  if (const int error = Register(fd, State::kListening, handler, tag, nullptr, nullptr, &id); error != 0) {
    return failed(error);
  }
  return id;
}

absl::StatusOr<SocketId> SocketLoop::Adopt(int fd, SocketHandler* handler, uint64_t tag) {
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
  if (const int error = Register(fd, State::kOpen, handler, tag, nullptr, nullptr, &id); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot adopt descriptor ", fd));
  }
  return id;
}

absl::StatusOr<Address> SocketLoop::LocalAddress(SocketId id) const {
  Address address;
  address.length = sizeof(address.storage);
  if (!IsOpen(id)) {
    return absl::NotFoundError(absl::StrCat("socket ", id, " is not open"));
  }
  if (getsockname(sockets_[id].fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("no local address for socket ", id));
  }
  return address;
}

void SocketLoop::PauseReceive(SocketId id) {
  if (IsOpen(id)) {
    sockets_[id].paused = true;
  }
}

void SocketLoop::Reset(SocketId id) {
  if (IsOpen(id)) {
    CloseDescriptor(&sockets_[id], true);
    Free(id);
  }
}

// --- the turn ---

void SocketLoop::RunOnce(int64_t max_wait_ns) {
  ++stats_.turns;
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
  ready_now_.swap(ready_);  // what becomes ready from here on is for the next turn: each socket once a turn
  Turn(wait_ns);
  for (const EventToken token : ready_now_) {
    if (Alive(token)) {
      sockets_[token.index].on_ready_list = false;
      HandleReady(token);
    }
  }
  ready_now_.clear();
}

int64_t SocketLoop::WaitTime(int64_t until_ns) const {
  for (const PausedListener& paused : paused_listeners_) {
    until_ns = std::min(until_ns, paused.resume_ns);
  }
  return until_ns == INT64_MAX ? INT64_MAX : std::max<int64_t>(until_ns - now_ns_, 0);
}

// --- listeners ---

void SocketLoop::ResumeListeners() {
  std::erase_if(paused_listeners_, [this](const PausedListener& paused) {
    const bool alive = Alive(paused.token);
    if (alive && paused.resume_ns > now_ns_) {
      return false;
    }
    if (alive) {
      ResumeListener(paused.token);
    }
    return true;
  });
}

bool SocketLoop::Waits(EventToken listener) const {
  return std::any_of(paused_listeners_.begin(), paused_listeners_.end(),
                     [listener](const PausedListener& p) { return p.token.Encode() == listener.Encode(); });
}

void SocketLoop::LetWait(EventToken listener) {
  if (!Waits(listener)) {
    paused_listeners_.push_back({listener, now_ns_ + kAcceptPause_ns});
  }
}

bool SocketLoop::Admit(EventToken token, int fd) {
  Socket& listener = sockets_[token.index];
  SocketId id = kNoSocket;
  int error = EMFILE;
  if (Full()) {
    CloseWithReset(fd);
  } else {
    error = Register(fd, State::kOpen, nullptr, 0, nullptr, nullptr, &id);
  }
  if (error != 0) {
    LetWait(token);
    listener.handler->OnAcceptFailed(listener.tag, error);
    return false;
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
  return true;
}

void SocketLoop::TurnAway(EventToken token, int error) {
  Socket& listener = sockets_[token.index];
  if (error != EMFILE) {
    LetWait(token);
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
  reserve_fd_ = OpenNull();
  if (stopped_by == EAGAIN) {
    listener.readable = false;
    if (turned_away == 0) {
      return;  // accept4 wants a descriptor before it looks whether anyone waits: nobody did, nothing failed
    }
  }
  LetWait(token);
  for (int i = 0; i < std::max(turned_away, 1) && Alive(token); ++i) {
    listener.handler->OnAcceptFailed(listener.tag, error);
  }
}

}  // namespace loadstar::net
