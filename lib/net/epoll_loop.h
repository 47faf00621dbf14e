#pragma once

#include <sys/epoll.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/net/event_token.h"
#include "lib/net/loop.h"
#include "lib/net/send_queue.h"

namespace loadstar::net {

// The loop on epoll: edge-triggered, every descriptor registered once for all it may ever need, so that a connection
// costs one epoll_ctl in its life.
//
// A turn: tick; wait; then the events of one batch; then the sockets on the ready list. Edge-triggered means that the
// kernel tells of readiness once, so a socket that was left with work (read or accept budget used up, resumed after a
// pause, failed inside Send) remembers it (`readable`, `failed`) and stands on the ready list for the next turn.
//
// Life of a slot: kFree -> kConnecting -> kOpen -> kEnding -> kFree, or kFree -> kListening -> kFree. In kEnding the
// descriptor is gone, but the owner has not been told yet or is being told: the slot cannot be reused, Send refuses and
// Close does nothing. Freeing a slot changes its generation, so what still refers to it (events of this batch, the
// ready list, a read in progress whose callback closed it) is seen to be stale.
class EpollLoop final : public Loop {
 public:
  static absl::StatusOr<std::unique_ptr<Loop>> Create(const LoopOptions& options);
  ~EpollLoop() override;

  std::string backend() const override { return "epoll"; }
  std::string backend_reason() const override;
  bool Connect(const ConnectOptions& options, SocketId* id, int* error) override;
  absl::StatusOr<SocketId> Listen(const Address& address, bool share_port, int backlog, SocketHandler* handler,
                                  uint64_t tag) override;
  absl::StatusOr<SocketId> Adopt(int fd, SocketHandler* handler, uint64_t tag) override;
  absl::StatusOr<Address> LocalAddress(SocketId id) const override;
  bool Send(SocketId id, std::span<const std::byte> bytes) override;
  size_t QueuedBytes(SocketId id) const override;
  void PauseReceive(SocketId id) override;
  void ResumeReceive(SocketId id) override;
  void Close(SocketId id) override;
  void Reset(SocketId id) override;
  void FinishSending(SocketId id) override;
  void SetTickHandler(TickHandler* handler) override { tick_handler_ = handler; }
  void RunOnce(int64_t max_wait_ns) override;

 private:
  enum class State : uint8_t { kFree, kConnecting, kOpen, kListening, kEnding };

  struct Socket {
    SocketHandler* handler = nullptr;
    uint64_t tag = 0;
    SendQueue queue;
    int fd = -1;
    uint32_t generation = 0;
    int failure = 0;  // of Send or of the connect call, told on the next turn
    State state = State::kFree;
    bool readable = false;          // the kernel may have bytes (or connections) that were not taken yet
    bool hung_up = false;           // the peer's end was seen: read until recv says so, short reads do not count
    bool paused = false;            // by the owner
    bool failed = false;            // `failure` is to be told
    bool finish_requested = false;  // FinishSending waits for the queue
    bool finished = false;          // the sending side is shut down
    bool on_ready_list = false;
  };
  static_assert(sizeof(Socket) <= 64, "one cache line a socket: a worker holds tens of thousands");

  // A listener that met the limits of the process and waits.
  struct PausedListener {
    EventToken token;
    int64_t resume_ns;
  };

  EpollLoop(const LoopOptions& options, int epoll_fd, int reserve_fd);

  // Takes a slot and registers the descriptor. The caller checked that there is room. On failure (errno is returned)
  // the descriptor is closed.
  int Register(int fd, State state, SocketHandler* handler, uint64_t tag, SocketId* id);
  bool Full() const { return free_.empty() && used_ == options_.max_sockets; }
  EventToken TokenOf(SocketId id) const { return {id, sockets_[id].generation}; }
  bool Alive(EventToken token) const;
  bool IsConnection(SocketId id) const;
  void Free(SocketId id);
  void MakeReady(SocketId id);
  // Tells the owner that the socket is gone; the slot is free on return.
  void EndConnect(SocketId id, int error);
  void EndOpen(SocketId id, int error);

  int64_t WaitTime(int64_t until_ns) const;
  int Wait(int64_t wait_ns);
  void ResumeListeners();
  void HandleEvent(EventToken token, uint32_t events);
  void HandleReady(EventToken token);
  void HandleConnect(EventToken token, uint32_t events);
  void Read(EventToken token);
  void Flush(EventToken token);
  void Fail(SocketId id, int error);
  void Accept(EventToken token);
  void TurnAway(EventToken listener, int error);

  const LoopOptions options_;
  const int epoll_fd_;
  int reserve_fd_;  // given up for a moment to turn connections away when the process has no descriptor left
  bool nanosecond_wait_ = true;  // false: kernel before 5.11, waits are rounded up to milliseconds
  TickHandler* tick_handler_ = nullptr;

  std::unique_ptr<Socket[]> sockets_;
  uint32_t used_ = 0;  // slots ever taken; free ones below it are in free_
  std::vector<SocketId> free_;
  std::unique_ptr<std::byte[]> receive_buffer_;
  std::array<epoll_event, 512> events_;
  std::vector<EventToken> ready_;
  std::vector<EventToken> ready_now_;  // the list being worked off
  std::vector<PausedListener> paused_listeners_;
};

}  // namespace loadstar::net
