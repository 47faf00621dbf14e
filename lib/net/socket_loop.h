#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/net/byte_queue.h"
#include "lib/net/event_token.h"
#include "lib/net/loop.h"

namespace loadstar::net {

// What the backends share: the table of sockets, how sockets are made, and what becomes of a listener whose process has
// no descriptors left. A backend adds how readiness or completions come and how bytes go.
//
// Life of a slot: kFree -> kConnecting -> kOpen -> kEnding -> kFree, or kFree -> kListening -> kFree. In kEnding the
// descriptor is gone, but the owner has not been told yet or is being told: the slot cannot be reused, Send refuses and
// Close does nothing. Freeing a slot changes its generation, so what still refers to it (events of this batch, the
// ready list, a read in progress whose callback closed it) is seen to be stale.
//
// The ready list: sockets with work that no event of the kernel will announce (a read budget used up, resumed after a
// pause, failed inside a call). Each is handled once in the next turn, which then does not wait.
class SocketLoop : public Loop {
 public:
  ~SocketLoop() override;

  bool Connect(const ConnectOptions& options, SocketId* id, int* error) final;
  absl::StatusOr<SocketId> Listen(const Address& address, bool share_port, int backlog, SocketHandler* handler,
                                  uint64_t tag) final;
  absl::StatusOr<SocketId> Adopt(int fd, SocketHandler* handler, uint64_t tag) final;
  absl::StatusOr<Address> LocalAddress(SocketId id) const final;
  void PauseReceive(SocketId id) final;
  void Reset(SocketId id) final;
  void SetTickHandler(TickHandler* handler) final { tick_handler_ = handler; }
  void RunOnce(int64_t max_wait_ns) final;

 protected:
  static constexpr uint32_t kNone = UINT32_MAX;
  // Work for one socket in one turn: enough to amortise the turn, little enough that one flood does not starve the
  // rest.
  static constexpr int kReadsPerTurn = 4;
  static constexpr int kAcceptsPerTurn = 64;

  enum class State : uint8_t { kFree, kConnecting, kOpen, kListening, kEnding };

  struct Socket {
    SocketHandler* handler = nullptr;
    uint64_t tag = 0;
    ByteQueue queue;  // bytes to send that wait
    ByteQueue held;   // io_uring: bytes received while paused
    int fd = -1;
    uint32_t generation = 0;
    int failure = 0;             // of Send or of the connect call, told on the next turn
    uint32_t turn_send = kNone;  // io_uring: what this turn is going to send, place in the loop's list
    uint32_t late_send = kNone;  // io_uring: the send that waits for room in the kernel
    State state = State::kFree;
    bool paused : 1 = false;            // by the owner
    bool failed : 1 = false;            // `failure` is to be told
    bool finish_requested : 1 = false;  // FinishSending waits for the queue
    bool finished : 1 = false;          // the sending side is shut down
    bool on_ready_list : 1 = false;
    bool readable : 1 = false;      // epoll: the kernel may have bytes (or connections) that were not taken yet
    bool hung_up : 1 = false;       // the peer's end was seen and is told when the reader comes to it
    bool receiving : 1 = false;     // io_uring: a receive or accept is with the kernel
    bool cancelling : 1 = false;    // io_uring: and was asked back
    bool watching : 1 = false;      // io_uring: a poll for errors is with the kernel
    bool drain_wanted : 1 = false;  // io_uring: the owner saw bytes wait
  };
  static_assert(sizeof(Socket) <= 64, "one cache line a socket: a worker holds tens of thousands");

  explicit SocketLoop(const LoopOptions& options, int reserve_fd);
  // An open descriptor to give up when the process has none left; or an error.
  static absl::StatusOr<int> OpenReserve();

  // --- what a backend does ---
  // Begins to watch a new slot. kConnecting: `peer` is to be connected to; an errno in *connect_error when that failed
  // at once. Returns 0 or the errno that says why the socket cannot be watched.
  virtual int Watch(SocketId id, const Address* peer, int* connect_error) = 0;
  // The descriptor is about to be closed; `reset`: so that the peer sees RST.
  virtual void CloseDescriptor(Socket* socket, bool reset) = 0;
  // Waits for no longer than wait_ns and handles what came. Sets now_ns_ after the wait.
  virtual void Turn(int64_t wait_ns) = 0;
  virtual void HandleReady(EventToken token) = 0;
  // A listener that is not paused any more goes on.
  virtual void ResumeListener(EventToken token) = 0;

  // --- what backends use ---
  bool Full() const { return free_.empty() && used_ == options_.max_sockets; }
  uint32_t InUse() const { return used_ - static_cast<uint32_t>(free_.size()); }
  EventToken TokenOf(SocketId id) const { return {id, sockets_[id].generation}; }
  bool Alive(EventToken token) const;
  bool IsConnection(SocketId id) const;
  bool IsOpen(SocketId id) const { return id < used_ && sockets_[id].fd >= 0; }
  void Free(SocketId id);
  void MakeReady(SocketId id);
  // Remembers a failure of a call, to be told in the next turn.
  void Fail(SocketId id, int error);
  // Tells the owner that the socket is gone; the slot is free on return.
  void EndConnect(SocketId id, int error);
  void EndOpen(SocketId id, int error);

  // Gives an accepted descriptor to the listener's owner. False when it could not be taken for lack of something: then
  // the connection was turned away and the listener waits.
  bool Admit(EventToken listener, int fd);
  // accept() failed for lack of something: turns waiting connections away where it can, and lets the listener wait.
  void TurnAway(EventToken listener, int error);
  // The listener accepts nothing for kAcceptPause.
  void LetWait(EventToken listener);
  bool Waits(EventToken listener) const;

  enum class AcceptError { kDrained, kTryNext, kShortage };
  static AcceptError Classify(int error);
  static int SocketError(int fd);
  static void CloseWithReset(int fd);
  // Before an orderly close: unread bytes would make RST of it, and that may take our last bytes away from the peer.
  static void DiscardUnread(int fd);

  const LoopOptions options_;
  TickHandler* tick_handler_ = nullptr;
  std::unique_ptr<Socket[]> sockets_;
  uint32_t used_ = 0;  // slots ever taken; free ones below it are in free_

 private:
  // A listener that met the limits of the process and waits.
  struct PausedListener {
    EventToken token;
    int64_t resume_ns;
  };

  // Takes a slot for the descriptor. The caller checked that there is room. On failure (errno is returned) the
  // descriptor is closed.
  int Register(int fd, State state, SocketHandler* handler, uint64_t tag, const Address* peer, int* connect_error,
               SocketId* id);
  int64_t WaitTime(int64_t until_ns) const;
  void ResumeListeners();

  int reserve_fd_;  // given up for a moment to turn connections away when the process has no descriptor left
  std::vector<SocketId> free_;
  std::vector<EventToken> ready_;
  std::vector<EventToken> ready_now_;  // the list being worked off
  std::vector<PausedListener> paused_listeners_;
};

}  // namespace loadstar::net
