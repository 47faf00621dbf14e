#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "lib/spec/address.h"
#include "lib/spec/complete.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

constexpr int kMaxNodesOfStack = 1024;
constexpr uint32_t kMaxProcesses = 256;
constexpr int kMaxArguments = 256;
constexpr int kMaxEnvironment = 256;
constexpr size_t kMaxArgument = 4096;
constexpr size_t kMaxRole = 63;
constexpr size_t kMaxHealthPath = 1024;
constexpr DurationBounds kCheckInterval{absl::Milliseconds(10), absl::Hours(1)};
constexpr DurationBounds kCheckTimeout{absl::Milliseconds(10), absl::Minutes(10)};
constexpr DurationBounds kStartTimeout{absl::Milliseconds(100), absl::Hours(1)};
constexpr DurationBounds kStopTimeout{absl::ZeroDuration(), absl::Hours(1)};

// An address that a node of the stack binds.
struct Bound {
  HostPort address;
  std::string agent;  // empty: any
  std::string field;
  std::string owner;
};

// Whether both cannot be bound. The same address twice is refused even on two agents, because the load could not tell
// the nodes apart; a wildcard collides only where both may be on one host.
bool Collide(const Bound& left, const Bound& right) {
  if (left.address.port != right.address.port) return false;
  if (left.address.host == right.address.host) return true;
  const bool may_share_host = left.agent.empty() || right.agent.empty() || left.agent == right.agent;
  return may_share_host && (left.address.IsWildcard() || right.address.IsWildcard());
}

void CheckHealth(v1::NodeSpec* node, const std::string& field, Report* report) {
  v1::HealthCheckSpec* health = node->mutable_health();
  const std::string path_field = Join(field, "path");
  if (!health->path().empty() && node->api_address().empty()) {
    report->Add(path_field, "a health path needs an API to ask", "Give the node an api address or take the path out");
  }
  if (health->path().empty() && !node->api_address().empty()) health->set_path("/health");
  CheckText(path_field, health->path(), kMaxHealthPath, report);
  if (!health->path().empty() && (health->path()[0] != '/' || health->path().find(' ') != std::string::npos)) {
    report->Add(path_field, Cat(Quoted(health->path()), " is no path"), "Write it such as /health");
  }
  if (!health->has_interval()) ToProto(absl::Seconds(1), health->mutable_interval());
  if (!health->has_timeout()) ToProto(absl::Seconds(2), health->mutable_timeout());
  if (!health->has_start_timeout()) ToProto(absl::Seconds(30), health->mutable_start_timeout());
  CheckDuration(Join(field, "interval"), health->interval(), kCheckInterval, report);
  CheckDuration(Join(field, "timeout"), health->timeout(), kCheckTimeout, report);
  CheckDuration(Join(field, "startTimeout"), health->start_timeout(), kStartTimeout, report);
}

bool IsVariable(std::string_view text) {
  const std::string_view name = text.substr(0, text.find('='));
  if (name.size() == text.size() || name.empty() || absl::ascii_isdigit(static_cast<unsigned char>(name[0])))
    return false;
  for (const char c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '_') return false;
  }
  return true;
}

void CheckCommand(const v1::NodeSpec& node, const std::string& field, Report* report) {
  const std::string command = Join(field, "command");
  if (node.command_size() > kMaxArguments) {
    report->Add(command,
                Cat("the command has ", node.command_size(), " words; at most ", kMaxArguments, " are allowed"));
  }
  for (int i = 0; i < node.command_size() && i < kMaxArguments; ++i) {
    const std::string& word = node.command(i);
    const std::string word_field = Index(command, static_cast<size_t>(i));
    if (i == 0 && word.empty()) report->Add(word_field, "the program has no name", "Write its path");
    if (word.size() > kMaxArgument)
      report->Add(word_field, Cat("the word has ", word.size(), " bytes; at most ", kMaxArgument, " are allowed"));
    if (word.find('\0') != std::string::npos) report->Add(word_field, "the word contains a NUL byte");
  }
  const std::string environment = Join(field, "environment");
  if (node.environment_size() > kMaxEnvironment) {
    report->Add(environment,
                Cat("there are ", node.environment_size(), " variables; at most ", kMaxEnvironment, " are allowed"));
  }
  std::set<std::string_view> seen;
  for (const std::string& variable : node.environment()) {
    const std::string_view name = std::string_view(variable).substr(0, variable.find('='));
    if (!IsVariable(variable)) {
      report->Add(environment, Cat(Quoted(name), " is no name of a variable"), "Use letters, digits and _");
    } else if (variable.size() > kMaxArgument || variable.find('\0') != std::string::npos) {
      report->Add(Join(environment, name),
                  Cat("the value is longer than ", kMaxArgument, " bytes or contains a NUL byte"));
    } else if (!seen.insert(name).second) {
      report->Add(environment, Cat("the variable ", name, " is there twice"), "Keep one of them");
    }
  }
}

