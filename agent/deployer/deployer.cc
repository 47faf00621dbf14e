#include "agent/deployer/deployer.h"

#include <fcntl.h>
#include <google/protobuf/util/message_differencer.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "agent/deployer/journal.h"
#include "agent/deployer/launch.h"
#include "agent/deployer/node_machine.h"
#include "agent/deployer/node_processes.h"
#include "agent/fetch/fetcher.h"
#include "lib/os/clock.h"
#include "lib/os/fd.h"
#include "lib/os/files.h"
#include "lib/os/ports.h"
#include "lib/os/subprocess.h"
#include "lib/os/wait_set.h"
#include "lib/spec/name.h"
#include "spdlog/spdlog.h"

namespace loadstar::agent {
namespace {

constexpr int64_t kScanEveryNs = 50'000'000;  // while a process is expected to go
constexpr int64_t kLongestWaitNs = 1'000'000'000;
constexpr int64_t kRotateEveryNs = 2'000'000'000;
constexpr size_t kTailLines = 8;
constexpr size_t kTailBytes = 1500;

struct Node {
  Node(const v1::NodeSpec& node, std::string mark_text) : spec(node), machine(node), mark(std::move(mark_text)) {}

  v1::NodeSpec spec;
  NodeMachine machine;
  std::string mark;
  std::string log;
  os::Fd pidfd;                   // of the group's leader; none when there is no process
  uint64_t watch = 0;             // tag of the pidfd in the wait set, never used again
  uint64_t start_ticks = 0;       // of the leader
  std::optional<os::Exit> ended;  // the leader ended, its remains are not gone yet
  absl::StatusCode failure = absl::StatusCode::kFailedPrecondition;  // of the last start, for the command's status

  // The group's number is the node's own while its leader lives or is our zombie.
  pid_t group() const { return ended && ended->kind == os::Exit::Kind::kUnknown ? 0 : machine.pid(); }
};

struct Deployment {
  std::string name;
  std::string folder;
  std::map<std::string, std::unique_ptr<Node>> nodes;
  std::vector<std::string> deploys;    // commands that wait for every node to be healthy
  std::vector<std::string> teardowns;  // commands that wait for every node to be gone
  bool complete = false;
  bool going = false;      // being stopped: torn down, or its deploy failed
  bool torn_down = false;  // going because it was asked for
  absl::Status failure;    // why the deploy failed
};

absl::Status Prefixed(const std::string& node, absl::StatusCode code, const std::string& message) {
  return absl::Status(code, absl::StrCat("node ", node, ": ", message));
}

}  // namespace

class Deployer::Impl {
 public:
  Impl(Options options, Sink sink) : options_(std::move(options)), sink_(std::move(sink)) {}

  absl::Status Start() {
    if (!waits_.status().ok()) return waits_.status();
    if (absl::Status status = os::MakeFolders(options_.folder); !status.ok()) return status;
    std::error_code error;
    owner_ = std::filesystem::canonical(options_.folder, error).string();
    if (error) return absl::ErrnoToStatus(error.value(), options_.folder);
    TakeOver();
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

  ~Impl() {
    fetcher_.Stop();
    Post(Stop{});
    if (thread_.joinable()) thread_.join();
  }

  const std::vector<std::string>& adopted() const { return adopted_; }

  std::vector<NodeApi> Apis(const std::string& deployment) const {
    const std::lock_guard lock(mutex_);
    const auto found = apis_.find(deployment);
    return found == apis_.end() ? std::vector<NodeApi>() : found->second;
  }

  struct Checked {
    std::string deployment;
    std::string node;
    uint64_t check;
    std::string error;
  };
  struct Stop {};
  using Order = std::variant<agent::Deploy, agent::Teardown, Checked, Stop>;

  void Post(Order order) { orders_.Post(std::move(order)); }

 private:
  // ---- Start of a life

  std::string FolderOf(const std::string& deployment) const { return absl::StrCat(options_.folder, "/", deployment); }
  std::string MarkOf(const std::string& deployment, const std::string& node) const {
    return absl::StrCat(owner_, "|", deployment, "/", node);
  }

  std::unique_ptr<Node> MakeNode(const Deployment& deployment, const v1::NodeSpec& spec) const {
    auto node = std::make_unique<Node>(spec, MarkOf(deployment.name, spec.name()));
    node->log = absl::StrCat(deployment.folder, "/", spec.name(), ".log");
    return node;
  }

  void TakeOver() {
    std::vector<NodeProcess> processes = ScanProcesses(options_.proc);
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(options_.folder, error)) {
      const absl::StatusOr<Journal> journal = ReadJournal(entry.path().string());
      if (!journal.ok()) {
        if (!absl::IsNotFound(journal.status())) {
          spdlog::error("deployer: event=journal-unreadable reason=\"{}\"", std::string(journal.status().message()));
        }
        continue;
      }
      if (journal->complete && journal->deployment == entry.path().filename().string()) {
        Adopt(*journal, processes);
      } else {
        spdlog::warn("deployer: event=deployment-incomplete deployment={}", journal->deployment);
        static_cast<void>(RemoveJournal(entry.path().string()));
      }
    }
    EndOrphans();
  }

