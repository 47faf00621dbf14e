#include "agent/tuner/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "lib/os/clock.h"
#include "lib/os/fd.h"
#include "lib/os/subprocess.h"

namespace loadstar::agent {
namespace {

constexpr size_t kMostOutput = size_t{64} * 1024;
constexpr const char* kFolders[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};
constexpr char kPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

absl::StatusOr<std::string> Resolve(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  for (const char* folder : kFolders) {
    std::string path = absl::StrCat(folder, "/", program);
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return absl::NotFoundError(absl::StrCat("there is no ", program, " on this host"));
}

// What is there now. False at the end.
bool Drain(const os::Fd& pipe, std::string* output) {
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(pipe.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 && errno == EAGAIN;
    output->append(buffer, std::min(static_cast<size_t>(got), kMostOutput - output->size()));
  }
}

absl::StatusOr<CommandResult> Run(const std::vector<std::string>& command, std::chrono::seconds limit) {
  const absl::StatusOr<std::string> program = Resolve(command.at(0));
  if (!program.ok()) return program.status();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
  os::Fd reader(ends[0]);
  os::Fd writer(ends[1]);
  // The child's end waits as any other file does: programs do not expect EAGAIN of their output.
  if (fcntl(writer.get(), F_SETFL, 0) != 0) return absl::ErrnoToStatus(errno, "cannot set up a pipe");
  absl::StatusOr<os::Child> child = os::Spawn({.program = *program,
                                               .arguments = {command.begin() + 1, command.end()},
                                               .environment = {kPath, "LC_ALL=C"},
                                               .stdout_fd = writer.get(),
                                               .stderr_fd = writer.get()});
  if (!child.ok()) return child.status();
  writer.Reset();

  const int64_t until_ns = os::MonotonicNs() + std::chrono::nanoseconds(limit).count();
  CommandResult result;
  bool open = true;
  // Its end counts and not that of its output: what it leaves running may keep that open for ever.
  for (std::optional<os::Exit> exit;;) {
    if (open) open = Drain(reader, &result.output);
    if (exit.has_value()) {
      result.code = exit->kind == os::Exit::Kind::kCode ? exit->number : 128 + exit->number;
      return result;
    }
    const int64_t left_ms = (until_ns - os::MonotonicNs()) / 1'000'000;
    if (left_ms <= 0) {
      kill(-child->pid, SIGKILL);
      pollfd ended{.fd = child->pidfd.get(), .events = POLLIN, .revents = 0};
      poll(&ended, 1, 1000);
      (void)os::PollExit(child->pidfd, true);
      return absl::DeadlineExceededError(
          absl::StrCat(command[0], " took longer than ", limit.count(), " s and was killed"));
    }
    pollfd waits[2] = {{.fd = child->pidfd.get(), .events = POLLIN, .revents = 0},
                       {.fd = open ? reader.get() : -1, .events = POLLIN, .revents = 0}};
    poll(waits, 2, static_cast<int>(std::min<int64_t>(left_ms, 60'000)));
    exit = os::PollExit(child->pidfd, true);
  }
}

}  // namespace

std::string OneLine(const std::string& output) {
  std::string line(absl::StripAsciiWhitespace(output));
  for (char& c : line) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c)))
      c = absl::ascii_isspace(static_cast<unsigned char>(c)) ? ' ' : '?';
  }
  return line.size() > 500 ? line.substr(0, 500) + "..." : line;
}

CommandRunner MakeCommandRunner(std::chrono::seconds limit) {
  return [limit](const std::vector<std::string>& command) { return Run(command, limit); };
}

}  // namespace loadstar::agent
