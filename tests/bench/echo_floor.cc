// The least that an echo pair can cost, on io_uring and on epoll: what tests/bench/pair.py shows worker and target
// beside.
//   echo_floor io_uring|epoll CONNECTIONS SECONDS [MINIMUM_WAIT_US]
// Client and server are a process and a core each. First the client opens its connections, 256 at a time, then each
// sends 16 bytes when the last ones have come back. io_uring: registered descriptors, socket and connect and receive in
// one chain, multishot accept and receive, one system call a turn. epoll: edge-triggered, one receive and one send for
// each event. Nothing is measured but their number and CPU, and it gives up at the first error.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/bare_ring.h"

namespace {

using loadstar::bench::BareRing;
using loadstar::bench::Give;
using loadstar::bench::Seconds;

constexpr unsigned kConnecting = 256;
constexpr std::array<char, 16> kMessage = {};

void Pin(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  if (sched_setaffinity(0, sizeof(cores), &cores) != 0) Give("pin", errno);
}

int Listen(sockaddr_in* address) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  address->sin_family = AF_INET;
  address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(*address);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(address), length) != 0 || listen(fd, 4096) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(address), &length) != 0) {
    Give("listen", errno);
  }
  return fd;
}

clockid_t server_clock;  // its CPU

[[noreturn]] void ServeOnRing(int listener, unsigned connections) {
  BareRing ring(connections + 8);
  io_uring_sqe* accept = ring.Entry();
  io_uring_prep_multishot_accept_direct(accept, listener, nullptr, nullptr, 0);
  accept->user_data = 0;
  while (true) {
    ring.Turn(0);
    unsigned head = 0, count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(ring.ring(), head, cqe) {
      ++count;
      if (cqe->res < 0 && cqe->res != -ENOBUFS) Give("server", -cqe->res);
      if (cqe->user_data == 0) {
        ring.Receive(static_cast<unsigned>(cqe->res), static_cast<unsigned>(cqe->res) + 1);
        continue;
      }
      const auto slot = static_cast<unsigned>(cqe->user_data - 1);
      if (cqe->res > 0) {
        ring.Recycle(static_cast<uint16_t>(cqe->flags >> IORING_CQE_BUFFER_SHIFT));
        ring.Send(slot, kMessage.data(), static_cast<size_t>(cqe->res), slot + 1);
      }
      if ((cqe->flags & IORING_CQE_F_MORE) == 0) ring.Receive(slot, slot + 1);
    }
    io_uring_cq_advance(ring.ring(), count);
  }
}

[[noreturn]] void ServeOnEpoll(int listener) {
  const int poll = epoll_create1(EPOLL_CLOEXEC);
  std::array<epoll_event, 512> events{};
  epoll_event wanted{.events = EPOLLIN, .data = {.fd = listener}};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &wanted) != 0) Give("epoll", errno);
  while (true) {
    const int count = epoll_wait(poll, events.data(), events.size(), 1000);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      std::array<char, 1024> bytes{};
      if (fd != listener) {
        const ssize_t length = recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
        if (length > 0) (void)send(fd, bytes.data(), static_cast<size_t>(length), MSG_NOSIGNAL | MSG_DONTWAIT);
        continue;
      }
      for (int accepted = 0; (accepted = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        wanted = {.events = EPOLLIN | EPOLLET, .data = {.fd = accepted}};
        if (epoll_ctl(poll, EPOLL_CTL_ADD, accepted, &wanted) != 0) Give("epoll", errno);
      }
    }
  }
}

// What the client does alike on both: connections are opened, then everything goes round.
class Client {
 public:
  Client(unsigned connections, double seconds) : connections_(connections), seconds_(seconds) {}

  // Of connections that may be begun now.
  unsigned Room() const { return std::min(connections_ - begun_, kConnecting - (begun_ - established_)); }
  void Begun() { ++begun_; }
  // True with the last one.
  bool Established() {
    ++established_;
    const double now = Seconds(CLOCK_MONOTONIC);
    if (established_ == connections_ / 10) first_tenth_ = now;
    if (established_ == connections_ - connections_ / 10) last_tenth_ = now;
    all_ = now;
    return established_ == connections_;
  }
  void Answered() { ++answers_; }
  // Once a turn; ends the process when the time is over.
  void Turn(std::string_view backend) {
    const double now = Seconds(CLOCK_MONOTONIC);
    if (established_ < connections_ || now < all_ + 1) return;
    if (began_ == 0) {
      began_ = now;
      counted_from_ = answers_;
      cpu_ = Seconds(CLOCK_THREAD_CPUTIME_ID);
      server_cpu_ = Seconds(server_clock);
    } else if (now >= began_ + seconds_) {
      const auto counted = static_cast<double>(answers_ - counted_from_);
      std::printf(
          "{\"tool\": \"echo_floor\", \"backend\": \"%s\", \"connections\": %u, \"connections_per_s\": %.0f, "
          "\"requests_per_s\": %.0f, \"cpu_us_per_request\": %.3f, \"target_cpu_us_per_request\": %.3f}\n",
          std::string(backend).c_str(), connections_, 0.8 * connections_ / (last_tenth_ - first_tenth_),
          counted / (now - began_), (Seconds(CLOCK_THREAD_CPUTIME_ID) - cpu_) / counted * 1e6,
          (Seconds(server_clock) - server_cpu_) / counted * 1e6);
      (void)std::fflush(stdout);
      std::_Exit(0);
    }
  }