  void Adopt(const Journal& journal, const std::vector<NodeProcess>& processes) {
    const int64_t now = os::MonotonicNs();
    auto deployment = std::make_unique<Deployment>();
    deployment->name = journal.deployment;
    deployment->folder = FolderOf(journal.deployment);
    deployment->complete = true;
    Deployment* adopted = deployment.get();
    deployments_[journal.deployment] = std::move(deployment);
    for (const Journal::Node& entry : journal.nodes) {
      Node* node = (adopted->nodes[entry.spec.name()] = MakeNode(*adopted, entry.spec)).get();
      // The leader by its number and age; by its mark when the agent died before it could write the number down.
      const auto leads = [&](const NodeProcess& process) {
        return process.mark == node->mark && process.pid == process.group &&
               (entry.pid == 0 || (process.pid == entry.pid && process.start_ticks == entry.start_ticks));
      };
      auto leader = std::find_if(processes.begin(), processes.end(), leads);
      if (leader == processes.end()) {
        leader = std::find_if(processes.begin(), processes.end(), [&](const NodeProcess& process) {
          return process.mark == node->mark && process.pid == process.group;
        });
      }
      absl::StatusOr<os::Fd> pidfd = absl::NotFoundError("");
      if (leader != processes.end()) pidfd = os::OpenProcess(leader->pid);
      spdlog::info("deployer: event=node-taken-over deployment={} node={} pid={}", adopted->name, entry.spec.name(),
                   pidfd.ok() ? leader->pid : 0);
      if (pidfd.ok()) {
        WatchLeader(node, *std::move(pidfd));
        node->start_ticks = leader->start_ticks;
        Carry(adopted, node, node->machine.Adopt(leader->pid, entry.restarts, now));
      } else {
        EndRemains(*node);
        Carry(adopted, node, node->machine.AdoptGone(entry.restarts, now));
      }
    }
    adopted_.push_back(journal.deployment);
    Publish(*adopted);
  }

  // Children of a leader that is gone.
  void EndRemains(const Node& node) const {
    for (const NodeProcess& process : ScanProcesses(options_.proc)) {
      if (process.mark == node.mark) SignalProcess(options_.proc, process, SIGKILL);
    }
  }

  // Ends processes of this folder whose deployment was not taken over.
  void EndOrphans() const {
    const std::string ours = absl::StrCat(owner_, "|");
    for (int attempt = 0; attempt < 100; ++attempt) {
      size_t found = 0;
      for (const NodeProcess& process : ScanProcesses(options_.proc)) {
        if (!absl::StartsWith(process.mark, ours)) continue;
        const std::string deployment = process.mark.substr(ours.size(), process.mark.rfind('/') - ours.size());
        if (deployments_.count(deployment) != 0) continue;
        if (attempt == 0) spdlog::warn("deployer: event=leftover-ended pid={} mark=\"{}\"", process.pid, process.mark);
        SignalProcess(options_.proc, process, SIGKILL);
        ++found;
      }
      if (found == 0) return;
      poll(nullptr, 0, 20);
    }
    spdlog::error("deployer: event=leftover reason=\"processes of an earlier life do not end\"");
  }

  // ---- The loop

