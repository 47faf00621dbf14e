// The least that an HTTP client on io_uring can cost: the floor that tests/bench/peers.py holds the worker against.
//   http_floor HOST PORT CONNECTIONS SECONDS PATH
// Multishot receives into provided buffers, registered descriptors, one system call a turn that waits 50 us for up to
// 64 completions before it takes one, the next request of a connection sent when the last answer is complete. No
// accounting of latency, no schedule, no errors: it gives up at the first one. Answers are told apart by their length,
// which the first one of the run sets.
#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

namespace {

constexpr unsigned kEntries = 4096;
constexpr unsigned kBuffers = 4096;
constexpr unsigned kBufferBytes = 1024;

[[noreturn]] void Give(const char* what, int error) {
  (void)std::fprintf(stderr, "http_floor: %s: %s\n", what, std::strerror(error));
  std::_Exit(4);
}

double Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// io_uring_submit_and_wait with a minimum wait, which liburing 2.3 does not have yet.
void SubmitAndWait(io_uring* ring) {
  constexpr unsigned kTogether = 64;
  constexpr uint32_t kMinimumWait_us = 50;
  io_uring_sq& queue = ring->sq;
  unsigned tail = *queue.ktail;
  for (; queue.sqe_head != queue.sqe_tail; ++queue.sqe_head) {
    queue.array[tail++ & *queue.kring_mask] = queue.sqe_head & *queue.kring_mask;
  }
  io_uring_smp_store_release(queue.ktail, tail);
  __kernel_timespec longest{.tv_sec = 1, .tv_nsec = 0};
  io_uring_getevents_arg argument{};
  argument.ts = reinterpret_cast<uint64_t>(&longest);
  argument.pad = kMinimumWait_us;  // min_wait_usec, Linux 6.12
  (void)io_uring_enter2(static_cast<unsigned>(ring->enter_ring_fd), tail - io_uring_smp_load_acquire(queue.khead),
                        kTogether,
                        IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG |
                            (ring->enter_ring_fd != ring->ring_fd ? IORING_ENTER_REGISTERED_RING : 0U),
                        reinterpret_cast<sigset_t*>(&argument), sizeof(argument));
}

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

  io_uring ring{};
  io_uring_params params{};
  params.flags =
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL;
  params.cq_entries = 4 * kEntries;
  if (int r = io_uring_queue_init_params(kEntries, &ring, &params); r < 0) Give("io_uring_setup", -r);
  (void)io_uring_register_ring_fd(&ring);
  void* memory = mmap(nullptr, kBuffers * (sizeof(io_uring_buf) + kBufferBytes), PROT_READ | PROT_WRITE,
                      MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
  auto* buffers = static_cast<io_uring_buf_ring*>(memory);
  char* data = static_cast<char*>(memory) + kBuffers * sizeof(io_uring_buf);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<uint64_t>(memory);
  registration.ring_entries = kBuffers;
  if (int r = io_uring_register_buf_ring(&ring, &registration, 0); r < 0) Give("buffer ring", -r);
  io_uring_buf_ring_init(buffers);
  const int mask = io_uring_buf_ring_mask(kBuffers);
  for (unsigned i = 0; i < kBuffers; ++i) {
    io_uring_buf_ring_add(buffers, data + static_cast<size_t>(i) * kBufferBytes, kBufferBytes, static_cast<uint16_t>(i),
                          mask, static_cast<int>(i));
  }
  io_uring_buf_ring_advance(buffers, kBuffers);

  if (int r = io_uring_register_files_sparse(&ring, connections); r < 0) Give("registered descriptors", -r);
  for (unsigned i = 0; i < connections; ++i) {
    int fd = Connect(peer);
    if (int r = io_uring_register_files_update(&ring, i, &fd, 1); r < 0) Give("registered descriptors", -r);
    close(fd);
  }

  const auto entry = [&ring] {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring);
    while (sqe == nullptr) {
      (void)io_uring_submit(&ring);
      sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
  };
  const auto receive = [&](unsigned i) {
    io_uring_sqe* sqe = entry();
    io_uring_prep_recv_multishot(sqe, static_cast<int>(i), nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT | IOSQE_FIXED_FILE;
    sqe->user_data = i + 1;
  };
  const auto send_request = [&](unsigned i) {
    io_uring_sqe* sqe = entry();
    io_uring_prep_send(sqe, static_cast<int>(i), request.data(), request.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = 0;
  };
  for (unsigned i = 0; i < connections; ++i) {
    receive(i);
    send_request(i);
  }
  std::vector<uint32_t> received(connections);
  uint64_t answers = 0, wakeups = 0, counted_from = 0;
  double began = Now(), cpu_began = 0;
  const double warm = began + 1;
  bool counting = false;
  while (true) {
    SubmitAndWait(&ring);
    ++wakeups;
    unsigned head = 0, count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring, head, cqe) {
      ++count;
      if (cqe->user_data == 0) Give("send", -cqe->res);
      const auto i = static_cast<unsigned>(cqe->user_data - 1);
      if (cqe->res <= 0 && cqe->res != -ENOBUFS) Give("receive", cqe->res == 0 ? ECONNRESET : -cqe->res);
      if (cqe->res > 0) {
        const auto buffer = static_cast<uint16_t>(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        io_uring_buf_ring_add(buffers, data + static_cast<size_t>(buffer) * kBufferBytes, kBufferBytes, buffer, mask,
                              0);
        io_uring_buf_ring_advance(buffers, 1);
        received[i] += static_cast<uint32_t>(cqe->res);
        if (received[i] >= answer) {
          received[i] = 0;
          ++answers;
          send_request(i);
        }
      }
      if ((cqe->flags & IORING_CQE_F_MORE) == 0) receive(i);
    }
    io_uring_cq_advance(&ring, count);
    const double now = Now();
    if (!counting && now >= warm) {
      counting = true;
      began = now;
      cpu_began = CpuSeconds();
      counted_from = answers;
      wakeups = 0;
    }
    if (counting && now >= began + seconds) {
      const auto counted = static_cast<double>(answers - counted_from);
      std::printf(
          "{\"tool\": \"floor\", \"connections\": %u, \"requests_in_all\": %lu, \"requests\": %.0f, "
          "\"requests_per_s\": %.0f, "
          "\"cpu_us_per_request\": %.3f, \"requests_per_wakeup\": %.2f}\n",
          connections, answers, counted, counted / (now - began), (CpuSeconds() - cpu_began) / counted * 1e6,
          counted / static_cast<double>(wakeups));
      return 0;
    }
  }
}
