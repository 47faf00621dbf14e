// loadstar-coordinator: plans and records runs; agents dial in, clients ask.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "lib/os/limits.h"
#include "lib/os/stop_signals.h"
#include "lib/rpc/rpc.h"
#include "server/coordinator.h"

namespace {

// As all of Loadstar's programs: 2, the input is invalid, nothing was done; 4, it could not be carried out.
constexpr int kInvalid = 2;
constexpr int kNotCarriedOut = 4;

int Fail(int code, const absl::Status& status) {
  std::fprintf(stderr, "loadstar-coordinator: %s\n", std::string(status.message()).c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Loadstar's coordinator: plans runs, records what agents measure, serves the API (gRPC).",
               "loadstar-coordinator"};
  loadstar::server::Coordinator::Options options;
  options.listen = "127.0.0.1:7400";
  bool insecure = false;
  std::string log_level = "info";
  app.set_version_flag("--version", LOADSTAR_VERSION);
  app.add_option("--listen", options.listen, "Address to serve on: HOST:PORT, [V6]:PORT or unix:PATH")
      ->capture_default_str();
  app.add_option("--state", options.state_folder, "Folder of its database; created when missing")->required();
  int64_t keep_days = absl::ToInt64Hours(options.keep.age) / 24;
  app.add_option("--keep-runs", options.keep.runs, "Finished runs that are kept; beyond it the oldest are deleted")
      ->check(CLI::Range(int64_t{1}, int64_t{100'000}))
      ->capture_default_str();
  app.add_option("--keep-days", keep_days, "Finished runs older than this are deleted")
      ->check(CLI::Range(int64_t{1}, int64_t{36'500}))
      ->capture_default_str();
  app.add_flag("--insecure", insecure, "Serve beyond loopback without encryption or identity");
  app.add_option("--log-level", log_level, "trace, debug, info, warn, error or off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kInvalid;
  }
  options.keep.age = absl::Hours(24) * keep_days;
  auto logger = std::make_shared<spdlog::logger>("coordinator", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ level=%l %v", spdlog::pattern_time_type::utc);
  logger->set_level(spdlog::level::from_str(log_level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);

  if (absl::Status status = loadstar::rpc::CheckAddress(options.listen, insecure); !status.ok()) {
    return Fail(kInvalid, absl::Status(status.code(), "--listen: " + std::string(status.message())));
  }
  const loadstar::os::StopSignals signals;
  const auto descriptors = loadstar::os::RaiseDescriptorLimit();
  if (!descriptors.ok())
    spdlog::warn("coordinator: event=descriptor-limit error=\"{}\"", std::string(descriptors.status().message()));

  std::random_device entropy;
  options.core.seed = (uint64_t{entropy()} << 32) | entropy();
  auto coordinator = loadstar::server::Coordinator::Start(options);
  if (!coordinator.ok()) return Fail(kNotCarriedOut, coordinator.status());
  spdlog::info("coordinator: event=ready listening={} state={} version={} descriptors={} insecure={}",
               (*coordinator)->listener().address(), options.state_folder, LOADSTAR_VERSION,
               descriptors.ok() ? descriptors->soft : 0, insecure);
  std::printf("coordinator: listening=%s state=%s\n", (*coordinator)->listener().address().c_str(),
              options.state_folder.c_str());
  std::fflush(stdout);

  spdlog::info("coordinator: event=stopping signal={}", signals.Wait());
  (*coordinator)->Stop();
  spdlog::info("coordinator: event=stopped");
  return 0;
}
