#include "agent/supervisor/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "agent/supervisor/frame.h"
#include "lib/os/clock.h"
#include "lib/os/fd.h"
#include "lib/os/files.h"
#include "lib/os/subprocess.h"
#include "lib/os/wait_set.h"
#include "spdlog/spdlog.h"

namespace loadstar::agent {
namespace {

constexpr int64_t kCloseGraceNs = 5'000'000'000;
constexpr int64_t kLongestWaitNs = 1'000'000'000;
constexpr int64_t kHousekeepingNs = 5'000'000'000;

// What an event is about: the worker's id and which of its two descriptors, in one tag.
enum class Source : uint64_t { kChannel = 0, kProcess = 1 };
uint64_t Pack(WorkerId worker, Source source) { return worker << 1 | static_cast<uint64_t>(source); }
std::pair<WorkerId, Source> Unpack(uint64_t tag) { return {tag >> 1, static_cast<Source>(tag & 1)}; }

// A worker is a part of this agent and gets all of its environment (a sanitizer's options, marks of a test).
std::vector<std::string> OwnEnvironment() {
  std::vector<std::string> variables;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable)
    variables.emplace_back(*variable);
  return variables;
}

}  // namespace

class Supervisor::Impl {
 public:
  Impl(Options options, Sink sink) : options_(std::move(options)), sink_(std::move(sink)) {}

