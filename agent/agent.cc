#include "agent/agent.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/core/agent_core.h"
#include "agent/deployer/deployer.h"
#include "agent/host/host_monitor.h"
#include "agent/inbox.h"
#include "agent/observer/observer.h"
#include "agent/session/session.h"
#include "agent/spill/file_spill.h"
#include "agent/supervisor/supervisor.h"
#include "agent/tuning.h"
#include "lib/os/clock.h"
#include "lib/os/files.h"
#include "lib/os/limits.h"
#include "spdlog/spdlog.h"

namespace loadstar::agent {
namespace {

constexpr size_t kInboxMax = 8'192;
constexpr int64_t kLongestWaitNs = 1'000'000'000;

std::string DrawInstanceId() {
  std::array<char, 16> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    // Without randomness a start's clock tells it from others.
    const int64_t now = os::MonotonicNs();
    std::copy_n(reinterpret_cast<const char*>(&now), sizeof now, bytes.begin());
  }
  return absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
}

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

}  // namespace

class Agent::Impl {
 public:
  explicit Impl(const AgentConfig& config) : config_(config), inbox_(kInboxMax) {}

  absl::Status Start() {
    absl::StatusOr<os::Fd> lock = os::LockFolder(config_.state_folder);
    if (!lock.ok()) return lock.status();
    lock_ = *std::move(lock);
    const absl::StatusOr<os::DescriptorLimit> limit = os::RaiseDescriptorLimit();
    if (!limit.ok()) return limit.status();
    const std::string worker = absl::StrCat(config_.policy.bin_folder, "/loadstar-worker");
    if (!std::filesystem::exists(worker)) {
      return absl::NotFoundError(absl::StrCat(worker, " is missing; build it, or say where it is with --bin-dir"));
    }

    absl::StatusOr<std::unique_ptr<FileSpill>> spill = FileSpill::Create(absl::StrCat(config_.state_folder, "/spill"));
    if (!spill.ok()) return spill.status();
    spill_ = *std::move(spill);
    const Sink sink = [this](Input input) { inbox_.Push(std::move(input)); };
    absl::StatusOr<std::unique_ptr<Supervisor>> supervisor =
        Supervisor::Create({.program = worker,
                            .log_folder = absl::StrCat(config_.state_folder, "/logs"),
                            .backend = config_.worker_backend},
                           sink);
    if (!supervisor.ok()) return supervisor.status();
    supervisor_ = *std::move(supervisor);
    absl::StatusOr<std::unique_ptr<Deployer>> deployer =
        Deployer::Create({.folder = absl::StrCat(config_.state_folder, "/deployments"),
                          .agent_name = config_.name,
                          .policy = config_.policy},
                         sink);
    if (!deployer.ok()) return deployer.status();
    deployer_ = *std::move(deployer);
    absl::StatusOr<std::unique_ptr<Tuning>> tuning =
        Tuning::Create({.folder = config_.state_folder,
                        .allowed = {config_.policy.tunable.begin(), config_.policy.tunable.end()},
                        .machine = config_.colima_machine,
                        .on_changed = [this] { monitor_->ReadNow(); }},
                       sink);
    if (!tuning.ok()) return tuning.status();
    tuning_ = *std::move(tuning);
    observer_ = std::make_unique<Observer>(
        [this](const std::string& deployment) { return deployer_->Apis(deployment); }, os::Proc(), sink);
    monitor_ = std::make_unique<HostMonitor>(os::Proc(), *limit, sink);

    AgentOptions options;
    options.name = config_.name;
    options.instance_id = DrawInstanceId();
    options.version = config_.version;
    options.admit_run = [this](const v1::PrepareRun& prepare) { return AdmitRun(config_.policy, prepare); };
    options.admit_nodes = [this](const v1::DeployNodes& deploy) { return AdmitNodes(config_.policy, deploy); };
    core_ = std::make_unique<AgentCore>(options, spill_.get(), monitor_->first_host(), monitor_->first_capacity(),
                                        deployer_->adopted());
    session_ = std::make_unique<Session>(Session::Options{.coordinator = config_.coordinator}, &inbox_);
    spdlog::info(
        "agent: event=ready name={} instance={} coordinator={} state={} descriptors={} capacity={} limit=\"{}\"",
        options.name, options.instance_id, config_.coordinator, config_.state_folder, limit->hard,
        monitor_->first_capacity().connections(), monitor_->first_capacity().binding_limit());
    return absl::OkStatus();
  }

  // Nothing may wait for the inbox any more; then the sources end, those that use others first.
  ~Impl() {
    inbox_.Close();
    session_.reset();
    observer_.reset();
    supervisor_.reset();
    deployer_.reset();
    tuning_.reset();
    monitor_.reset();
  }

  void Run() {
    std::vector<Input> inputs;
    std::vector<Action> actions;
    for (;;) {
      const int64_t latest = os::MonotonicNs() + kLongestWaitNs;
      if (!inbox_.Take(std::min(core_->NextTick(), latest), &inputs)) return;
      for (Input& input : inputs) {
        core_->Handle(std::move(input), os::MonotonicNs(), &actions);
        CarryOut(&actions);
      }
      const int64_t now = os::MonotonicNs();
      if (core_->NextTick() <= now) core_->Handle(Tick{}, now, &actions);
      CarryOut(&actions);
    }
  }

  void Stop() { inbox_.Close(); }

 private:
  void CarryOut(std::vector<Action>* actions) {
    for (Action& action : *actions) {
      std::visit(Overloaded{
                     [&](SendToCoordinator& a) { session_->Send(std::move(a.message)); },
                     [&](SpawnWorker& a) { supervisor_->Spawn(a.worker); },
                     [&](SendToWorker& a) { supervisor_->Send(a.worker, a.message); },
                     [&](KillWorker& a) { supervisor_->Kill(a.worker); },
                     [&](agent::Deploy& a) { deployer_->Deploy(std::move(a)); },
                     [&](agent::Teardown& a) { deployer_->Teardown(std::move(a)); },
                     [&](agent::Tune& a) { tuning_->Carry(std::move(a)); },
                     [&](Observe& a) { observer_->Start(a); },
                     [&](StopObserving& a) { observer_->Stop(a); },
                 },
                 action);
    }
    actions->clear();
  }

  const AgentConfig config_;
  os::Fd lock_;
  Inbox inbox_;
  std::unique_ptr<FileSpill> spill_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<Deployer> deployer_;
  std::unique_ptr<Tuning> tuning_;
  std::unique_ptr<Observer> observer_;
  std::unique_ptr<HostMonitor> monitor_;
  std::unique_ptr<AgentCore> core_;  // Run's thread's
  std::unique_ptr<Session> session_;
};

absl::StatusOr<std::unique_ptr<Agent>> Agent::Create(const AgentConfig& config) {
  auto impl = std::make_unique<Impl>(config);
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::unique_ptr<Agent>(new Agent(std::move(impl)));
}

Agent::Agent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Agent::~Agent() = default;
void Agent::Run() { impl_->Run(); }
void Agent::Stop() { impl_->Stop(); }

}  // namespace loadstar::agent