  void Run() {
    std::vector<os::WaitSet::Event> events;
    int64_t scan_at = 0;
    int64_t rotate_at = 0;
    while (!stopping_) {
      int64_t next = std::min(rotate_at, os::MonotonicNs() + kLongestWaitNs);
      ForEachNode([&](Deployment*, Node* node) {
        next = std::min(next, node->machine.NextTick());
        if (node->ended) next = std::min(next, scan_at);
      });
      waits_.Wait(next, &events);
      for (const os::WaitSet::Event& event : events) {
        ForEachNode([&](Deployment*, Node* node) {
          if (node->watch == event.tag && node->pidfd) node->ended = os::PollExit(node->pidfd, false);
        });
      }
      TakeOrders();
      const int64_t now = os::MonotonicNs();
      if (now >= scan_at) {
        scan_at = now + kScanEveryNs;
        FinishEnded();
      }
      ForEachNode([&](Deployment* deployment, Node* node) {
        if (node->machine.NextTick() <= now) Carry(deployment, node, node->machine.OnTick(now));
      });
      if (now >= rotate_at) {
        rotate_at = now + kRotateEveryNs;
        ForEachNode([&](Deployment*, Node* node) {
          const absl::Status status = os::RotateByCopy(node->log, options_.log_max_bytes, options_.logs_kept);
          if (!status.ok())
            spdlog::warn("deployer: event=log-not-rotated reason=\"{}\"", std::string(status.message()));
        });
      }
      FinishCommands();
    }
  }

  template <typename Visit>
  void ForEachNode(Visit visit) {
    for (auto& [name, deployment] : deployments_) {
      for (auto& [node_name, node] : deployment->nodes) visit(deployment.get(), node.get());
    }
  }

  void TakeOrders() {
    std::vector<Order> orders = orders_.Take();
    for (Order& order : orders) {
      if (auto* deploy = std::get_if<agent::Deploy>(&order)) {
        Begin(*deploy);
      } else if (auto* teardown = std::get_if<agent::Teardown>(&order)) {
        TakeDown(*teardown);
      } else if (auto* checked = std::get_if<Checked>(&order)) {
        OnChecked(*checked);
      } else {
        stopping_ = true;
      }
    }
  }

  // ---- Commands

  void End(const std::string& command_id, const absl::Status& status) {
    if (!command_id.empty()) sink_(DeployEnded{.command_id = command_id, .status = status});
  }

  void Begin(const agent::Deploy& order) {
    const auto found = deployments_.find(order.deployment);
    if (found != deployments_.end()) return BeginAgain(found->second.get(), order);
    auto deployment = std::make_unique<Deployment>();
    deployment->name = order.deployment;
    deployment->folder = FolderOf(order.deployment);
    deployment->deploys = {order.command_id};
    // Logs of an earlier try would be read as this one's.
    absl::Status status = os::RemoveTree(deployment->folder);
    if (status.ok()) status = os::MakeFolders(deployment->folder);
    for (const v1::NodeSpec& spec : order.nodes) deployment->nodes[spec.name()] = MakeNode(*deployment, spec);
    if (status.ok()) status = Write(*deployment);
    if (!status.ok()) return End(order.command_id, status);
    spdlog::info("deployer: event=deploy deployment={} nodes={}", order.deployment, order.nodes.size());
    Deployment* begun = deployment.get();
    deployments_[order.deployment] = std::move(deployment);
    Publish(*begun);
    for (auto& [name, node] : begun->nodes) Carry(begun, node.get(), node->machine.Begin(os::MonotonicNs()));
    static_cast<void>(WriteOrLog(*begun));
  }

  void BeginAgain(Deployment* deployment, const agent::Deploy& order) {
    if (deployment->going) {
      return End(order.command_id, absl::AbortedError(absl::StrCat("deployment ", order.deployment,
                                                                   " is being taken down; try again when it is gone")));
    }
    const bool same = deployment->nodes.size() == order.nodes.size() &&
                      std::all_of(order.nodes.begin(), order.nodes.end(), [&](const v1::NodeSpec& spec) {
                        const auto node = deployment->nodes.find(spec.name());
                        return node != deployment->nodes.end() &&
                               google::protobuf::util::MessageDifferencer::Equals(node->second->spec, spec);
                      });
    if (!same) {
      return End(order.command_id,
                 absl::FailedPreconditionError(
                     absl::StrCat("deployment ", order.deployment, " stands with other nodes; tear it down first")));
    }
    deployment->deploys.push_back(order.command_id);
    for (auto& [name, node] : deployment->nodes) {
      if (node->machine.state() == NodeState::kFailed) {
        Carry(deployment, node.get(), node->machine.Begin(os::MonotonicNs()));
      }
    }
    static_cast<void>(WriteOrLog(*deployment));
  }

