#include "lib/net/epoll_loop.h"

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

constexpr uint32_t kEverything = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

}  // namespace

absl::StatusOr<std::unique_ptr<Loop>> EpollLoop::Create(const LoopOptions& options, std::string reason) {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) {
    return absl::ErrnoToStatus(errno, "loop: epoll_create1 failed");
  }
  const absl::StatusOr<int> reserve_fd = OpenReserve();
  if (!reserve_fd.ok()) {
    close(epoll_fd);
    return reserve_fd.status();
  }
  return std::unique_ptr<Loop>(new EpollLoop(options, epoll_fd, *reserve_fd, std::move(reason)));
}

EpollLoop::EpollLoop(const LoopOptions& options, int epoll_fd, int reserve_fd, std::string reason)
    : SocketLoop(options, reserve_fd),
      reason_(std::move(reason)),
      epoll_fd_(epoll_fd),
      receive_buffer_(std::make_unique<std::byte[]>(options.receive_buffer)) {
  timespec none{};
  nanosecond_wait_ = epoll_pwait2(epoll_fd_, events_.data(), 1, &none, nullptr) >= 0 || errno != ENOSYS;
  if (!nanosecond_wait_) {
    absl::StrAppend(&reason_, reason_.empty() ? "" : "; ",
                    "the kernel has no epoll_pwait2: waits are rounded up to milliseconds");
  }
}

EpollLoop::~EpollLoop() {
  for (uint32_t id = 0; id < used_; ++id) {
    if (sockets_[id].fd >= 0) {
      close(sockets_[id].fd);
    }
  }
  close(epoll_fd_);
}

int EpollLoop::Watch(SocketId id, const Address* peer, int* connect_error) {
  const int fd = sockets_[id].fd;
  // EINTR: the attempt goes on, as with EINPROGRESS.
  if (peer != nullptr && connect(fd, reinterpret_cast<const sockaddr*>(&peer->storage), peer->length) != 0 &&
      errno != EINPROGRESS && errno != EINTR) {
    *connect_error = errno;
  }
  epoll_event event{};
  event.events = kEverything;
  event.data.u64 = TokenOf(id).Encode();
  return epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

void EpollLoop::CloseDescriptor(Socket* socket, bool reset) {
  const int fd = std::exchange(socket->fd, -1);
  if (reset) {
    CloseWithReset(fd);
  } else {
    close(fd);
  }
}

// --- what the owner asks for ---

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
      DiscardUnread(socket.fd);
    }
  }
  CloseDescriptor(&socket, false);
  Free(id);
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

void EpollLoop::Turn(int64_t wait_ns) {
  const int count = Wait(wait_ns);
  now_ns_ = ReadClock();
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events_[static_cast<size_t>(i)];
    HandleEvent(EventToken::Decode(event.data.u64), event.events);
  }
}

void EpollLoop::ResumeListener(EventToken token) {
  if (sockets_[token.index].readable) {
    MakeReady(token.index);
  }
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
  Socket& socket = sockets_[token.index];
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

// --- listeners ---

void EpollLoop::Accept(EventToken token) {
  Socket& listener = sockets_[token.index];
  if (listener.paused || Waits(token)) {
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
    if (!Admit(token, fd)) {
      return;
    }
    if (!Alive(token) || listener.paused) {
      return;
    }
  }
  MakeReady(token.index);
}

}  // namespace loadstar::net
