// The least that an HTTP client on io_uring can cost: the floor that tests/bench/peers.py holds the worker against.
//   http_floor HOST PORT CONNECTIONS SECONDS PATH
// One system call a turn that waits 50 us for up to 64 completions before it takes one, the next request of a
// connection sent when the last answer is complete. No accounting of latency, no schedule, no errors: it gives up at
// the first one. Answers are told apart by their length, which the first one of the run sets.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/bench/bare_ring.h"

namespace {

using loadstar::bench::BareRing;
using loadstar::bench::Give;
using loadstar::bench::Seconds;

constexpr uint32_t kMinimumWait_us = 50;

int Connect(const sockaddr_in& peer) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) Give("socket", errno);
  const int on = 1;
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (connect(fd, reinterpret_cast<const sockaddr*>(&peer), sizeof(peer)) != 0) Give("connect", errno);
  return fd;
}

// One request and its answer, on a connection of its own: how long an answer is.
size_t AnswerBytes(const sockaddr_in& peer, const std::string& request) {
  const int fd = Connect(peer);
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) < 0) Give("send", errno);
  std::vector<char> answer(1 << 16);
  size_t total = 0;
  const timeval patience{.tv_sec = 0, .tv_usec = 300'000};
  (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  for (ssize_t n = 0; (n = recv(fd, answer.data(), answer.size(), 0)) > 0;) total += static_cast<size_t>(n);
  close(fd);
  if (total == 0) Give("no answer", ETIMEDOUT);
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    (void)std::fputs("see the head of tests/bench/floor.cc\n", stderr);
    return 2;
  }
  sockaddr_in peer{};
  peer.sin_family = AF_INET;
  peer.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[2])));
  if (inet_pton(AF_INET, argv[1], &peer.sin_addr) != 1) Give("host", EINVAL);
  const auto connections = static_cast<unsigned>(std::atoi(argv[3]));
  const double seconds = std::atof(argv[4]);
  const std::string request =
      std::string("GET ") + argv[5] + " HTTP/1.1\r\nHost: " + argv[1] + ":" + argv[2] + "\r\n\r\n";
  const size_t answer = AnswerBytes(peer, request);

  BareRing ring(connections);
  for (unsigned i = 0; i < connections; ++i) {
    int fd = Connect(peer);
    if (int r = io_uring_register_files_update(ring.ring(), i, &fd, 1); r < 0) Give("registered descriptors", -r);
    close(fd);
  }
  const auto send_request = [&](unsigned i) { ring.Send(i, request.data(), request.size(), 0); };
  for (unsigned i = 0; i < connections; ++i) {
    ring.Receive(i, i + 1);
    send_request(i);
  }
  std::vector<uint32_t> received(connections);
  uint64_t answers = 0, wakeups = 0, counted_from = 0;
  double began = Seconds(CLOCK_MONOTONIC), cpu_began = 0;
  const double warm = began + 1;
  bool counting = false;
  while (true) {
    ring.Turn(kMinimumWait_us);
    ++wakeups;
    unsigned head = 0, count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(ring.ring(), head, cqe) {
      ++count;
      if (cqe->user_data == 0) Give("send", -cqe->res);
      const auto i = static_cast<unsigned>(cqe->user_data - 1);
      if (cqe->res <= 0 && cqe->res != -ENOBUFS) Give("receive", cqe->res == 0 ? ECONNRESET : -cqe->res);
      if (cqe->res > 0) {
        ring.Recycle(static_cast<uint16_t>(cqe->flags >> IORING_CQE_BUFFER_SHIFT));
        received[i] += static_cast<uint32_t>(cqe->res);
        if (received[i] >= answer) {
          received[i] = 0;
          ++answers;
          send_request(i);
        }
      }
      if ((cqe->flags & IORING_CQE_F_MORE) == 0) ring.Receive(i, i + 1);
    }
    io_uring_cq_advance(ring.ring(), count);
    const double now = Seconds(CLOCK_MONOTONIC);
    if (!counting && now >= warm) {
      counting = true;
      began = now;
      cpu_began = Seconds(CLOCK_PROCESS_CPUTIME_ID);
      counted_from = answers;
      wakeups = 0;
    }
    if (counting && now >= began + seconds) {
      const auto counted = static_cast<double>(answers - counted_from);
      std::printf(
          "{\"tool\": \"floor\", \"connections\": %u, \"requests_in_all\": %lu, \"requests\": %.0f, "
          "\"requests_per_s\": %.0f, "
          "\"cpu_us_per_request\": %.3f, \"requests_per_wakeup\": %.2f}\n",
          connections, answers, counted, counted / (now - began),
          (Seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_began) / counted * 1e6, counted / static_cast<double>(wakeups));
      return 0;
    }
  }
}