 private:
  unsigned connections_;
  double seconds_;
  unsigned begun_ = 0, established_ = 0;
  double first_tenth_ = 0, last_tenth_ = 0, all_ = 0, began_ = 0, cpu_ = 0, server_cpu_ = 0;
  uint64_t answers_ = 0, counted_from_ = 0;
};

[[noreturn]] void DriveOnRing(Client* client, const sockaddr_in& peer, unsigned connections, uint32_t minimum_us) {
  // What a completion is of, above its connection.
  constexpr uint64_t kConnect = 1ULL << 32U, kReceive = 2ULL << 32U, kFailure = 3ULL << 32U;
  BareRing ring(connections);
  unsigned next = 0;
  bool together = false;
  while (true) {
    for (unsigned room = client->Room(); room > 0; --room, ++next) {
      io_uring_sqe* made = ring.Entry();
      io_uring_prep_socket_direct(made, AF_INET, SOCK_STREAM, 0, next, 0);
      made->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
      made->user_data = kFailure;
      io_uring_sqe* connect = ring.Entry();
      io_uring_prep_connect(connect, static_cast<int>(next), reinterpret_cast<const sockaddr*>(&peer), sizeof(peer));
      connect->flags |= IOSQE_IO_LINK | IOSQE_FIXED_FILE;
      connect->user_data = kConnect | next;
      ring.Receive(next, kReceive | next);
      client->Begun();
    }
    ring.Turn(together ? minimum_us : 0);
    unsigned head = 0, count = 0;
    bool all = false;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(ring.ring(), head, cqe) {
      ++count;
      if (cqe->res < 0 && cqe->res != -ENOBUFS) Give("client", -cqe->res);
      const uint64_t kind = cqe->user_data >> 32U << 32U;
      const auto slot = static_cast<unsigned>(cqe->user_data);
      if (kind == kConnect) {
        all = client->Established();
      } else if (kind == kReceive) {
        if (cqe->res > 0) {
          ring.Recycle(static_cast<uint16_t>(cqe->flags >> IORING_CQE_BUFFER_SHIFT));
          client->Answered();
          ring.Send(slot, kMessage.data(), kMessage.size(), kFailure);
        }
        if ((cqe->flags & IORING_CQE_F_MORE) == 0) ring.Receive(slot, kReceive | slot);
      }
    }
    io_uring_cq_advance(ring.ring(), count);
    for (unsigned i = 0; all && i < connections; ++i) ring.Send(i, kMessage.data(), kMessage.size(), kFailure);
    together |= all;
    client->Turn("io_uring");
  }
}

[[noreturn]] void DriveOnEpoll(Client* client, const sockaddr_in& peer, unsigned connections) {
  const int poll = epoll_create1(EPOLL_CLOEXEC);
  std::array<epoll_event, 512> events{};
  std::vector<int> sockets;
  sockets.reserve(connections);
  std::vector<bool> established(connections);
  while (true) {
    for (unsigned room = client->Room(); room > 0; --room) {
      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      if (fd < 0) Give("socket", errno);
      if (connect(fd, reinterpret_cast<const sockaddr*>(&peer), sizeof(peer)) != 0 && errno != EINPROGRESS) {
        Give("connect", errno);
      }
      epoll_event wanted{.events = EPOLLIN | EPOLLOUT | EPOLLET, .data = {.u64 = sockets.size()}};
      if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted) != 0) Give("epoll", errno);
      sockets.push_back(fd);
      client->Begun();
    }
    const int count = epoll_wait(poll, events.data(), events.size(), 1000);
    bool all = false;
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      const size_t slot = event.data.u64;
      if (!established[slot]) {
        if ((event.events & (EPOLLERR | EPOLLHUP)) != 0) Give("connect", ECONNREFUSED);
        if ((event.events & EPOLLOUT) != 0) {
          established[slot] = true;
          all = client->Established();
        }
      } else if ((event.events & EPOLLIN) != 0) {
        std::array<char, 1024> bytes{};
        if (recv(sockets[slot], bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
          client->Answered();
          (void)send(sockets[slot], kMessage.data(), kMessage.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        }
      }
    }
    for (size_t i = 0; all && i < sockets.size(); ++i) {
      (void)send(sockets[i], kMessage.data(), kMessage.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    client->Turn("epoll");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view backend = argc > 1 ? argv[1] : "";
  if (argc < 4 || argc > 5 || (backend != "io_uring" && backend != "epoll")) {
    (void)std::fputs("see the head of tests/bench/echo_floor.cc\n", stderr);
    return 2;
  }
  const auto connections = static_cast<unsigned>(std::atoi(argv[2]));
  const uint32_t minimum_us = argc == 5 ? static_cast<uint32_t>(std::atoi(argv[4])) : 0;
  sockaddr_in peer{};
  const int listener = Listen(&peer);
  const pid_t parent = getpid();
  const pid_t server = fork();
  if (server < 0) Give("fork", errno);
  if (server == 0) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) return 4;
    Pin(static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)) - 1);
    if (backend == "io_uring") ServeOnRing(listener, connections);
    ServeOnEpoll(listener);
  }
  if (const int error = clock_getcpuclockid(server, &server_clock); error != 0) Give("the server's clock", error);
  Pin(0);
  Client client(connections, std::atof(argv[3]));
  if (backend == "io_uring") DriveOnRing(&client, peer, connections, minimum_us);
  DriveOnEpoll(&client, peer, connections);
}