  void TakeDown(const agent::Teardown& order) {
    const auto found = deployments_.find(order.deployment);
    if (found == deployments_.end()) {
      // Also what a failed deploy left to be read.
      return End(order.command_id,
                 spec::IsName(order.deployment) ? os::RemoveTree(FolderOf(order.deployment)) : absl::OkStatus());
    }
    Deployment* deployment = found->second.get();
    spdlog::info("deployer: event=teardown deployment={}", order.deployment);
    deployment->teardowns.push_back(order.command_id);
    deployment->torn_down = true;
    for (const std::string& command : std::exchange(deployment->deploys, {})) {
      End(command, absl::CancelledError(absl::StrCat("deployment ", order.deployment, " was torn down meanwhile")));
    }
    StopAll(deployment);
  }

  void StopAll(Deployment* deployment) {
    deployment->going = true;
    for (auto& [name, node] : deployment->nodes) Carry(deployment, node.get(), node->machine.Stop(os::MonotonicNs()));
  }

  // Ends commands whose condition has come true.
  void FinishCommands() {
    for (auto next = deployments_.begin(); next != deployments_.end();) {
      const auto current = next++;
      Deployment* deployment = current->second.get();
      size_t healthy = 0;
      size_t over = 0;
      const Node* failed = nullptr;
      for (const auto& [name, node] : deployment->nodes) {
        const NodeState state = node->machine.state();
        healthy += state == NodeState::kHealthy;
        over += state == NodeState::kStopped || state == NodeState::kFailed;
        if (state == NodeState::kFailed) failed = node.get();
      }
      if (!deployment->going && !deployment->deploys.empty()) {
        if (healthy == deployment->nodes.size()) {
          deployment->complete = true;
          const absl::Status written = WriteOrLog(*deployment);
          for (const std::string& command : std::exchange(deployment->deploys, {})) End(command, written);
        } else if (failed != nullptr) {
          deployment->failure = Prefixed(failed->spec.name(), failed->failure, Explain(*failed));
          StopAll(deployment);
          continue;  // nodes without a process are over at once: seen in the next turn
        }
      }
      if (deployment->going && over == deployment->nodes.size()) Forget(current);
    }
  }

  // Every node of it is over.
  void Forget(std::map<std::string, std::unique_ptr<Deployment>>::iterator found) {
    const std::unique_ptr<Deployment> deployment = std::move(found->second);
    deployments_.erase(found);
    {
      const std::lock_guard lock(mutex_);
      apis_.erase(deployment->name);
    }
    absl::Status status;
    for (const auto& [name, node] : deployment->nodes) {
      if (node->pidfd) status = Prefixed(name, absl::StatusCode::kInternal, node->machine.message());
    }
    // The journal of what could not be ended stays incomplete, so that the next life tries again.
    if (status.ok()) {
      status = deployment->torn_down ? os::RemoveTree(deployment->folder) : RemoveJournal(deployment->folder);
    } else {
      deployment->complete = false;
      static_cast<void>(WriteOrLog(*deployment));
    }
    spdlog::info("deployer: event=deployment-gone deployment={} status=\"{}\"", deployment->name, status.ToString());
    for (const std::string& command : deployment->deploys) End(command, deployment->failure);
    for (const std::string& command : deployment->teardowns) End(command, status);
  }

  // ---- Nodes

  // Does what a node's machine asks for.
  void Carry(Deployment* deployment, Node* node, NodeActions actions) {
    // A start that fails at once asks for more; once, as nothing but a timer starts it again.
    while (actions.spawn) {
      if (actions.report) Report(*deployment, *node);
      const absl::StatusOr<pid_t> pid = SpawnNode(node);
      const int64_t now = os::MonotonicNs();
      if (pid.ok()) {
        actions = node->machine.OnStarted(*pid, now);
        // The others of a first start are written together.
        if (deployment->complete) static_cast<void>(WriteOrLog(*deployment));
      } else {
        node->failure = pid.status().code();
        actions = node->machine.OnStartFailed(std::string(pid.status().message()), now);
      }
    }
    if (actions.terminate) Signal(*node, SIGTERM);
    if (actions.kill) Signal(*node, SIGKILL);
    if (actions.report) Report(*deployment, *node);
    if (actions.check != 0) Check(*deployment, *node, actions.check);
  }

