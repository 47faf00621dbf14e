// What the bare io_uring programs of the benches share: a ring, its receive buffers, a turn. No error is survived.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <system_error>
#include <vector>

namespace loadstar::bench {

[[noreturn]] inline void Give(const char* what, int error) {
  (void)std::fprintf(stderr, "%s: %s\n", what, std::generic_category().message(error).c_str());
  std::_Exit(4);
}

inline double Seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Multishot receives into provided buffers, registered descriptors, one system call a turn.
class BareRing {
 public:
  explicit BareRing(unsigned descriptors) {
    io_uring_params params{};
    params.flags =
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL;
    params.cq_entries = 4 * kEntries;
    if (int r = io_uring_queue_init_params(kEntries, &ring_, &params); r < 0) Give("io_uring_setup", -r);
    (void)io_uring_register_ring_fd(&ring_);
    memory_.resize(kBuffers * static_cast<size_t>(kBufferBytes));
    void* head = std::aligned_alloc(4096, kBuffers * sizeof(io_uring_buf));
    buffers_ = static_cast<io_uring_buf_ring*>(head);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<uint64_t>(head);
    registration.ring_entries = kBuffers;
    if (int r = io_uring_register_buf_ring(&ring_, &registration, 0); r < 0) Give("buffer ring", -r);
    io_uring_buf_ring_init(buffers_);
    for (unsigned i = 0; i < kBuffers; ++i) Recycle(static_cast<uint16_t>(i));
    if (int r = io_uring_register_files_sparse(&ring_, descriptors); r < 0) Give("registered descriptors", -r);
  }
  // The kernel ends the ring with the process.

  io_uring* ring() { return &ring_; }

  io_uring_sqe* Entry() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    while (sqe == nullptr) {
      (void)io_uring_submit(&ring_);
      sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
  }

  void Receive(unsigned descriptor, uint64_t user_data) {
    io_uring_sqe* sqe = Entry();
    io_uring_prep_recv_multishot(sqe, static_cast<int>(descriptor), nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT | IOSQE_FIXED_FILE;
    sqe->user_data = user_data;
  }

  // A completion only of a failure. The bytes must last until then or the next turn.
  void Send(unsigned descriptor, const void* bytes, size_t length, uint64_t user_data) {
    io_uring_sqe* sqe = Entry();
    io_uring_prep_send(sqe, static_cast<int>(descriptor), bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = user_data;
  }

  const char* Bytes(const io_uring_cqe& cqe) const {
    return &memory_[static_cast<size_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT) * kBufferBytes];
  }
  void Recycle(uint16_t buffer) {
    io_uring_buf_ring_add(buffers_, &memory_[static_cast<size_t>(buffer) * kBufferBytes], kBufferBytes, buffer,
                          io_uring_buf_ring_mask(kBuffers), 0);
    io_uring_buf_ring_advance(buffers_, 1);
  }

  // Submits and waits at most a second: `minimum_us` for up to 64 completions, after that for one.
  void Turn(uint32_t minimum_us) {
    io_uring_sq& queue = ring_.sq;
    unsigned tail = *queue.ktail;
    for (; queue.sqe_head != queue.sqe_tail; ++queue.sqe_head) {
      queue.array[tail++ & *queue.kring_mask] = queue.sqe_head & *queue.kring_mask;
    }
    io_uring_smp_store_release(queue.ktail, tail);
    __kernel_timespec longest{.tv_sec = 1, .tv_nsec = 0};
    io_uring_getevents_arg argument{};
    argument.ts = reinterpret_cast<uint64_t>(&longest);
    argument.pad = minimum_us;  // min_wait_usec, Linux 6.12, which liburing 2.3 does not name yet
    (void)io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), tail - io_uring_smp_load_acquire(queue.khead),
                          minimum_us > 0 ? kTogether : 1,
                          IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG |
                              (ring_.enter_ring_fd != ring_.ring_fd ? IORING_ENTER_REGISTERED_RING : 0U),
                          reinterpret_cast<sigset_t*>(&argument), sizeof(argument));
  }

 private:
  static constexpr unsigned kEntries = 4096;
  static constexpr unsigned kBuffers = 4096;
  static constexpr unsigned kBufferBytes = 1024;
  static constexpr unsigned kTogether = 64;

  io_uring ring_{};
  io_uring_buf_ring* buffers_ = nullptr;
  std::vector<char> memory_;
};

}  // namespace loadstar::bench