void CheckAddress(const std::string& field, const std::string& text, const v1::NodeSpec& node, std::string_view what,
                  std::vector<Bound>* bound, Report* report) {
  if (report->Spoilt(field)) return;
  Bound added{{}, node.agent(), field, Cat("the ", what, " of ", node.name())};
  if (MaybeFlaw flaw = ReadHostPort(text, &added.address)) return report->Add(field, *std::move(flaw));
  for (const Bound& other : *bound) {
    if (!Collide(added, other)) continue;
    return report->Add(field, Cat(text, " is also ", other.owner, " (", other.field, ")"), "Give each its own port");
  }
  bound->push_back(std::move(added));
}

void CompleteNode(v1::NodeSpec* node, const std::string& field, std::vector<Bound>* bound, Report* report) {
  CheckName(Join(field, "name"), node->name(), "node1", report);
  CheckText(Join(field, "role"), node->role(), kMaxRole, report);
  if (!node->agent().empty()) CheckName(Join(field, "agent"), node->agent(), "host1", report);
  const std::string listen = Join(field, "listen");
  if (node->listen_address().empty() && !report->Spoilt(listen)) {
    report->Add(listen, "the node has no listener", "Write listen: 9100 or listen: 127.0.0.1:9100");
  }
  CheckAddress(listen, node->listen_address(), *node, "listener", bound, report);
  if (!node->api_address().empty()) CheckAddress(Join(field, "api"), node->api_address(), *node, "API", bound, report);
  CheckCommand(*node, field, report);
  const std::string processes = Join(field, "processes");
  if (node->processes() == 0 && !report->Spoilt(processes)) node->set_processes(1);
  if (node->processes() > kMaxProcesses) {
    report->Add(processes, Cat(FormatCount(node->processes()), " processes are too many"),
                Cat("At most ", kMaxProcesses, " are possible"));
  } else if (node->processes() > 1 && node->command_size() > 0) {
    report->Add(processes, "only loadstar-target runs as several processes; this node has a command of its own",
                "Take processes or command out");
  }
  if (!report->Spoilt(Join(field, "api"))) CheckHealth(node, Join(field, "health"), report);
  if (node->restart() == v1::RESTART_POLICY_UNSPECIFIED) node->set_restart(v1::RESTART_POLICY_NEVER);
  if (!v1::RestartPolicy_IsValid(node->restart()))
    report->Add(Join(field, "restart"), "unknown policy", "Use never, on-failure or always");
  if (!node->has_stop_timeout()) ToProto(absl::Seconds(10), node->mutable_stop_timeout());
  CheckDuration(Join(field, "stopTimeout"), node->stop_timeout(), kStopTimeout, report);
}

}  // namespace

void CompleteStack(v1::StackSpec* stack, Report* report) {
  CheckName("name", stack->name(), "my-stack", report);
  if (stack->runtime() != v1::RUNTIME_PROCESS && !report->Spoilt("runtime")) {
    report->Add("runtime", "there is no known runtime", "Write runtime: process");
  }
  if (stack->nodes().empty() && !report->Spoilt("nodes")) {
    return report->Add("nodes", "the stack has no nodes", "Write a list, such as [{name: node1, listen: 9100}]");
  }
  if (stack->nodes_size() > kMaxNodesOfStack) {
    return report->Add("nodes",
                       Cat("there are ", stack->nodes_size(), " nodes; at most ", kMaxNodesOfStack, " are allowed"));
  }
  std::set<std::string> names;
  std::vector<Bound> bound;
  for (int i = 0; i < stack->nodes_size(); ++i) {
    v1::NodeSpec* node = stack->mutable_nodes(i);
    const std::string field = Index("nodes", static_cast<size_t>(i));
    CompleteNode(node, field, &bound, report);
    if (!node->name().empty() && !names.insert(node->name()).second) {
      report->Add(Join(field, "name"), Cat("the name ", Quoted(node->name()), " is there twice"),
                  "Give each node its own");
    }
  }
}

}  // namespace loadstar::spec
