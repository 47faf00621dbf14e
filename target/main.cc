// loadstar-target: a node to test against. The parent supervises and answers the API; the processes it starts serve.
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "lib/os/limits.h"
#include "target/api.h"
#include "target/options.h"
#include "target/reservation.h"
#include "target/serving_process.h"
#include "target/shared_state.h"
#include "target/supervisor.h"

namespace loadstar::target {
namespace {

constexpr int kApiPatience_ms = 200;

void StartLog(const std::string& level) {
  auto logger = spdlog::stderr_logger_mt("target");
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e level=%l %v");
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

int Fail(int code, const absl::Status& status) {
  std::fprintf(stderr, "loadstar-target: %s\n", std::string(status.message()).c_str());
  return code;
}

int RunParent(Options options) {
  absl::StatusOr<os::DescriptorLimit> limit = os::RaiseDescriptorLimit();
  absl::StatusOr<Reservation> reservation = Reserve(options.listen_address);
  if (!reservation.ok()) {
    return Fail(kExitFailed, reservation.status());
  }
  options.listen_address = reservation->address;
  absl::StatusOr<std::unique_ptr<Api>> api = Api::Bind(options.api_address);
  if (!api.ok()) {
    return Fail(kExitFailed, api.status());
  }
  options.api_address = (*api)->address();
  absl::StatusOr<SharedState> state = SharedState::Create(options.processes);
  if (!state.ok()) {
    return Fail(kExitFailed, state.status());
  }

  // Before any thread exists, so that all of them inherit it and the signals wait for the supervisor.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGCHLD);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  Supervisor supervisor(options, &*state);
  if (const absl::Status started = supervisor.Start(); !started.ok()) {
    return Fail(kExitFailed, started);
  }
  (*api)->Start(&options, &*state, &supervisor);
  spdlog::info("target: event=ready name={} role={} listen={} api={} processes={} pid={} descriptors={}", options.name,
               options.role, net::ToString(options.listen_address), net::ToString(options.api_address),
               options.processes, getpid(), limit.ok() ? limit->soft : 0);
  const int stopped_by = supervisor.Run();
  spdlog::info("target: event=stopping signal={}", stopped_by);
  supervisor.Stop();
  if (!(*api)->Stop(kApiPatience_ms)) {
    std::_Exit(kExitOk);  // a client that dawdles over its request must not hold the end up
  }
  return kExitOk;
}

int Main(int argc, const char* const* argv) {
  std::variant<Options, int> parsed = ParseCommandLine(argc, argv);
  if (const int* code = std::get_if<int>(&parsed)) {
    return *code;
  }
  Options options = std::get<Options>(std::move(parsed));
  if (const absl::Status checked = Check(&options); !checked.ok()) {
    return Fail(kExitBadInput, checked);
  }
  StartLog(options.log_level);
  return options.serving ? RunServingProcess(options) : RunParent(std::move(options));
}

}  // namespace
}  // namespace loadstar::target

int main(int argc, char** argv) { return loadstar::target::Main(argc, argv); }
