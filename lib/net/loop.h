// lib/net: the event loop that the worker and the target are built on. Completion-style: the owner submits connects,
// sends and timers and is called back with what became of them, because io_uring is the backend this is shaped for;
// epoll (edge-triggered, batched) implements the same contract. One thread makes a loop and owns it and everything in
// it; nothing here locks.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loadstar::net {

// Index into the loop's socket table: dense from 0, reused after OnClosed has returned.
using SocketId = uint32_t;
inline constexpr SocketId kNoSocket = UINT32_MAX;

// An address as the kernel takes it.
struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

// Parses a numeric "HOST:PORT" or "[V6]:PORT" (no name lookup: lib/spec resolves names).
absl::StatusOr<Address> ParseAddress(const std::string& text);
// Parses a numeric host alone, port 0.
absl::StatusOr<Address> ParseHost(const std::string& text);
std::string ToString(const Address& address);
// 127.0.0.0/8, ::1, or the former mapped into IPv6.
bool IsLoopback(const Address& address);

// Receives the completions of the sockets it was given to. `tag` is the owner's own 64 bits, given with the socket.
// Any callback may call any method of the loop, for its own socket too (Close included).
class SocketHandler {
 public:
  virtual ~SocketHandler() = default;
  // A connect ended: error 0 or an errno (ECANCELED is never reported). After an error the socket is gone without
  // OnClosed.
  virtual void OnConnected(uint64_t /*tag*/, SocketId /*id*/, int /*error*/) {}
  // A listener accepted a connection. Return the handler and tag it shall have; a null handler closes it at once.
  struct Accepted {
    SocketHandler* handler = nullptr;
    uint64_t tag = 0;
  };
  virtual Accepted OnAccepted(uint64_t /*listener_tag*/, SocketId /*id*/) { return {}; }
  // accept() failed with an errno that is not transient (EMFILE, ENFILE, ENOMEM...). The loop stops accepting on that
  // listener and tries again after `kAcceptPause`, so that a full process neither spins nor dies. With EMFILE (also:
  // the socket table is full) a bounded batch of waiting connections is turned away by reset, so that their clients
  // learn of it instead of waiting for ever: then this is called once for each of them.
  virtual void OnAcceptFailed(uint64_t /*listener_tag*/, int /*error*/) {}
  // Bytes arrived. The span is the loop's and ends with the call. More than one call may follow in one batch.
  virtual void OnReceived(uint64_t tag, SocketId id, std::span<const std::byte> bytes) = 0;
  // Everything queued has reached the kernel, after the owner was told that something had not: by a Send that was
  // refused for lack of room or by QueuedBytes.
  virtual void OnDrained(uint64_t /*tag*/, SocketId /*id*/) {}
  // The socket ended without the owner's Close: error 0 is an orderly close by the peer (bytes still queued are
  // dropped), else an errno. The socket is gone; the id may be reused once this returns.
  virtual void OnClosed(uint64_t tag, SocketId id, int error) = 0;
  // A hint that changes nothing: a callback for this tag follows shortly. The owner may ask the CPU for the memory that
  // it is going to touch (__builtin_prefetch): with ten thousand connections none of it is in the nearest caches.
  virtual void Prefetch(uint64_t /*tag*/) const {}
};

// Called once per turn of the loop, before it waits: the place for pacing and timers.
class TickHandler {
 public:
  virtual ~TickHandler() = default;
  // `now_ns` is the turn's clock reading (CLOCK_MONOTONIC). Returns when it wants to be called again at the latest;
  // INT64_MAX: only after completions.
  virtual int64_t OnTick(int64_t now_ns) = 0;
};

struct LoopOptions {
  // Sockets at once, listeners and control channels included. The table is taken at the start.
  uint32_t max_sockets = 1024;
  // Bytes that Send may queue on one socket before it refuses.
  size_t send_queue_limit = 256 * 1024;
  // Receive buffer shared by all sockets, bytes.
  size_t receive_buffer = 64 * 1024;
  // When the loop may wait a moment for more than one completion (see batch_wait.h). Always: for tests.
  enum class Batching : uint8_t { kWhenBusy, kAlways };
  Batching batching = Batching::kWhenBusy;
};

// TCP keepalive (tcp(7)): the kernel's own probes of a connection on which nothing arrives. One that leaves `probes` of
// them without an answer ends with ETIMEDOUT.
struct Keepalive {
  int idle_s = 0;      // before the first probe: 1 to 32,767
  int interval_s = 0;  // between probes: 1 to 32,767
  int probes = 0;      // 1 to 127
};

// What a loop has done since it was made.
struct LoopStats {
  uint64_t turns = 0;
  // Times that a queue shared with the kernel was too small: the submission queue was full before the turn's end, which
  // costs a system call, or there were more completions than the completion queue holds, which costs the kernel memory
  // and time. Nothing is lost either way. epoll has no such queues.
  uint64_t queue_overflows = 0;
};

