// loadstar-agent: one per host. Dials its coordinator, deploys nodes, runs load workers and measures its host.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "agent/tuner/colima/colima_cli.h"
#include "agent/tuner/host_tuner.h"
#include "lib/os/stop_signals.h"
#include "lib/rpc/rpc.h"
#include "lib/spec/name.h"
#include "lib/spec/sysctl_key.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace loadstar::agent {
namespace {

constexpr char kVersion[] = "0.1.0";
constexpr int kInvalidInput = 2;
constexpr int kNotCarriedOut = 4;

// The host's name in the form that names have.
std::string DefaultName() {
  char host[256] = {};
  if (gethostname(host, sizeof host - 1) != 0) return "agent";
  std::string name;
  for (const char* c = host; *c != '\0' && name.size() < 63; ++c) {
    const auto letter = static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
    const bool fits = (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9');
    if (fits || !name.empty()) name.push_back(fits ? letter : '-');
  }
  return name.empty() ? "agent" : name;
}

std::string OwnFolder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().string();
}

int Refuse(const absl::Status& status, int code) {
  spdlog::error("agent: event=refused reason=\"{}\"", std::string(status.message()));
  return code;
}

int Main(int argc, char** argv) {
  CLI::App app{"Loadstar's agent: one per host; deploys nodes, runs load workers and measures its host."};
  AgentConfig config;
  config.coordinator = "127.0.0.1:7400";
  config.name = DefaultName();
  config.version = kVersion;
  std::string bin_folder = OwnFolder();
  std::string log_level = "info";
  std::vector<std::string> targets;
  bool insecure = false;
  app.add_option("--coordinator", config.coordinator, "Address of the coordinator, HOST:PORT")->capture_default_str();
  app.add_option("--name", config.name, "Name of this agent, unique among the coordinator's")->capture_default_str();
  app.add_option("--state", config.state_folder, "Folder for logs, journals and unsent results; this agent's alone")
      ->required();
  app.add_flag("--insecure", insecure, "Dial a coordinator beyond loopback without TLS");
  app.add_option("--allow-target", targets,
                 "Range of addresses that load may be sent to, ADDRESS/BITS; replaces the default (loopback)");
  app.add_option("--allow-program", config.policy.programs,
                 "Program that may be deployed; replaces the default (loadstar-target beside this program)");
  app.add_option("--allow-tuning", config.policy.tunable,
                 "Kernel setting that may be tuned, or \"descriptors\", \"modules\", \"virtual-machine\"; replaces the "
                 "default (those of the "
                 "shipped profiles); \"none\" allows no tuning");
  app.add_option("--colima-machine", config.colima_machine,
                 "Colima's name of this host's virtual machine, which profiles with virtualMachine are applied to")
      ->capture_default_str();
  app.add_option("--bin-dir", bin_folder, "Folder of loadstar-worker and loadstar-target")->capture_default_str();
  app.add_option("--worker-backend", config.worker_backend,
                 "How workers talk to the kernel: auto, io_uring or epoll; auto falls back to epoll and says why")
      ->check(CLI::IsMember({"auto", "io_uring", "epoll"}))
      ->capture_default_str();
  app.add_option("--log-level", log_level, "trace, debug, info, warn or error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.set_version_flag("--version", kVersion);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kInvalidInput;
  }
  spdlog::set_default_logger(spdlog::stderr_logger_mt("loadstar-agent"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  spdlog::set_level(spdlog::level::from_str(log_level));
  spdlog::flush_on(spdlog::level::trace);

  if (absl::Status status = rpc::CheckAddress(config.coordinator, insecure); !status.ok()) {
    return Refuse(status, kInvalidInput);
  }
  if (!spec::IsName(config.name)) {
    return Refuse(absl::InvalidArgumentError(
                      absl::StrCat("--name \"", config.name, "\" must be 1 to 63 of a-z, 0-9 and -, not first -")),
                  kInvalidInput);
  }
  if (targets.empty()) targets = {"127.0.0.0/8", "::1/128"};
  for (const std::string& text : targets) {
    absl::StatusOr<AddressRange> range = AddressRange::Parse(text);
    if (!range.ok()) {
      return Refuse(absl::InvalidArgumentError(absl::StrCat("--allow-target: ", range.status().message())),
                    kInvalidInput);
    }
    config.policy.targets.push_back(*range);
  }
  config.policy.bin_folder = std::filesystem::absolute(bin_folder).lexically_normal().string();
  if (config.policy.programs.empty())
    config.policy.programs = {absl::StrCat(config.policy.bin_folder, "/loadstar-target")};
  for (std::string& program : config.policy.programs) {
    if (program.find('/') == std::string::npos) program = absl::StrCat(config.policy.bin_folder, "/", program);
    if (program.front() != '/') {
      return Refuse(absl::InvalidArgumentError(absl::StrCat("--allow-program ", program,
                                                            " must be an absolute path, or "
                                                            "the bare name of a program in --bin-dir")),
                    kInvalidInput);
    }
  }
  if (config.policy.tunable.empty()) config.policy.tunable = DefaultTunable();
  if (config.policy.tunable == std::vector<std::string>{"none"}) config.policy.tunable.clear();
  for (const std::string& key : config.policy.tunable) {
    if (key != HostTuner::kDescriptorsAllowed && key != HostTuner::kModulesAllowed &&
        key != HostTuner::kVirtualMachineAllowed && !spec::IsSysctlKey(key)) {
      return Refuse(absl::InvalidArgumentError(absl::StrCat("--allow-tuning \"", key,
                                                            "\" is no sysctl's name; write it with dots, such as "
                                                            "net.core.somaxconn")),
                    kInvalidInput);
    }
  }
  const absl::StatusOr<std::string> machine = MachineName(config.colima_machine);
  if (!machine.ok()) {
    return Refuse(absl::InvalidArgumentError(absl::StrCat("--colima-machine ", machine.status().message())),
                  kInvalidInput);
  }
  config.colima_machine = *machine;
  config.state_folder = std::filesystem::absolute(config.state_folder).lexically_normal().string();

  const os::StopSignals signals;

  absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Create(config);
  if (!agent.ok()) return Refuse(agent.status(), kNotCarriedOut);
  std::thread core([&] { (*agent)->Run(); });
  const int received = signals.Wait();
  spdlog::info("agent: event=stopping signal={} note=\"workers end, deployed nodes stay\"", received);
  (*agent)->Stop();
  core.join();
  agent->reset();
  spdlog::info("agent: event=stopped");
  return 0;
}

}  // namespace
}  // namespace loadstar::agent

int main(int argc, char** argv) { return loadstar::agent::Main(argc, argv); }
