// loadstar-worker: one load process of an agent, which starts it and talks to it over an inherited socket pair.
#include <poll.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/worker/control.h"
#include "agent/worker/engine.h"
#include "agent/worker/load.h"
#include "lib/net/loop.h"
#include "lib/os/limits.h"

namespace loadstar::worker {
namespace {

constexpr int kExitOk = 0;
constexpr int kExitUsage = 2;
constexpr int kExitFailed = 4;

// Descriptors beside the connections: the loop's, standard streams, the control channel, and room to spare.
constexpr uint64_t kReservedDescriptors = 64;
// Sockets of the loop beside the connections: the control channel and the signal channel.
constexpr uint32_t kOtherSockets = 2;

int signal_fd = -1;

// All that a signal handler may do: one byte for the loop to find.
void OnSignal(int /*signal*/) {
  const int saved = errno;
  const ssize_t written = send(signal_fd, "t", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  (void)written;  // the channel is full: a byte is in it already
  errno = saved;
}

// Raises the soft descriptor limit to the hard one; returns the limit that stands, 0 when it cannot be read.
uint64_t RaiseDescriptorLimit() {
  absl::StatusOr<os::DescriptorLimit> limit = os::RaiseDescriptorLimit();
  if (!limit.ok()) limit = os::ReadDescriptorLimit();
  return limit.ok() ? limit->soft : 0;
}

// The worker's end of the channel to its agent. When the agent is gone, or does not read, the worker has nobody to work
// for and ends.
class ControlChannel final : public AgentLink, public net::SocketHandler {
 public:
  explicit ControlChannel(net::Loop* loop) : loop_(loop) {}

  absl::Status Open(int fd) {
    auto id = loop_->Adopt(fd, this, 0);
    if (!id.ok()) return id.status();
    id_ = *id;
    return absl::OkStatus();
  }
  void Attach(Engine* engine) { engine_ = engine; }

  void Send(const v1::WorkerToAgent& message) override {
    const std::string frame = Frame(message);
    if (failed_ || loop_->Send(id_, std::as_bytes(std::span(frame)))) return;
    Fail("the agent does not read");
  }
  bool failed() const { return failed_; }
  bool flushed() const { return failed_ || loop_->QueuedBytes(id_) == 0; }

  absl::Status Feed(std::span<const std::byte> bytes) {
    return reader_.Feed(bytes, [this](v1::AgentToWorker&& message) {
      const absl::Status status = engine_->Receive(message);
      if (!status.ok()) spdlog::warn("control: refused=\"{}\"", status.ToString());
    });
  }
  void OnReceived(uint64_t /*tag*/, net::SocketId /*id*/, std::span<const std::byte> bytes) override {
    const absl::Status status = Feed(bytes);
    if (!status.ok()) Fail(std::string(status.message()));
  }
  void OnClosed(uint64_t /*tag*/, net::SocketId /*id*/, int error) override {
    Fail(error == 0 ? "the agent closed the channel"
                    : std::string(absl::ErrnoToStatus(error, "the channel broke").message()));
  }

 private:
  void Fail(const std::string& why) {
    if (!engine_->finished()) spdlog::error("worker: ends=\"{}\"", why);
    failed_ = true;
  }

  net::Loop* const loop_;
  net::SocketId id_ = net::kNoSocket;
  Engine* engine_ = nullptr;
  FrameReader reader_;
  bool failed_ = false;
};

// Where SIGTERM arrives.
class SignalChannel final : public net::SocketHandler {
 public:
  explicit SignalChannel(Engine* engine) : engine_(engine) {}
  void OnReceived(uint64_t /*tag*/, net::SocketId /*id*/, std::span<const std::byte> /*bytes*/) override {
    engine_->Terminate();
  }
  void OnClosed(uint64_t /*tag*/, net::SocketId /*id*/, int /*error*/) override {}

 private:
  Engine* const engine_;
};

absl::Status ReadExactly(int fd, char* to, size_t size) {
  while (size > 0) {
    const ssize_t n = recv(fd, to, size, 0);
    if (n > 0) {
      to += n;
      size -= static_cast<size_t>(n);
    } else if (n == 0) {
      return absl::CancelledError("control channel: closed before there was a plan");
    } else if (errno == EAGAIN) {
      pollfd waiting{fd, POLLIN, 0};
      poll(&waiting, 1, -1);
    } else if (errno != EINTR) {
      return absl::ErrnoToStatus(errno, "control channel");
    }
  }
  return absl::OkStatus();
}

// The first message, which says how large the loop has to be. Takes nothing of what follows it.
absl::StatusOr<v1::WorkerPlan> ReadPlan(int fd) {
  std::array<char, 4> head{};
  if (absl::Status status = ReadExactly(fd, head.data(), head.size()); !status.ok()) return status;
  size_t length = 0;
  for (const char byte : head) length = length << 8 | static_cast<unsigned char>(byte);
  if (length == 0 || length > kMaxControlMessage) {
    return absl::InvalidArgumentError(absl::StrCat("control channel: a first message of ", length, " bytes"));
  }
  std::string bytes(length, '\0');
  if (absl::Status status = ReadExactly(fd, bytes.data(), length); !status.ok()) return status;
  v1::AgentToWorker message;
  if (!message.ParseFromString(bytes) || !message.has_plan()) {
    return absl::InvalidArgumentError("control channel: the first message is no plan");
  }
  return std::move(*message.mutable_plan());
}

// Tells the agent why the plan cannot be carried out.
int Refuse(int control_fd, const std::string& error) {
  spdlog::error("worker: refused=\"{}\"", error);
  v1::WorkerToAgent message;
  message.mutable_ready()->set_error(error);
  const std::string frame = Frame(message);
  const ssize_t sent = send(control_fd, frame.data(), frame.size(), MSG_NOSIGNAL);
  return sent == static_cast<ssize_t>(frame.size()) ? kExitUsage : kExitFailed;
}

int RunWorker(int control_fd, const std::string& backend) {
  auto plan = ReadPlan(control_fd);
  if (!plan.ok()) {
    spdlog::error("worker: ends=\"{}\"", plan.status().ToString());
    return plan.status().code() == absl::StatusCode::kCancelled ? kExitOk : kExitFailed;
  }
  const uint64_t descriptors = RaiseDescriptorLimit();
  if (plan->connections_max() + kReservedDescriptors > descriptors) {
    return Refuse(control_fd,
                  absl::StrCat("one process may have ", descriptors, " descriptors here and this worker would need ",
                               plan->connections_max() + kReservedDescriptors,
                               ": use more workers or raise the hard limit (ulimit -Hn)"));
  }
  net::LoopOptions options;
  options.max_sockets = static_cast<uint32_t>(plan->connections_max()) + kOtherSockets;
  options.send_queue_limit = 4 * Load::kMaxQueuedBytes;  // the control channel's too: many seconds of samples
  auto loop = net::Loop::Create(options, backend);
  if (!loop.ok()) return Refuse(control_fd, std::string(loop.status().message()));

  ControlChannel control(loop->get());
  auto engine = Engine::Create(*plan, loop->get(), &control);
  if (!engine.ok()) return Refuse(control_fd, std::string(engine.status().message()));
  control.Attach(engine->get());
  if (absl::Status status = control.Open(control_fd); !status.ok()) {
    spdlog::error("worker: ends=\"{}\"", status.ToString());
    return kExitFailed;
  }
  int signals[2];
  SignalChannel signal_channel(engine->get());
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, signals) != 0 ||
      !(*loop)->Adopt(signals[0], &signal_channel, 0).ok()) {
    spdlog::error("worker: ends=\"{}\"", absl::ErrnoToStatus(errno, "no channel for signals").ToString());
    return kExitFailed;
  }
  signal_fd = signals[1];
  struct sigaction action {};
  action.sa_handler = &OnSignal;
  sigaction(SIGTERM, &action, nullptr);

  v1::WorkerToAgent message;
  message.mutable_ready()->set_backend((*loop)->backend());
  message.mutable_ready()->set_backend_reason((*loop)->backend_reason());
  control.Send(message);
  constexpr int64_t kLongWait_ns = 1'000'000'000;
  while (!control.failed() && !((*engine)->finished() && control.flushed())) (*loop)->RunOnce(kLongWait_ns);
  return control.failed() ? kExitFailed : kExitOk;
}

}  // namespace
}  // namespace loadstar::worker

int main(int argc, char** argv) {
  CLI::App app{"One load process of a loadstar-agent, which starts it: not meant to be run by hand."};
  int control_fd = -1;
  app.add_option("--control-fd", control_fd, "Inherited end of the socket pair to the agent")->required();
  std::string backend = "auto";
  app.add_option("--backend", backend, "auto, io_uring or epoll")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : loadstar::worker::kExitUsage;
  }
  spdlog::set_default_logger(spdlog::stderr_logger_st("worker"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e%z level=%l pid=%P %v");
  // Ctrl-C at a terminal reaches the whole process group; it is the CLI's to handle.
  signal(SIGINT, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  return loadstar::worker::RunWorker(control_fd, backend);
}