struct ConnectOptions {
  const Address* peer = nullptr;
  const Address* source = nullptr;       // optional; bound with IP_BIND_ADDRESS_NO_PORT
  const Keepalive* keepalive = nullptr;  // optional
  SocketHandler* handler = nullptr;
  uint64_t tag = 0;
};

class Loop {
 public:
  static constexpr int64_t kAcceptPause_ns = 100'000'000;

  // The named backend, "io_uring" or "epoll", or an error; "auto" is the best that this kernel and container allow. The
  // calling thread is the loop's: its waits end on time from here on (PR_SET_TIMERSLACK, prctl(2)) and not within 50
  // us.
  static absl::StatusOr<std::unique_ptr<Loop>> Create(const LoopOptions& options, std::string_view backend = "auto");
  // Every socket must have been closed (or is closed now, without callbacks).
  virtual ~Loop() = default;

  // "io_uring" or "epoll", and why not a better one, or what the kernel does not let it use; may be empty.
  virtual std::string backend() const = 0;
  virtual std::string backend_reason() const = 0;

  // Begins a TCP connection (TCP_NODELAY set, close-on-exec). OnConnected follows, never from within this call. Returns
  // false and sets *error to an errno when no socket could be made (EMFILE, ENFILE, ENOBUFS, a source that is not this
  // host's, a keepalive out of bounds...): no callback then. EMFILE also says that the socket table is full. Errors of
  // the path or the peer, even those that the kernel knows at once, come through OnConnected; that no port is left
  // (EADDRNOTAVAIL) comes either way. Send may be called before OnConnected: the bytes wait.
  virtual bool Connect(const ConnectOptions& options, SocketId* id, int* error) = 0;
  // Listens (SO_REUSEADDR; SO_REUSEPORT when `share_port`). An error says which address and why.
  virtual absl::StatusOr<SocketId> Listen(const Address& address, bool share_port, int backlog, SocketHandler* handler,
                                          uint64_t tag) = 0;
  // Takes ownership of a connected stream descriptor, such as an inherited socket pair's end.
  virtual absl::StatusOr<SocketId> Adopt(int fd, SocketHandler* handler, uint64_t tag) = 0;

  // Where the socket is bound, such as the port that a listener on port 0 was given.
  virtual absl::StatusOr<Address> LocalAddress(SocketId id) const;

  // Sends in order; what the kernel has not taken yet is copied (then OnDrained). io_uring sends at the end of the turn
  // or some sends later. False when queued bytes and `bytes` together exceed the queue's limit (nothing of `bytes` is
  // taken then), after FinishSending, or when the loop knows that the socket has ended and OnClosed is on its way.
  // EPIPE is never reported: OnClosed says whether the peer had closed in order (0) or reset.
  virtual bool Send(SocketId id, std::span<const std::byte> bytes) = 0;
  // Bytes that the kernel has not taken yet.
  virtual size_t QueuedBytes(SocketId id) const = 0;
  // Stops and resumes reading (back-pressure; also listeners). While paused an orderly close by the peer is not seen; a
  // reset is.
  virtual void PauseReceive(SocketId id) = 0;
  virtual void ResumeReceive(SocketId id) = 0;
  // Ends the socket: no callback for it follows. Close sends FIN (queued bytes are flushed to the kernel once, the rest
  // dropped); Reset sends RST, which leaves no TIME_WAIT.
  virtual void Close(SocketId id) = 0;
  virtual void Reset(SocketId id) = 0;
  // Shuts the sending side down after what is queued; receiving goes on until OnClosed.
  virtual void FinishSending(SocketId id) = 0;

  virtual void SetTickHandler(TickHandler* handler) = 0;
  // One turn: tick, wait (at most until the tick's or a timer's time, or max_wait_ns), deliver completions.
  virtual void RunOnce(int64_t max_wait_ns) = 0;
  // Turns until Stop is called from within a callback.
  void Run();
  void Stop() { stopped_ = true; }

  const LoopStats& stats() const { return stats_; }

  // The clock reading of this turn (CLOCK_MONOTONIC, ns): taken before and after the tick and after each wait.
  // Callbacks of one batch share it, so that it is late by the turn before it (WorkerUsage.loop_max_ns has what
  // callbacks and tick took of that; not what io_uring's system call did) and on io_uring, once the loop takes a
  // quarter of a core, by BatchWait::kLongest_ns.
  int64_t now_ns() const { return now_ns_; }
  // A fresh reading, for callers that need better than the batch's.
  static int64_t ReadClock();

 protected:
  LoopStats stats_;
  int64_t now_ns_ = 0;
  bool stopped_ = false;
};

}  // namespace loadstar::net
