#include "target/supervisor.h"

#include <signal.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/net/loop.h"

namespace loadstar::target {
namespace {

constexpr int64_t kSecond_ns = 1'000'000'000;
constexpr int64_t kStartDeadline_ns = 10 * kSecond_ns;
constexpr int64_t kStopDeadline_ns = 600'000'000;
constexpr int64_t kFirstPause_ns = 50'000'000;
constexpr int64_t kLongestPause_ns = 2 * kSecond_ns;
// A process that lived this long did not die of its start: the pause begins anew.
constexpr int64_t kLivedWell_ns = 10 * kSecond_ns;
constexpr int64_t kPoll_ns = 2'000'000;

sigset_t OurSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGCHLD);
  return set;
}

// Waits for one of our signals; 0 when none came in time.
int WaitForSignal(int64_t wait_ns) {
  const sigset_t set = OurSignals();
  const int64_t bounded_ns = std::clamp<int64_t>(wait_ns, 0, 3600 * kSecond_ns);
  const timespec wait{.tv_sec = bounded_ns / kSecond_ns, .tv_nsec = bounded_ns % kSecond_ns};
  return std::max(sigtimedwait(&set, nullptr, &wait), 0);
}

double CpuSeconds(const rusage& usage) {
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// posix_spawn's two option objects, freed together.
struct SpawnOptions {
  SpawnOptions() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnOptions() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnOptions(const SpawnOptions&) = delete;
  SpawnOptions& operator=(const SpawnOptions&) = delete;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

std::string Cause(int status) {
  return WIFSIGNALED(status) ? absl::StrCat("signal ", WTERMSIG(status)) : absl::StrCat("exit ", WEXITSTATUS(status));
}

}  // namespace

Supervisor::Supervisor(Options options, const SharedState* state)
    : options_(std::move(options)), state_(state), places_(options_.processes) {}

Supervisor::~Supervisor() { Stop(); }

absl::Status Supervisor::Spawn(uint32_t index) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make a control channel");
  }
  os::Fd ours(pair[0]);
  const os::Fd theirs(pair[1]);
  std::vector<std::string> words =
      ServingCommandLine(options_, {.index = index, .state_fd = state_->fd(), .control_fd = theirs.get()});
  words.insert(words.begin(), "loadstar-target");
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);

  SpawnOptions spawn;
  // Duplicating a descriptor onto itself is how posix_spawn is told to let it through the exec.
  posix_spawn_file_actions_adddup2(&spawn.actions, state_->fd(), state_->fd());
  posix_spawn_file_actions_adddup2(&spawn.actions, theirs.get(), theirs.get());
  sigset_t none;
  sigemptyset(&none);
  sigset_t defaults = OurSignals();
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigmask(&spawn.attributes, &none);
  posix_spawnattr_setsigdefault(&spawn.attributes, &defaults);
  posix_spawnattr_setflags(&spawn.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  state_->process(index).state.store(ServingState::kStarting);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, "/proc/self/exe", &spawn.actions, &spawn.attributes, argv.data(), environ);
  if (error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot start serving process ", index));
  }
  const absl::MutexLock lock(&mutex_);
  Place& place = places_[index];
  place.pid = pid;
  place.control = std::move(ours);
  place.started_ns = net::Loop::ReadClock();
  place.restart_ns = INT64_MAX;
  state_->process(index).pid.store(pid);
  return absl::OkStatus();
}

absl::Status Supervisor::Start() {
  for (uint32_t i = 0; i < options_.processes; ++i) {
    if (absl::Status spawned = Spawn(i); !spawned.ok()) {
      Stop();
      return spawned;
    }
  }
  const int64_t deadline_ns = net::Loop::ReadClock() + kStartDeadline_ns;
  while (!AllServing()) {
    const int signal = WaitForSignal(kPoll_ns);
    const bool ended = Reap();
    if (ended || signal == SIGTERM || signal == SIGINT || net::Loop::ReadClock() > deadline_ns) {
      Stop();
      return absl::UnavailableError(ended ? "a serving process ended at its start; its own log line says why"
                                          : "the serving processes did not come up in time");
    }
  }
  return absl::OkStatus();
}

bool Supervisor::AllServing() const {
  for (uint32_t i = 0; i < options_.processes; ++i) {
    if (state_->process(i).state.load() != ServingState::kServing) {
      return false;
    }
  }
  return true;
}

