#pragma once

#include <liburing.h>
#include <netinet/in.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "lib/net/batch_wait.h"
#include "lib/net/socket_loop.h"

namespace loadstar::net {

// The loop on io_uring (Linux 6.0 and later; io_uring_setup(2), io_uring_enter(2)). One system call a turn: it submits
// what the turn before and the tick asked for, waits, and brings the completions. Receives and accepts are multishot:
// each is submitted once and completes again and again, receives into buffers that the kernel takes from a ring shared
// by all sockets.
//
// Sending. Bytes of a turn are gathered per socket (in `outgoing_`) and submitted together. Each send is tried at once
// (MSG_DONTWAIT) and completes without a completion entry when it is taken whole, so that waiting for one completion
// means waiting for the peer, and a loop that is busy waits a moment for several (batch_wait.h). What the kernel had no
// room for goes on as a late send, which waits in the kernel with its own copy of the bytes; what comes after it waits
// in the socket's queue. Long batches of callbacks submit in between (kSendsPerSubmit), so that a send leaves soon
// after it was asked for.
//
// Receiving. A paused socket's receive stays with the kernel until something arrives: then the bytes are held, the
// receive is taken back, and a poll for errors stands in for it, so that a reset is still seen. Bytes held are bounded
// by the ring of buffers.
//
// Closing. A receive that is with the kernel holds the file, so close() alone would not end the connection: the socket
// is shut down (or disconnected, for a reset) first. Whatever still completes for a slot that was freed is known by the
// token's generation.
class UringLoop final : public SocketLoop {
 public:
  // Fails when the kernel or a seccomp filter refuses what the loop cannot do without; the message says what.
  static absl::StatusOr<std::unique_ptr<Loop>> Create(const LoopOptions& options);
  ~UringLoop() override;

  std::string backend() const override { return "io_uring"; }
  std::string backend_reason() const override { return reason_; }
  bool Send(SocketId id, std::span<const std::byte> bytes) override;
  size_t QueuedBytes(SocketId id) const override;
  void ResumeReceive(SocketId id) override;
  void Close(SocketId id) override;
  void FinishSending(SocketId id) override;

 private:
  // What a completion is about, in the 64 bits of user data. The one place where they are packed and unpacked.
  //   bits 63..60  operation
  //   bits 59..32  the slot's generation, its low 28 bits (kSend, kLateSend: 0)
  //   bits 31..0   slot, or place in the list of sends
  enum class Operation : uint8_t { kNothing, kConnect, kReceive, kAccept, kWatch, kSend, kLateSend };
  static constexpr uint32_t kGenerationMask = (1U << 28) - 1;
  static uint64_t Pack(Operation operation, uint32_t index, uint32_t generation = 0) {
    return static_cast<uint64_t>(operation) << 60 | static_cast<uint64_t>(generation & kGenerationMask) << 32 | index;
  }

  static constexpr unsigned kSubmissions = 1024;
  static constexpr unsigned kCompletions = 4096;
  static constexpr size_t kSendsPerSubmit = 128;
  static constexpr int kBufferGroup = 0;

  // The ring of receive buffers. Where the kernel can (6.12), receives share a buffer one after the other until it is
  // full, so that few and large buffers serve; else each receive takes a whole one.
  struct Buffers {
    bool shared = false;
    uint32_t count = 0;  // a power of two
    uint32_t size = 0;
    io_uring_buf_ring* ring = nullptr;
    std::byte* memory = nullptr;
    size_t mapped = 0;
    std::vector<uint32_t> used;  // shared: bytes of each that were given out
  };

  // One socket's bytes of this turn, or a late send.
  struct Outgoing {
    EventToken socket;
    uint32_t offset = 0;  // in outgoing_bytes_
    uint32_t length = 0;
  };
  struct LateSend {
    EventToken socket;
    ByteQueue bytes;
  };

  UringLoop(const LoopOptions& options, int reserve_fd);
  absl::Status Start();
  absl::Status StartBuffers();
  absl::Status ProbeReceive();

  int Watch(SocketId id, const Address* peer, int* connect_error) override;
  void CloseDescriptor(Socket* socket, bool reset) override;
  void Turn(int64_t wait_ns) override;
  void HandleReady(EventToken token) override;
  void ResumeListener(EventToken token) override;

  io_uring_sqe* NextEntry();
  // Submits; with `wait_ns` >= 0 also waits for a completion and lets the kernel deliver. `batch`: waits a moment for
  // more.
  void Enter(int64_t wait_ns, bool batch = false);
  void PrepareSends();
  void ResolveSends();
  void ResolveSend(uint32_t place, int result);
  void SubmitLateSend(uint32_t place);
  void BeginLateSend(SocketId id, std::span<const std::byte> bytes);
  void FreeLateSend(uint32_t place);
  void Prefetch(unsigned place, unsigned end) const;
  void HandleCompletion(uint64_t user_data, int result, uint32_t flags);
  void HandleConnect(SocketId id, int result);
  void HandleReceive(EventToken token, bool alive, int result, uint32_t flags);
  void HandleAccept(EventToken token, bool alive, int result, uint32_t flags);
  void HandleWatch(SocketId id);
  void HandleLateSend(uint32_t place, int result);
  void Deliver(EventToken token, std::span<const std::byte> bytes);
  void DeliverHeld(EventToken token);
  // Asks for the receive or accept back.
  void TakeBack(SocketId id);
  void Receive(SocketId id);
  void Accept(SocketId id);
  // Adds bytes to what the socket sends this turn.
  void Gather(SocketId id, std::span<const std::byte> bytes);
  void GatherQueue(SocketId id);
  // Nothing may be left to send: then the sending side is shut down, and an owner that waits is told.
  void CheckDrained(SocketId id);
  void Recycle(uint32_t buffer);
  // Makes entries that were prepared for the descriptor and not submitted do nothing: its number will be used again.
  void Forget(int fd);

  io_uring ring_{};
  bool started_ = false;
  int ring_fd_ = -1;
  unsigned enter_flags_ = 0;
  std::string reason_;
  bool can_batch_ = false;
  BatchWait batch_wait_;
  Buffers buffers_;
  // Peers of connects that wait for submission, by place in the submission queue: the kernel reads them then.
  std::unique_ptr<sockaddr_in6[]> peers_;

  std::vector<std::byte> outgoing_bytes_;
  std::vector<Outgoing> outgoing_;
  // An owner waits for the end of one of them (to be told that it is drained, or to have it finished): a send that
  // succeeds has no completion, so the turn must not wait for something else to happen first. Small amounts that an
  // owner has merely asked for are not waited for: they would cost each turn its wait.
  bool sends_awaited_ = false;
  unsigned resolved_to_ = 0;  // completions before it are known to hold no send of this turn
  std::vector<LateSend> late_sends_;
  std::vector<uint32_t> free_late_sends_;

  // Connections accepted while their listener was paused.
  struct HeldAccept {
    EventToken listener;
    int fd;
  };
  std::vector<HeldAccept> held_accepts_;
};

}  // namespace loadstar::net
