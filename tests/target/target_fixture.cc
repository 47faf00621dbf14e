#include "tests/target/target_fixture.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "lib/os/proc.h"

namespace loadstar::target {
namespace {

int64_t Now_ms() { return net::Loop::ReadClock() / 1'000'000; }

// The value of key=value in a log line.
std::string Field(const std::string& log, const std::string& key) {
  const size_t start = log.find(" " + key + "=");
  if (start == std::string::npos) {
    return "";
  }
  const size_t value = start + key.size() + 2;
  return log.substr(value, log.find_first_of(" \n", value) - value);
}

}  // namespace

bool Eventually(const std::function<bool()>& done) {
  for (const int64_t deadline_ms = Now_ms() + kPatience_ms; Now_ms() < deadline_ms; usleep(5000)) {
    if (done()) {
      return true;
    }
  }
  return done();
}

bool Gone(pid_t pid) {
  const absl::StatusOr<os::ProcessStat> stat = os::Proc().Stat(pid);
  return !stat.ok() || stat->state == 'Z' || stat->state == 'X';
}

Client::Client(const std::string& address) {
  const absl::StatusOr<net::Address> peer = net::ParseAddress(address);
  if (!peer.ok()) {
    connect_error_ = EINVAL;
    return;
  }
  fd_.Reset(socket(peer->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{.tv_sec = kPatience_ms / 1000, .tv_usec = 0};
  setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (connect(fd_.get(), reinterpret_cast<const sockaddr*>(&peer->storage), peer->length) != 0) {
    connect_error_ = errno;
  }
}

bool Client::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) {
      return false;
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::optional<std::string> Client::ReadLine() {
  size_t end = 0;
  while ((end = buffer_.find('\n')) == std::string::npos) {
    char bytes[65536];
    const ssize_t n = recv(fd_.get(), bytes, sizeof(bytes), 0);
    if (n <= 0) {
      return std::nullopt;
    }
    buffer_.append(bytes, static_cast<size_t>(n));
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 1);
  return line;
}

std::string Client::Read(size_t size) {
  while (buffer_.size() < size) {
    char bytes[65536];
    const ssize_t n = recv(fd_.get(), bytes, sizeof(bytes), 0);
    if (n <= 0) {
      break;
    }
    buffer_.append(bytes, static_cast<size_t>(n));
  }
  std::string taken = buffer_.substr(0, size);
  buffer_.erase(0, taken.size());
  return taken;
}

bool Client::Ended() {
  char byte = 0;
  const ssize_t n = recv(fd_.get(), &byte, 1, 0);
  return buffer_.empty() && (n == 0 || (n < 0 && errno == ECONNRESET));
}

HttpAnswer Http(const std::string& address, const std::string& method, const std::string& path,
                const std::string& body) {
  Client client(address);
  client.Send(method + " " + path + " HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n" + body);
  const std::string answer = client.Read(SIZE_MAX);
  const size_t head_end = answer.find("\r\n\r\n");
  if (!answer.starts_with("HTTP/1.1 ") || head_end == std::string::npos) {
    return {};
  }
  return {std::atoi(answer.c_str() + 9), answer.substr(head_end + 4)};
}

std::unique_ptr<Target> Target::Start(std::vector<std::string> arguments, int descriptors) {
  auto target = std::unique_ptr<Target>(new Target());
  for (const char* flag : {"--listen", "--api"}) {
    if (std::find(arguments.begin(), arguments.end(), flag) == arguments.end()) {
      arguments.insert(arguments.end(), {flag, "127.0.0.1:0"});
    }
  }
  if (!target->Spawn(arguments, descriptors) || !target->ReadLog("event=ready")) {
    ADD_FAILURE() << "the target did not come up: " << target->log_;
    return nullptr;
  }
  target->listen_ = Field(target->log_, "listen");
  target->api_ = Field(target->log_, "api");
  return target;
}

Ended Target::RunToEnd(const std::vector<std::string>& arguments) {
  Target target;
  EXPECT_TRUE(target.Spawn(arguments, 0));
  const std::optional<os::Exit> exit = target.WaitForEnd();
  target.ReadLog("");
  return {exit.value_or(os::Exit{}), target.log_};
}

bool Target::Spawn(const std::vector<std::string>& arguments, int descriptors) {
  int log[2];
  if (pipe2(log, O_CLOEXEC) != 0) {
    return false;
  }
  log_fd_.Reset(log[0]);
  const os::Fd theirs(log[1]);
  const std::string program = std::string(LOADSTAR_BIN_DIR) + "/loadstar-target";
  os::SpawnOptions options{.program = program, .arguments = arguments, .stderr_fd = theirs.get()};
  if (descriptors > 0) {
    const std::string limit = std::to_string(descriptors);
    options.program = "/usr/bin/prlimit";
    options.arguments.insert(options.arguments.begin(), {"--nofile=" + limit + ":" + limit, program});
  }
  for (const char* name : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"}) {
    if (const char* value = std::getenv(name)) {  // NOLINT(concurrency-mt-unsafe): nobody changes the environment
      options.environment.push_back(std::string(name) + "=" + value);
    }
  }
  absl::StatusOr<os::Child> child = os::Spawn(options);
  if (!child.ok()) {
    ADD_FAILURE() << child.status();
    return false;
  }
  child_ = std::move(*child);
  return true;
}

bool Target::ReadLog(const std::string& text) {
  const int64_t deadline_ms = Now_ms() + kPatience_ms;
  while (text.empty() || log_.find(text) == std::string::npos || log_.back() != '\n') {
    pollfd readable{.fd = log_fd_.get(), .events = POLLIN, .revents = 0};
    const int64_t rest_ms = deadline_ms - Now_ms();
    char bytes[4096];
    if (rest_ms <= 0 || poll(&readable, 1, static_cast<int>(rest_ms)) <= 0) {
      return false;
    }
    const ssize_t n = read(log_fd_.get(), bytes, sizeof(bytes));
    if (n <= 0) {
      return false;
    }
    log_.append(bytes, static_cast<size_t>(n));
  }
  return true;
}

void Target::Fault(const std::string& body) const {
  const HttpAnswer answer = Post("/fault", body);
  EXPECT_EQ(answer.status, 200) << answer.body;
}

std::vector<pid_t> Target::Pids() const {
  const HttpAnswer health = Get("/health");
  const nlohmann::json document = nlohmann::json::parse(health.body, nullptr, false);
  return document.is_object() ? document.at("pids").get<std::vector<pid_t>>() : std::vector<pid_t>();
}

double Target::Sample(const std::string& series) const {
  const std::string text = "\n" + Get("/metrics").body;
  const size_t start = text.find("\n" + series + " ");
  return start == std::string::npos ? -1 : std::strtod(text.c_str() + start + series.size() + 2, nullptr);
}

void Target::Signal(int signal) const { os::SendSignal(child_.pidfd, signal); }

std::optional<os::Exit> Target::WaitForEnd() {
  pollfd over{.fd = child_.pidfd.get(), .events = POLLIN, .revents = 0};
  if (poll(&over, 1, kPatience_ms) <= 0) {
    return std::nullopt;
  }
  ended_ = true;
  return os::PollExit(child_.pidfd, /*reap=*/true);
}

Target::~Target() {
  if (child_.pid > 0 && !ended_) {
    Signal(SIGKILL);  // its serving processes die with it
    WaitForEnd();
  }
}

}  // namespace loadstar::target
