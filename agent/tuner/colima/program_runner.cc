#include "agent/tuner/colima/program_runner.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lib/os/clock.h"
#include "lib/os/fd.h"

namespace loadstar::agent {
namespace {

constexpr size_t kMostOutput = 1U << 20;
constexpr size_t kMostErrors = 16U << 10;
constexpr int kGrace_ms = 10'000;

// The signals that end this process, held back for as long as it lives and told by a descriptor instead.
class HeldSignals {
 public:
  HeldSignals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
    pthread_sigmask(SIG_BLOCK, &set, &before_);
    fd_.Reset(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;
  ~HeldSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  int fd() const { return fd_.get(); }
  // Takes those that have come, so that they do not end the process afterwards.
  bool Take() {
    bool any = false;
    signalfd_siginfo info;
    while (fd_ && read(fd_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) any = true;
    return any;
  }

 private:
  sigset_t before_{};
  os::Fd fd_;
};

// What a child writes to one descriptor.
class Stream {
 public:
  absl::Status Open() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "a pipe");
    read_.Reset(ends[0]);
    write_.Reset(ends[1]);
    fcntl(read_.get(), F_SETFL, O_NONBLOCK);
    return absl::OkStatus();
  }
  int child_end() const { return write_.get(); }
  void CloseChildEnd() { write_.Reset(); }
  int fd() const { return read_.get(); }

  // Reads what is there, without waiting. What is read for good is no longer polled.
  void Drain(bool show) {
    char piece[4096];
    while (read_) {
      const ssize_t got = read(read_.get(), piece, sizeof piece);
      if (got < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN) return;
      }
      if (got <= 0) return read_.Reset();
      const auto length = static_cast<size_t>(got);
      text_.append(piece, length);
      // A terminal that went away is no reason to stop.
      if (show && write(STDERR_FILENO, piece, length) < 0) show = false;
      if (text_.size() > kMostOutput) return;
    }
  }
  std::string& text() { return text_; }

 private:
  os::Fd read_;
  os::Fd write_;
  std::string text_;
};

bool Readable(int fd) {
  pollfd poller{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&poller, 1, 0) == 1;
}

bool WaitFor(const os::Fd& pidfd, int ms) {
  pollfd poller{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  const int64_t until_ns = os::MonotonicNs() + int64_t{ms} * 1'000'000;
  while (true) {
    const int64_t left_ms = (until_ns - os::MonotonicNs()) / 1'000'000;
    if (poll(&poller, 1, static_cast<int>(std::max<int64_t>(left_ms, 0))) == 1) return true;
    if (left_ms <= 0) return false;
  }
}

// Ends the child and its group. The child is reaped last, so that its group's number stays its own until then.
void End(const os::Child& child) {
  kill(-child.pid, SIGTERM);
  WaitFor(child.pidfd, kGrace_ms);
  kill(-child.pid, SIGKILL);
  WaitFor(child.pidfd, kGrace_ms);
  os::PollExit(child.pidfd, /*reap=*/true);
}

class Runner final : public ProgramRunner {
 public:
  Runner(std::vector<std::string> environment, int stop_fd) : environment_(std::move(environment)), stop_fd_(stop_fd) {}

  absl::StatusOr<std::string> Find(const std::string& name) override {
    constexpr std::string_view kPath = "PATH=";
    for (const std::string& variable : environment_) {
      if (!variable.starts_with(kPath)) continue;
      std::string_view rest = std::string_view(variable).substr(kPath.size());
      while (!rest.empty()) {
        const std::string_view folder = rest.substr(0, rest.find(':'));
        rest.remove_prefix(std::min(folder.size() + 1, rest.size()));
        // What is found relative to the current folder may be anybody's.
        if (!folder.starts_with('/')) continue;
        std::string path = absl::StrCat(std::string(folder), "/", name);
        struct stat facts {};
        if (stat(path.c_str(), &facts) == 0 && S_ISREG(facts.st_mode) && access(path.c_str(), X_OK) == 0) return path;
      }
    }
    return absl::NotFoundError(absl::StrCat(name, " is not in PATH"));
  }

  absl::StatusOr<ProgramResult> Run(const ProgramCall& call) override {
    std::optional<HeldSignals> signals;
    if (stop_fd_ < 0) signals.emplace();
    const int ending_fd = signals.has_value() ? signals->fd() : stop_fd_;
    const auto to_end = [&] { return signals.has_value() ? signals->Take() : Readable(stop_fd_); };
    if (to_end()) return absl::CancelledError(absl::StrCat("interrupted before ", call.program, " was run"));
    Stream out;
    Stream err;
    for (Stream* stream : {&out, &err}) {
      if (absl::Status opened = stream->Open(); !opened.ok()) return opened;
    }
    absl::StatusOr<os::Child> child = os::Spawn({.program = call.program,
                                                 .arguments = call.arguments,
                                                 .environment = environment_,
                                                 .stdout_fd = out.child_end(),
                                                 .stderr_fd = err.child_end()});
    if (!child.ok()) return child.status();
    out.CloseChildEnd();
    err.CloseChildEnd();
    const int64_t deadline_ns = os::MonotonicNs() + absl::ToInt64Nanoseconds(call.patience);
    while (true) {
      pollfd pollers[] = {{.fd = child->pidfd.get(), .events = POLLIN, .revents = 0},
                          {.fd = out.fd(), .events = POLLIN, .revents = 0},
                          {.fd = err.fd(), .events = POLLIN, .revents = 0},
                          {.fd = ending_fd, .events = POLLIN, .revents = 0}};
      const int64_t left_ms = std::max<int64_t>((deadline_ns - os::MonotonicNs()) / 1'000'000, 0);
      poll(pollers, std::size(pollers), static_cast<int>(std::min<int64_t>(left_ms, 60'000)));
      const std::optional<os::Exit> exit = os::PollExit(child->pidfd, /*reap=*/false);
      // After the look at the child: what it wrote before it ended is then in the pipes.
      out.Drain(false);
      err.Drain(call.show_progress);
      if (out.text().size() > kMostOutput) {
        End(*child);
        return absl::ResourceExhaustedError(absl::StrCat(call.program, " printed more than 1 MiB, and was ended"));
      }
      if (err.text().size() > kMostErrors) err.text().erase(0, err.text().size() - kMostErrors);
      if (exit.has_value()) {
        os::PollExit(child->pidfd, /*reap=*/true);
        return ProgramResult{.exit = *exit, .out = std::move(out.text()), .err = std::move(err.text())};
      }
      if (to_end()) {
        End(*child);
        return absl::CancelledError(absl::StrCat("interrupted while ", call.program, " ran; it was ended"));
      }
      if (os::MonotonicNs() >= deadline_ns) {
        End(*child);
        return absl::DeadlineExceededError(
            absl::StrCat(call.program, " did not end within ", absl::FormatDuration(call.patience), ", and was ended"));
      }
    }
  }

 private:
  const std::vector<std::string> environment_;
  const int stop_fd_;
};

}  // namespace

std::unique_ptr<ProgramRunner> MakeProgramRunner(std::vector<std::string> environment, int stop_fd) {
  return std::make_unique<Runner>(std::move(environment), stop_fd);
}

}  // namespace loadstar::agent
