// A real loadstar-worker at the other end of a socket pair, as an agent has it.
#pragma once

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "agent/worker/control.h"
#include "lib/net/loop.h"
#include "loadstar/v1/worker.pb.h"

namespace loadstar::worker {

// Starts a program (argv[0] is its path) that inherits `inherited_fd` (or -1). In the child nothing but system calls
// happens before exec. `descriptors` > 0 limits its descriptors. -1 when it cannot be started.
inline pid_t StartProgram(const std::vector<std::string>& argv, int inherited_fd, rlim_t descriptors = 0) {
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  if (inherited_fd >= 0) (void)dup2(inherited_fd, 3);
  if (descriptors > 0) {
    const rlimit limit{descriptors, descriptors};
    (void)setrlimit(RLIMIT_NOFILE, &limit);
  }
  execv(arguments[0], arguments.data());
  _exit(127);
}

// Waits for a child to end; its wait status, or nullopt after the time.
inline std::optional<int> WaitFor(pid_t pid, std::chrono::milliseconds longest) {
  const auto until = std::chrono::steady_clock::now() + longest;
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) != pid) {
    if (std::chrono::steady_clock::now() > until) return std::nullopt;
    poll(nullptr, 0, 2);
  }
  return status;
}

class WorkerProcess {
 public:
  explicit WorkerProcess(const std::string& program, rlim_t descriptors = 0, const std::string& backend = "auto") {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return;
    fd_ = ends[0];
    pid_ = StartProgram({program, "--control-fd", "3", "--backend", backend}, ends[1], descriptors);
    close(ends[1]);
  }
  ~WorkerProcess() {
    CloseChannel();
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  pid_t pid() const { return pid_; }
  int fd() const { return fd_; }
  void CloseChannel() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  bool SendRaw(const std::string& bytes) const {
    return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  bool Send(const v1::AgentToWorker& message) const { return SendRaw(Frame(message)); }
  bool SendPlan(const v1::WorkerPlan& plan) const {
    v1::AgentToWorker message;
    *message.mutable_plan() = plan;
    return Send(message);
  }
  bool SendStart(int64_t start_ns) const {
    v1::AgentToWorker message;
    message.mutable_start()->set_start_monotonic_ns(start_ns);
    return Send(message);
  }

  // The next message; nullopt after the time, or when the channel has ended.
  std::optional<v1::WorkerToAgent> Next(std::chrono::milliseconds longest) {
    const auto until = std::chrono::steady_clock::now() + longest;
    for (;;) {
      if (std::optional<v1::WorkerToAgent> message = Cut(); message.has_value()) return message;
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
      pollfd waiting{fd_, POLLIN, 0};
      if (left.count() <= 0 || poll(&waiting, 1, static_cast<int>(left.count())) <= 0) return std::nullopt;
      char bytes[65536];
      const ssize_t n = recv(fd_, bytes, sizeof(bytes), 0);
      if (n <= 0) return std::nullopt;
      buffer_.append(bytes, static_cast<size_t>(n));
    }
  }

  // Waits for the process to end; its wait status, or nullopt after the time.
  std::optional<int> Wait(std::chrono::milliseconds longest) {
    const std::optional<int> status = WaitFor(pid_, longest);
    if (status.has_value()) pid_ = -1;
    return status;
  }

 private:
  std::optional<v1::WorkerToAgent> Cut() {
    if (buffer_.size() < 4) return std::nullopt;
    size_t length = 0;
    for (size_t i = 0; i < 4; ++i) length = length << 8 | static_cast<unsigned char>(buffer_[i]);
    if (buffer_.size() < 4 + length) return std::nullopt;
    v1::WorkerToAgent message;
    if (!message.ParseFromArray(buffer_.data() + 4, static_cast<int>(length))) return std::nullopt;
    buffer_.erase(0, 4 + length);
    return message;
  }

  pid_t pid_ = -1;
  int fd_ = -1;
  std::string buffer_;
};

}  // namespace loadstar::worker