  absl::StatusOr<pid_t> SpawnNode(Node* node) {
    absl::StatusOr<Launch> launch = PlanLaunch(options_.policy, node->spec, node->mark);
    if (!launch.ok()) return launch.status();
    for (const std::string& address : {node->spec.listen_address(), node->spec.api_address()}) {
      if (address.empty()) continue;
      if (absl::Status status = os::CheckPortFree(address, options_.proc); !status.ok()) return status;
    }
    const absl::StatusOr<os::Fd> log = os::OpenForAppend(node->log);
    if (!log.ok()) return log.status();
    absl::StatusOr<os::Child> child = os::Spawn({.program = launch->program,
                                                 .arguments = launch->arguments,
                                                 .environment = launch->environment,
                                                 .stdout_fd = log->get(),
                                                 .stderr_fd = log->get(),
                                                 .inherit = {},
                                                 .folder = "/"});
    if (!child.ok()) return child.status();
    const absl::StatusOr<os::ProcessStat> stat = options_.proc.Stat(child->pid);
    node->start_ticks = stat.ok() ? stat->start_ticks : 0;
    WatchLeader(node, std::move(child->pidfd));
    node->ended.reset();
    return child->pid;
  }

  void WatchLeader(Node* node, os::Fd pidfd) {
    node->pidfd = std::move(pidfd);
    node->watch = ++last_watch_;
    waits_.AddProcess(node->pidfd, node->watch);
  }

  void Signal(const Node& node, int signal) const {
    const pid_t group = node.pidfd ? node.group() : 0;
    // Of a leader that is not our child the number could be another's by now, unless it lives.
    if (group > 0) kill(-group, signal);
    for (const NodeProcess& process : ScanProcesses(options_.proc)) {
      if (process.mark == node.mark && process.group != group) SignalProcess(options_.proc, process, signal);
    }
  }

  // Nodes whose leader has ended: waits for (or ends) what else there is of them, then tells their machines.
  void FinishEnded() {
    bool any = false;
    ForEachNode([&](Deployment*, Node* node) { any = any || node->ended.has_value(); });
    if (!any) return;
    const std::vector<NodeProcess> processes = ScanProcesses(options_.proc);
    ForEachNode([&](Deployment* deployment, Node* node) {
      if (!node->ended) return;
      size_t left = 0;
      for (const NodeProcess& process : processes) {
        if (!BelongsTo(process, node->mark, node->group())) continue;
        ++left;
        // Asked to stop, they have the node's time for it; else they would only be in the way.
        if (node->machine.state() != NodeState::kStopping) SignalProcess(options_.proc, process, SIGKILL);
      }
      if (left > 0) return;
      os::PollExit(node->pidfd, true);  // reaps: the number is free from here on
      const os::Exit exit = *std::exchange(node->ended, std::nullopt);
      waits_.Remove(node->pidfd);
      node->pidfd.Reset();
      node->start_ticks = 0;
      spdlog::info("deployer: event=node-ended deployment={} node={} cause=\"{}\"", deployment->name, node->spec.name(),
                   os::ToString(exit));
      node->failure = absl::StatusCode::kFailedPrecondition;
      Carry(deployment, node, node->machine.OnGone(os::ToString(exit), exit.clean(), os::MonotonicNs()));
    });
  }

  void Check(const Deployment& deployment, const Node& node, uint64_t check) {
    const v1::HealthCheckSpec& health = node.spec.health();
    Fetcher::Request request;
    if (!node.spec.api_address().empty()) {
      request.address = node.spec.api_address();
      request.path = health.path().empty() ? "/health" : health.path();
    } else {
      request.address = node.spec.listen_address();
    }
    request.timeout_ns =
        health.has_timeout() ? health.timeout().seconds() * 1'000'000'000 + health.timeout().nanos() : 2'000'000'000;
    Checked checked{.deployment = deployment.name, .node = node.spec.name(), .check = check, .error = {}};
    const std::string what =
        absl::StrCat(request.path.empty() ? "connect to " : "GET http://", request.address, request.path);
    const bool wants_answer = !request.path.empty();
    fetcher_.Get(request, [this, checked, what, wants_answer](const FetchResult& result) mutable {
      if (!result.error.empty()) {
        checked.error = absl::StrCat(what, ": ", result.error);
      } else if (wants_answer && result.status != 200) {
        checked.error = absl::StrCat(what, ": HTTP status ", result.status);
      }
      Post(std::move(checked));
    });
  }

