#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lib/os/fd.h"
#include "target/faults.h"

namespace loadstar::target {

// What went wrong on the listener, as the `kind` label of loadstar_target_errors_total says it.
enum class ErrorKind : uint8_t {
  kParse,           // a line that is not JSON
  kInvalidRequest,  // JSON, but no JSON-RPC 2.0 request
  kUnknownMethod,
  kInvalidParams,
  kLineTooLong,    // the connection was closed for it
  kInjectedError,  // by POST /fault
  kInjectedClose,  // by POST /fault
  kOverload,       // answers piled up beyond the bound; the connection was closed
  kBadHttp,        // a request of HTTP that cannot be read, or is too large; the connection was closed for it
  kTransport,      // the connection ended with an errno other than ECONNRESET
  kCount,
};
inline constexpr std::array<std::string_view, static_cast<size_t>(ErrorKind::kCount)> kErrorKindNames = {
    "parse",          "invalid_request", "unknown_method", "invalid_params", "line_too_long",
    "injected_error", "injected_close",  "overload",       "bad_http",       "transport"};

// A number with one writing process and any number of readers in others.
class SharedNumber {
 public:
  void Add(uint64_t n) { Set(Get() + n); }
  void Set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  uint64_t Get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
  static_assert(std::atomic<uint64_t>::is_always_lock_free, "it is shared between processes");
};

enum class ServingState : int32_t { kStarting, kServing, kFailed };

// One serving process. Counters survive a restart of it: the next process counts on. On a cache line of its own, so
// that processes do not slow each other down.
struct alignas(64) ProcessCells {
  // Written by the serving process.
  SharedNumber connections;
  SharedNumber accepted;
  SharedNumber accept_failures;
  SharedNumber requests;
  SharedNumber handshakes;
  SharedNumber peer_resets;  // no error: a load generator ends idle connections so, to leave no TIME_WAIT
  SharedNumber bytes_received;
  SharedNumber bytes_sent;
  std::array<SharedNumber, kErrorKindNames.size()> errors;
  std::atomic<ServingState> state{ServingState::kStarting};

  // Written by the parent.
  std::atomic<pid_t> pid{0};  // 0: down
  SharedNumber restarts;

  void CountError(ErrorKind kind) { errors[static_cast<size_t>(kind)].Add(1); }
};

// The faults that are on. Written by the parent field by field, then announced to the serving processes.
struct FaultCells {
  struct DelayCell {
    std::atomic<int64_t> delay_ns{0};
    std::atomic<int64_t> share{0};  // 0: here the distribution ends
  };

  std::atomic<int64_t> delay_ns{0};
  std::array<DelayCell, kDelaysMax> delays;
  std::atomic<int64_t> stall_until_ns{0};  // CLOCK_MONOTONIC, which all processes of a host share
  std::atomic<double> error_ratio{0};
  std::atomic<double> close_ratio{0};
  std::atomic<bool> refuse{false};

  void Apply(const FaultSettings& settings, int64_t now_ns);
  // stall_ms is what is left of it.
  FaultSettings Read(int64_t now_ns) const;
  std::vector<DelayDice::Row> Delays() const;
};

// The memory that the parent and its serving processes share: an anonymous file that the children inherit, gone with
// the last of them.
class SharedState {
 public:
  static constexpr uint32_t kMaxProcesses = 256;

  // The parent's: new and zero.
  static absl::StatusOr<SharedState> Create(uint32_t processes);
  // A serving process's: the descriptor it inherited (owned from here on).
  static absl::StatusOr<SharedState> Open(int fd);
  SharedState(SharedState&&) noexcept;
  SharedState& operator=(SharedState&&) = delete;
  ~SharedState();

  int fd() const { return fd_.get(); }
  pid_t parent() const { return layout_->parent; }
  uint32_t processes() const { return layout_->processes; }
  ProcessCells& process(uint32_t index) const { return layout_->cells[index]; }
  FaultCells& faults() const { return layout_->faults; }

 private:
  struct Layout {
    pid_t parent = 0;
    uint32_t processes = 0;
    FaultCells faults;
    std::array<ProcessCells, kMaxProcesses> cells;
  };
  SharedState(os::Fd fd, Layout* layout) : fd_(std::move(fd)), layout_(layout) {}

  os::Fd fd_;
  Layout* layout_;
};

}  // namespace loadstar::target