bool Supervisor::Reap() {
  bool ended = false;
  for (uint32_t i = 0; i < places_.size(); ++i) {
    Place& place = places_[i];
    int status = 0;
    rusage usage{};
    const absl::MutexLock lock(&mutex_);  // over the wait: Usage must see the process or its sum, never both or none
    if (place.pid == 0 || wait4(place.pid, &status, WNOHANG, &usage) != place.pid) {
      continue;
    }
    ended = true;
    const int64_t now_ns = net::Loop::ReadClock();
    const bool lived_well = now_ns - place.started_ns > kLivedWell_ns;
    place.pause_ns = lived_well ? kFirstPause_ns : std::clamp(place.pause_ns * 2, kFirstPause_ns, kLongestPause_ns);
    place.restart_ns = now_ns + place.pause_ns;
    place.cpu_seconds_gone += CpuSeconds(usage);
    if (!stopping_) {
      spdlog::warn("target: event=process_ended process={} pid={} cause=\"{}\" restart_in_ms={}", i, place.pid,
                   Cause(status), place.pause_ns / 1'000'000);
    }
    place.pid = 0;
    place.control.Reset();
    ProcessCells& cells = state_->process(i);
    cells.pid.store(0);
    cells.connections.Set(0);
  }
  return ended;
}

int64_t Supervisor::RestartDue() {
  const int64_t now_ns = net::Loop::ReadClock();
  int64_t next_ns = INT64_MAX;
  for (uint32_t i = 0; i < places_.size(); ++i) {
    Place& place = places_[i];
    if (place.restart_ns <= now_ns) {
      state_->process(i).restarts.Add(1);
      if (const absl::Status spawned = Spawn(i); spawned.ok()) {
        spdlog::info("target: event=process_restarted process={} pid={}", i, place.pid);
      } else {
        spdlog::error("target: event=restart_failed process={} error=\"{}\"", i, spawned.ToString());
        place.restart_ns = now_ns + kLongestPause_ns;
      }
    }
    next_ns = std::min(next_ns, place.restart_ns);
  }
  return next_ns;
}

int Supervisor::Run() {
  for (;;) {
    const int64_t next_ns = RestartDue();
    const int signal = WaitForSignal(next_ns == INT64_MAX ? INT64_MAX : next_ns - net::Loop::ReadClock());
    if (signal == SIGTERM || signal == SIGINT) {
      return signal;
    }
    Reap();
  }
}

void Supervisor::Stop() {
  const auto signal_all = [this](int signal) {
    for (const Place& place : places_) {
      if (place.pid != 0) {
        kill(place.pid, signal);
      }
    }
  };
  const auto any_left = [this] {
    return std::any_of(places_.begin(), places_.end(), [](const Place& place) { return place.pid != 0; });
  };
  stopping_ = true;
  {
    const absl::MutexLock lock(&mutex_);
    for (Place& place : places_) {
      place.control.Reset();
    }
  }
  signal_all(SIGTERM);
  signal_all(SIGCONT);  // a stopped process would not see the other
  const int64_t deadline_ns = net::Loop::ReadClock() + kStopDeadline_ns;
  Reap();
  while (any_left() && net::Loop::ReadClock() < deadline_ns) {
    WaitForSignal(std::min(deadline_ns - net::Loop::ReadClock(), kPoll_ns * 10));
    Reap();
  }
  signal_all(SIGKILL);
  for (Place& place : places_) {
    if (place.pid != 0) {
      waitpid(place.pid, nullptr, 0);
      const absl::MutexLock lock(&mutex_);
      place.pid = 0;
    }
    place.restart_ns = INT64_MAX;
  }
}

void Supervisor::AnnounceFaults() {
  const absl::MutexLock lock(&mutex_);
  for (const Place& place : places_) {
    if (place.control) {
      // A full channel means that an earlier announcement has not been read yet: it will do for this one, too.
      (void)send(place.control.get(), "f", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
  }
}

ProcessUsage Supervisor::Usage(uint32_t index) const {
  const absl::MutexLock lock(&mutex_);
  const Place& place = places_[index];
  ProcessUsage usage;
  if (place.pid != 0) {
    usage = ReadUsage(place.pid).value_or(ProcessUsage{});
  }
  usage.cpu_seconds += place.cpu_seconds_gone;
  return usage;
}

}  // namespace loadstar::target
