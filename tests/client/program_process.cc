#include "tests/client/program_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

namespace loadstar::client {
namespace {

void Check(bool ok, const char* what) {
  if (!ok) {
    std::perror(what);
    std::abort();
  }
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) {
    pointers.push_back(text.data());
  }
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

ProgramProcess::ProgramProcess(const Options& options) {
  std::vector<std::string> arguments = {options.program};
  arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
  std::vector<std::string> environment = options.environment;
  for (const std::string& standard : {std::string("PATH=/usr/bin:/bin"), std::string("HOME=/nonexistent"),
                                      std::string("TERM=dumb"), std::string("TZ=UTC")}) {
    bool given = false;
    for (const std::string& entry : options.environment) {
      given = given || entry.substr(0, entry.find('=')) == standard.substr(0, standard.find('='));
    }
    if (!given) {
      environment.push_back(standard);
    }
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  if (!options.folder.empty()) {
    posix_spawn_file_actions_addchdir_np(&actions, options.folder.c_str());
  }
  int out[2] = {-1, -1};
  int err[2] = {-1, -1};
  std::string slave;
  if (options.columns > 0) {
    terminal_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    Check(terminal_ >= 0 && grantpt(terminal_) == 0 && unlockpt(terminal_) == 0, "pty");
    char name[128];
    Check(ptsname_r(terminal_, name, sizeof(name)) == 0, "ptsname");
    slave = name;
    const winsize size = {options.rows, options.columns, 0, 0};
    Check(ioctl(terminal_, TIOCSWINSZ, &size) == 0, "TIOCSWINSZ");
    // In a session of its own the terminal that is opened first becomes the controlling one.
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    posix_spawn_file_actions_addopen(&actions, 0, slave.c_str(), O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, 0, 1);
    posix_spawn_file_actions_adddup2(&actions, 0, 2);
  } else {
    Check(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0, "pipe");
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  }
  const int result = posix_spawn(&pid_, options.program.c_str(), &actions, &attributes, Pointers(arguments).data(),
                                 Pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  errno = result;
  Check(result == 0, options.program.c_str());
  if (options.columns > 0) {
    open_ = 1;
    readers_.emplace_back([this] { ReadAll(terminal_, &out_); });
  } else {
    close(out[1]);
    close(err[1]);
    open_ = 2;
    readers_.emplace_back([this, fd = out[0]] { ReadAll(fd, &out_); });
    readers_.emplace_back([this, fd = err[0]] { ReadAll(fd, &err_); });
  }
}

ProgramProcess::~ProgramProcess() {
  if (!waited_) {
    kill(pid_, SIGKILL);
    Wait();
  }
  for (std::thread& reader : readers_) {
    reader.join();
  }
}

void ProgramProcess::ReadAll(int fd, std::string* into) {
  char buffer[4096];
  ssize_t count = 0;
  // A terminal whose other side was closed reads as EIO.
  while ((count = read(fd, buffer, sizeof(buffer))) > 0) {
    const std::lock_guard lock(mutex_);
    into->append(buffer, static_cast<size_t>(count));
  }
  close(fd);
  const std::lock_guard lock(mutex_);
  --open_;
}

std::string ProgramProcess::out() {
  const std::lock_guard lock(mutex_);
  return out_;
}

std::string ProgramProcess::err() {
  const std::lock_guard lock(mutex_);
  return err_;
}

bool ProgramProcess::WaitUntil(const std::function<bool()>& done) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (std::chrono::steady_clock::now() < limit) {
    bool ended = false;
    {
      const std::lock_guard lock(mutex_);
      ended = open_ == 0;
    }
    if (done()) {
      return true;
    }
    if (ended) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

bool ProgramProcess::WaitForOut(const std::function<bool(const std::string&)>& done) {
  return WaitUntil([&] { return done(out()); });
}

bool ProgramProcess::WaitForOut(const std::string& text) {
  return WaitUntil([&] { return out().find(text) != std::string::npos; });
}

bool ProgramProcess::WaitForErr(const std::string& text) {
  return WaitUntil([&] { return err().find(text) != std::string::npos; });
}

void ProgramProcess::Signal(int signal) { kill(pid_, signal); }

void ProgramProcess::Resize(unsigned short columns, unsigned short rows) {
  const winsize size = {rows, columns, 0, 0};
  Check(ioctl(terminal_, TIOCSWINSZ, &size) == 0, "TIOCSWINSZ");
}

int ProgramProcess::Wait() {
  if (waited_) {
    return exit_code_;
  }
  waited_ = true;
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  int status = 0;
  bool killed = false;
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (!killed && std::chrono::steady_clock::now() > limit) {
      kill(pid_, SIGKILL);
      killed = true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  exit_code_ = killed ? -1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  // Everything it wrote is in when its ends of the pipes are closed.
  WaitUntil([this] {
    const std::lock_guard lock(mutex_);
    return open_ == 0;
  });
  return exit_code_;
}

Ended RunProgram(const std::vector<std::string>& arguments, const std::vector<std::string>& environment,
                 const std::string& folder) {
  ProgramProcess::Options options;
  options.arguments = arguments;
  options.environment = environment;
  options.folder = folder;
  ProgramProcess process(options);
  const int code = process.Wait();
  return {code, process.out(), process.err()};
}

TemporaryFolder::TemporaryFolder() {
  std::string path = (std::filesystem::temp_directory_path() / "loadstar-client-XXXXXX").string();
  Check(mkdtemp(path.data()) != nullptr, "mkdtemp");
  path_ = path;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::Write(const std::string& name, const std::string& content) const {
  const std::filesystem::path path = std::filesystem::path(path_) / name;
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
  return path.string();
}

std::string TemporaryFolder::Read(const std::string& name) const {
  std::ostringstream text;
  text << std::ifstream(std::filesystem::path(path_) / name, std::ios::binary).rdbuf();
  return text.str();
}

}  // namespace loadstar::client