  absl::Status Start() {
    if (absl::Status status = os::MakeFolders(options_.log_folder); !status.ok()) return status;
    if (!waits_.status().ok()) return waits_.status();
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

  ~Impl() {
    Post(Stop{});
    if (thread_.joinable()) thread_.join();
  }

  struct SpawnOne {
    WorkerId worker;
  };
  struct SendOne {
    WorkerId worker;
    std::string frame;
  };
  struct KillOne {
    WorkerId worker;
  };
  struct Stop {};
  using Order = std::variant<SpawnOne, SendOne, KillOne, Stop>;

  void Post(Order order) { orders_.Post(std::move(order)); }

 private:
  struct Worker {
    WorkerId id = 0;
    os::Child process;
    os::Fd channel;  // none after its end
    FrameReader reader;
    std::string unsent;
    std::string log;
    std::string killed_because;  // our own reason, when we ended it for one
    int64_t kill_at_ns = INT64_MAX;
  };

  void Run() {
    std::vector<os::WaitSet::Event> events;
    int64_t housekeeping_at = os::MonotonicNs() + kHousekeepingNs;
    while (!stopping_) {
      waits_.Wait(os::MonotonicNs() + kLongestWaitNs, &events);
      for (const os::WaitSet::Event& event : events) {
        const auto [id, source] = Unpack(event.tag);
        // A worker that ended earlier in this batch is not there any more.
        const auto found = workers_.find(id);
        if (found == workers_.end()) continue;
        if (source == Source::kProcess) {
          OnExit(found->second);
        } else {
          if ((event.ready & EPOLLOUT) != 0) Flush(found->second);
          if ((event.ready & ~EPOLLOUT) != 0) Receive(found->second);
        }
      }
      TakeOrders();
      const int64_t now = os::MonotonicNs();
      for (auto& [id, worker] : workers_) {
        if (now >= worker.kill_at_ns) End(worker, "it closed its channel and did not end");
      }
      if (now >= housekeeping_at) {
        housekeeping_at = now + kHousekeepingNs;
        for (auto& [id, worker] : workers_) BoundLog(worker);
      }
    }
    for (auto& [id, worker] : workers_) kill(-worker.process.pid, SIGKILL);
    for (auto& [id, worker] : workers_) {
      pollfd poller{.fd = worker.process.pidfd.get(), .events = POLLIN, .revents = 0};
      if (poll(&poller, 1, 5'000) != 1 || !os::PollExit(worker.process.pidfd, true)) {
        spdlog::error("supervisor: event=worker-left pid={} reason=\"still there 5 s after SIGKILL\"",
                      worker.process.pid);
      }
    }
    workers_.clear();
  }

  void TakeOrders() {
    std::vector<Order> orders = orders_.Take();
    for (Order& order : orders) {
      if (auto* start = std::get_if<SpawnOne>(&order)) {
        SpawnWorker(start->worker);
      } else if (auto* send = std::get_if<SendOne>(&order)) {
        Queue(send->worker, send->frame);
      } else if (auto* end = std::get_if<KillOne>(&order)) {
        const auto found = workers_.find(end->worker);
        if (found != workers_.end()) kill(-found->second.process.pid, SIGKILL);
      } else {
        stopping_ = true;
      }
    }
  }

  void SpawnWorker(WorkerId id) {
    const auto fail = [&](const absl::Status& status) {
      spdlog::error("supervisor: event=worker-not-started worker={} reason=\"{}\"", id, std::string(status.message()));
      sink_(WorkerExited{
          .worker = id, .clean = false, .cause = absl::StrCat("could not be started: ", status.message())});
    };
    Worker worker;
    worker.id = id;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
      return fail(absl::ErrnoToStatus(errno, "cannot make a socket pair"));
    }
    worker.channel.Reset(ends[0]);
    const os::Fd far(ends[1]);
    fcntl(worker.channel.get(), F_SETFL, O_NONBLOCK);
    worker.log = absl::StrCat(options_.log_folder, "/worker-", id, ".log");
    PruneLogs();
    unlink(worker.log.c_str());
    absl::StatusOr<os::Fd> log = os::OpenForAppend(worker.log);
    if (!log.ok()) return fail(log.status());
    absl::StatusOr<os::Child> child = os::Spawn({.program = options_.program,
                                                 .arguments = {"--control-fd", "3", "--backend", options_.backend},
                                                 .environment = OwnEnvironment(),
                                                 .stdout_fd = log->get(),
                                                 .stderr_fd = log->get(),
                                                 .inherit = {far.get()}});
    if (!child.ok()) return fail(child.status());
    worker.process = *std::move(child);
    spdlog::info("supervisor: event=worker-started worker={} pid={}", id, worker.process.pid);
    waits_.Add(worker.channel, Pack(id, Source::kChannel), EPOLLIN);
    waits_.AddProcess(worker.process.pidfd, Pack(id, Source::kProcess));
    workers_.emplace(id, std::move(worker));
  }

  void Queue(WorkerId id, const std::string& frame) {
    const auto found = workers_.find(id);
    if (found == workers_.end()) return;  // its WorkerExited is on its way
    Worker& worker = found->second;
    if (!worker.channel) return;
    if (worker.unsent.size() + frame.size() > options_.queue_max_bytes) {
      return End(worker, "it did not read what it was sent");
    }
    const bool idle = worker.unsent.empty();
    worker.unsent.append(frame);
    if (idle) Flush(worker);
  }

  void Flush(Worker& worker) {
    if (!worker.channel) return;
    while (!worker.unsent.empty()) {
      const ssize_t sent = send(worker.channel.get(), worker.unsent.data(), worker.unsent.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) {
        if (errno != EAGAIN) worker.unsent.clear();  // it ended: the process's end is on its way
        break;
      }
      worker.unsent.erase(0, static_cast<size_t>(sent));
    }
    waits_.Change(worker.channel, Pack(worker.id, Source::kChannel),
                  EPOLLIN | (worker.unsent.empty() ? 0u : static_cast<uint32_t>(EPOLLOUT)));
  }

  // Takes everything that has arrived.
  void Receive(Worker& worker) {
    char buffer[65'536];
    while (worker.channel) {
      const ssize_t got = recv(worker.channel.get(), buffer, sizeof buffer, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) {
        CloseChannel(worker);
        worker.kill_at_ns = os::MonotonicNs() + kCloseGraceNs;
        return;
      }
      worker.reader.Append({buffer, static_cast<size_t>(got)});
      for (;;) {
        absl::StatusOr<std::optional<std::string>> frame = worker.reader.Next();
        if (!frame.ok()) return End(worker, absl::StrCat("it sent ", frame.status().message()));
        if (!frame->has_value()) break;
        WorkerSaid said{.worker = worker.id, .message = {}};
        if (!said.message.ParseFromString(**frame)) return End(worker, "it sent what is no message");
        sink_(std::move(said));
      }
    }
  }

  void CloseChannel(Worker& worker) {
    if (!worker.channel) return;
    waits_.Remove(worker.channel);
    worker.channel.Reset();
  }

  // Kills a worker that can not be worked with; its end is reported when the process is gone.
  void End(Worker& worker, std::string reason) {
    if (worker.killed_because.empty()) worker.killed_because = std::move(reason);
    CloseChannel(worker);
    worker.kill_at_ns = INT64_MAX;
    kill(-worker.process.pid, SIGKILL);
  }

  void OnExit(Worker& worker) {
    Receive(worker);  // what it said before its end
    const std::optional<os::Exit> exit = os::PollExit(worker.process.pidfd, true);
    if (!exit) return;
    std::string cause = os::ToString(*exit);
    if (!worker.killed_because.empty()) absl::StrAppend(&cause, " by its agent: ", worker.killed_because);
    const std::string words = os::TailOfFile(worker.log, 3, 400);
    if (exit->clean() && words.empty()) unlink(worker.log.c_str());
    if (!exit->clean() && !words.empty()) {
      absl::StrAppend(&cause, "; last words: ", absl::StrReplaceAll(words, {{"\n", " | "}}));
    }
    const bool clean = exit->clean() && worker.killed_because.empty();
    spdlog::log(clean ? spdlog::level::info : spdlog::level::warn,
                "supervisor: event=worker-ended worker={} cause=\"{}\"", worker.id, cause);
    WorkerExited exited{.worker = worker.id, .clean = clean, .cause = std::move(cause)};
    CloseChannel(worker);
    waits_.Remove(worker.process.pidfd);
    workers_.erase(worker.id);
    sink_(std::move(exited));
  }

  void BoundLog(const Worker& worker) const {
    const absl::Status status = os::RotateByCopy(worker.log, options_.log_max_bytes, 1);
    if (!status.ok()) spdlog::warn("supervisor: event=log-not-rotated reason=\"{}\"", std::string(status.message()));
  }

  // Removes the oldest logs when there are too many, those of running workers excepted.
  void PruneLogs() const {
    std::vector<std::pair<std::filesystem::file_time_type, std::filesystem::path>> logs;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(options_.log_folder, error)) {
      const std::string path = entry.path().string();
      const bool running = std::any_of(workers_.begin(), workers_.end(),
                                       [&](const auto& item) { return path.starts_with(item.second.log); });
      if (!running) logs.emplace_back(entry.last_write_time(error), entry.path());
    }
    if (logs.size() <= options_.logs_kept) return;
    std::sort(logs.begin(), logs.end());
    logs.resize(logs.size() - options_.logs_kept);
    for (const auto& [time, path] : logs) std::filesystem::remove(path, error);
  }

  const Options options_;
  const Sink sink_;
  os::WaitSet waits_;  // but for Wake, the thread's own
  os::OrderQueue<Order> orders_{&waits_};
  // The thread's own.
  std::map<WorkerId, Worker> workers_;
  bool stopping_ = false;
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<Supervisor>> Supervisor::Create(Options options, Sink sink) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(sink));
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::unique_ptr<Supervisor>(new Supervisor(std::move(impl)));
}

Supervisor::Supervisor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Supervisor::~Supervisor() = default;

void Supervisor::Spawn(WorkerId worker) { impl_->Post(Impl::SpawnOne{worker}); }
void Supervisor::Kill(WorkerId worker) { impl_->Post(Impl::KillOne{worker}); }

void Supervisor::Send(WorkerId worker, const v1::AgentToWorker& message) {
  Impl::SendOne order{.worker = worker, .frame = {}};
  AppendFrame(message.SerializeAsString(), &order.frame);
  impl_->Post(std::move(order));
}

}  // namespace loadstar::agent