  void OnChecked(const Checked& checked) {
    const auto deployment = deployments_.find(checked.deployment);
    if (deployment == deployments_.end()) return;
    const auto node = deployment->second->nodes.find(checked.node);
    if (node == deployment->second->nodes.end()) return;
    Carry(deployment->second.get(), node->second.get(),
          node->second->machine.OnCheck(checked.check, checked.error.empty(), checked.error, os::MonotonicNs()));
  }

  // The machine's message, with the node's last words where it ended badly.
  std::string Explain(const Node& node) const {
    std::string text = node.machine.message();
    const NodeState state = node.machine.state();
    if (state != NodeState::kFailed && state != NodeState::kBackoff) return text;
    const std::string words = os::TailOfFile(node.log, kTailLines, kTailBytes);
    if (!words.empty()) {
      absl::StrAppend(&text, "; last lines of its log: ", absl::StrReplaceAll(words, {{"\n", " | "}}));
    }
    return text;
  }

  void Report(const Deployment& deployment, const Node& node) {
    v1::NodeReport report;
    report.set_deployment(deployment.name);
    v1::NodeStatus* status = report.mutable_status();
    status->set_node(node.spec.name());
    status->set_agent(options_.agent_name);
    status->set_state(node.machine.api_state());
    status->set_pid(node.machine.pid());
    status->set_restarts(node.machine.restarts());
    status->set_message(Explain(node));
    const std::string_view state = ToString(node.machine.state());
    spdlog::info("deployer: event=node deployment={} node={} state={} pid={} restarts={} message=\"{}\"",
                 deployment.name, node.spec.name(), std::string(state), node.machine.pid(), node.machine.restarts(),
                 status->message());
    sink_(NodeChanged{std::move(report)});
  }

  // ---- What others may see

  absl::Status Write(const Deployment& deployment) const {
    Journal journal{.deployment = deployment.name, .complete = deployment.complete, .nodes = {}};
    for (const auto& [name, node] : deployment.nodes) {
      journal.nodes.push_back({.spec = node->spec,
                               .pid = node->machine.pid(),
                               .start_ticks = node->start_ticks,
                               .restarts = node->machine.restarts()});
    }
    return WriteJournal(deployment.folder, journal);
  }

  absl::Status WriteOrLog(const Deployment& deployment) const {
    absl::Status status = Write(deployment);
    if (!status.ok()) {
      spdlog::error("deployer: event=journal-not-written deployment={} reason=\"{}\"", deployment.name,
                    std::string(status.message()));
    }
    return status;
  }

  void Publish(const Deployment& deployment) {
    std::vector<NodeApi> apis;
    for (const auto& [name, node] : deployment.nodes) {
      apis.push_back({.node = name, .api_address = node->spec.api_address()});
    }
    const std::lock_guard lock(mutex_);
    apis_[deployment.name] = std::move(apis);
  }

  // Constant after Start.
  const Options options_;
  const Sink sink_;
  std::string owner_;
  std::vector<std::string> adopted_;
  // Self-synchronised.
  os::WaitSet waits_;  // but for Wake, the thread's own
  os::OrderQueue<Order> orders_{&waits_};
  Fetcher fetcher_;
  mutable std::mutex mutex_;
  std::map<std::string, std::vector<NodeApi>> apis_;  // guarded by mutex_
  // The thread's own (and Start's, before it runs).
  std::map<std::string, std::unique_ptr<Deployment>> deployments_;
  uint64_t last_watch_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<Deployer>> Deployer::Create(Options options, Sink sink) {
  auto impl = std::make_unique<Impl>(std::move(options), std::move(sink));
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::unique_ptr<Deployer>(new Deployer(std::move(impl)));
}

Deployer::Deployer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Deployer::~Deployer() = default;
const std::vector<std::string>& Deployer::adopted() const { return impl_->adopted(); }
void Deployer::Deploy(agent::Deploy order) { impl_->Post(std::move(order)); }
void Deployer::Teardown(agent::Teardown order) { impl_->Post(std::move(order)); }
std::vector<NodeApi> Deployer::Apis(const std::string& deployment) const { return impl_->Apis(deployment); }

}  // namespace loadstar::agent
