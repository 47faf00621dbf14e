#include "target/serving_process.h"

#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <memory>

#include "lib/net/loop.h"
#include "lib/os/limits.h"
#include "lib/os/proc.h"
#include "target/node_server.h"
#include "target/shared_state.h"

namespace loadstar::target {
namespace {

// Bounds the table of a process whose descriptor limit is astronomic: more connections than this need more processes.
constexpr uint64_t kSocketsMax = 200'000;
constexpr int64_t kStallSlice_ns = 10'000'000;

// Told to end: the loop then closes its sockets. Left to the end of the process, what io_uring still does with a
// listener would hold the port for a moment longer, and the next node on it would not come up.
volatile std::sig_atomic_t terminated = 0;

int Backlog() {
  const absl::StatusOr<std::vector<uint64_t>> limit = os::Proc().Sysctl("net.core.somaxconn");
  constexpr uint64_t kBacklogMax = 65'535;
  return limit.ok() && !limit->empty() ? static_cast<int>(std::min(limit->front(), kBacklogMax)) : SOMAXCONN;
}

uint32_t MaxSockets() {
  const absl::StatusOr<os::DescriptorLimit> limit = os::RaiseDescriptorLimit();
  return static_cast<uint32_t>(std::min(limit.ok() ? std::max<uint64_t>(limit->soft, 16) : 1024, kSocketsMax));
}

class ServingProcess final : public net::SocketHandler, public net::TickHandler {
 public:
  ServingProcess(const Options& options, const SharedState& state)
      : options_(options), faults_(&state.faults()), cells_(&state.process(options.serving->index)) {}

  absl::Status Start() {
    const uint32_t max_sockets = MaxSockets();
    absl::StatusOr<std::unique_ptr<net::Loop>> loop =
        net::Loop::Create({.max_sockets = max_sockets,
                           .send_queue_limit = NodeServer::kSendQueueLimit,
                           .receive_buffer = NodeServer::kReceiveBuffer},
                          options_.backend);
    if (!loop.ok()) {
      return loop.status();
    }
    spdlog::info("target: event=serving process={} backend={} reason=\"{}\"", options_.serving->index,
                 (*loop)->backend(), (*loop)->backend_reason());
    loop_ = std::move(*loop);
    cells_->connections.Set(0);  // those of an earlier process in this place went with it
    server_ = std::make_unique<NodeServer>(loop_.get(), cells_, faults_,
                                           NodeServerOptions{.listen = options_.listen_address,
                                                             .backlog = Backlog(),
                                                             .max_sockets = max_sockets,
                                                             .name = options_.name,
                                                             .protocol = options_.protocol,
                                                             .tcp_payload = options_.tcp_payload,
                                                             .http_body = options_.http_body,
                                                             .process_index = options_.serving->index});
    absl::StatusOr<net::SocketId> control = loop_->Adopt(options_.serving->control_fd, this, 0);
    if (!control.ok()) {
      return control.status();
    }
    loop_->SetTickHandler(this);
    return server_->ApplyFaults();
  }

  void Run() {
    // A signal that comes just before the wait does not end it; the parent closes the control channel as well.
    while (!stop_ && terminated == 0) {
      Stall();
      loop_->RunOnce(INT64_MAX);
    }
  }

  // The parent says that the faults have changed; which byte it is does not matter.
  void OnReceived(uint64_t /*tag*/, net::SocketId /*id*/, std::span<const std::byte> /*bytes*/) override {
    if (const absl::Status applied = server_->ApplyFaults(); !applied.ok()) {
      spdlog::error("target: event=fault_failed process={} error=\"{}\"", options_.serving->index, applied.ToString());
      stop_ = true;  // cannot listen again: the parent sees the end and starts another one
      failed_ = true;
    }
  }
  void OnClosed(uint64_t /*tag*/, net::SocketId /*id*/, int /*error*/) override { stop_ = true; }
  int64_t OnTick(int64_t now_ns) override { return server_->ReleaseDelayed(now_ns); }

  bool failed() const { return failed_; }

 private:
  // The stall fault: this process does nothing at all, but looks whether the fault was cleared or its end has come.
  void Stall() const {
    while (terminated == 0) {
      const int64_t rest_ns = faults_->stall_until_ns.load() - net::Loop::ReadClock();
      if (rest_ns <= 0) {
        return;
      }
      const timespec slice{.tv_sec = 0, .tv_nsec = std::min(rest_ns, kStallSlice_ns)};
      nanosleep(&slice, nullptr);
    }
  }

  const Options& options_;
  const FaultCells* const faults_;
  ProcessCells* const cells_;
  std::unique_ptr<net::Loop> loop_;
  std::unique_ptr<NodeServer> server_;
  bool stop_ = false;
  bool failed_ = false;
};

}  // namespace

int RunServingProcess(const Options& options) {
  // Dies with the parent, whatever that dies of. The parent may have died before the call; then the check tells.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "loadstar-target");  // it was started as /proc/self/exe, and that is what ps would show
  signal(SIGINT, SIG_IGN);                // Ctrl-C reaches the whole group; the parent decides
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, [](int) { terminated = 1; });
  absl::StatusOr<SharedState> state = SharedState::Open(options.serving->state_fd);
  if (!state.ok() || options.serving->index >= state->processes()) {
    spdlog::error("target: event=start_failed error=\"--serve-index and its kin are for loadstar-target itself\"");
    return kExitBadInput;
  }
  if (getppid() != state->parent()) {
    return kExitFailed;
  }
  ProcessCells& cells = state->process(options.serving->index);
  ServingProcess process(options, *state);
  if (const absl::Status started = process.Start(); !started.ok()) {
    spdlog::error("target: event=start_failed process={} error=\"{}\"", options.serving->index, started.ToString());
    cells.state.store(ServingState::kFailed);
    return kExitFailed;
  }
  cells.state.store(ServingState::kServing);
  process.Run();
  return process.failed() ? kExitFailed : kExitOk;
}

}  // namespace loadstar::target
