#include <array>
#include <string>

#include "lib/spec/kinds.h"
#include "lib/spec/reader.h"
#include "lib/spec/text.h"

namespace loadstar::spec {
namespace {

constexpr std::array kStackKeys = {
    KeyInfo{"apiVersion", "loadstar/v1", "", "the version of the document format"},
    KeyInfo{"kind", "Stack", "", "what the document describes"},
    KeyInfo{"name", "a name such as my-stack", "", "the stack's and its deployment's name"},
    KeyInfo{"runtime", "process", "", "how nodes are run"},
    KeyInfo{"nodes", "a list such as [{name: node1, listen: 9100}]", "", "the nodes"},
};
constexpr std::array kNodeKeys = {
    KeyInfo{"name", "a name such as node1", "", "the node's name"},
    KeyInfo{"role", "a text such as worker", "", "the role shown beside the node"},
    KeyInfo{"listen", "a port or HOST:PORT such as 9100 or 127.0.0.1:9100", "", "the address under load"},
    KeyInfo{"api", "a port or HOST:PORT such as 8080 or 127.0.0.1:8080", "no API", "the address of the HTTP API"},
    KeyInfo{"command", "a list such as [./server, --port, \"9100\"]", "loadstar-target",
            "the program and its arguments"},
    KeyInfo{"environment", "a mapping such as {LOG: debug}", "", "additional environment variables"},
    KeyInfo{"processes", "a whole number such as 2", "1", "processes of loadstar-target on one listener"},
    KeyInfo{"health", "a mapping such as {path: /health}", "{path: /health} with an API",
            "how the node is found ready"},
    KeyInfo{"restart", "never, on-failure or always", "never", "whether the node is started again"},
    KeyInfo{"stopTimeout", "a duration such as 10s", "10s", "the time between SIGTERM and SIGKILL"},
    KeyInfo{"agent", "an agent's name such as host1", "dealt out in turn", "the agent that runs the node"},
};
constexpr std::array kHealthKeys = {
    KeyInfo{"path", "a path such as /health", "/health with an API", "the path that must answer 200"},
    KeyInfo{"interval", "a duration such as 1s", "1s", "the time between checks"},
    KeyInfo{"timeout", "a duration such as 2s", "2s", "the longest wait for an answer"},
    KeyInfo{"startTimeout", "a duration such as 30s", "30s", "the longest time to the first success"},
};

constexpr std::array kRuntimes = {
    Choice{"process", v1::RUNTIME_PROCESS},
    Choice{"docker", 0, false},
    Choice{"colima", 0, false},
};
constexpr std::array kPolicies = {
    Choice{"never", v1::RESTART_POLICY_NEVER},
    Choice{"on-failure", v1::RESTART_POLICY_ON_FAILURE},
    Choice{"always", v1::RESTART_POLICY_ALWAYS},
};

// A bare port is one of the loopback address.
void WithHost(std::string* address) {
  if (!address->empty() && address->find_first_not_of("0123456789") == std::string::npos) {
    *address = Cat("127.0.0.1:", *address);
  }
}

void ReadHealth(const Node& node, const std::string& path, Report* report, v1::HealthCheckSpec* health) {
  const Reader reader(node, path, "a mapping of the health check", kHealthKeys, report);
  reader.Text("path", health->mutable_path());
  if (const auto interval = reader.Duration("interval")) *health->mutable_interval() = *interval;
  if (const auto timeout = reader.Duration("timeout")) *health->mutable_timeout() = *timeout;
  if (const auto timeout = reader.Duration("startTimeout")) *health->mutable_start_timeout() = *timeout;
}

void ReadEnvironment(const Node& node, const std::string& path, Report* report, v1::NodeSpec* spec) {
  for (size_t i = 0; i < node.items.size(); ++i) {
    const std::string& name = node.keys[i].text;
    const Node& value = node.items[i];
    if (value.kind == Node::Kind::kScalar || value.kind == Node::Kind::kNull) {
      spec->add_environment(Cat(name, "=", value.text));
    } else {
      report->AddAt(value.place, Join(path, name),
                    {Cat("found ", KindName(value.kind), " where a text is expected"), "Write the variable's value"});
    }
  }
}

void ReadNode(const Node& node, const std::string& path, Report* report, v1::NodeSpec* spec) {
  const Reader reader(node, path, "a node such as {name: node1, listen: 9100}", kNodeKeys, report);
  reader.Text("name", spec->mutable_name());
  reader.Text("role", spec->mutable_role());
  if (reader.Text("listen", spec->mutable_listen_address())) WithHost(spec->mutable_listen_address());
  if (reader.Text("api", spec->mutable_api_address())) WithHost(spec->mutable_api_address());
  reader.Texts("command", spec->mutable_command());
  if (const Node* environment = reader.Find("environment")) {
    if (environment->kind != Node::Kind::kMapping) {
      reader.Expected("environment", *environment);
    } else {
      ReadEnvironment(*environment, reader.PathOf("environment"), report, spec);
    }
  }
  uint32_t processes = 0;
  if (reader.Count("processes", &processes)) {
    if (processes == 0) reader.Wrong("processes", *reader.Find("processes"), {"processes is 0", "Write 1 or more"});
    spec->set_processes(processes);
  }
  if (const Node* health = reader.Find("health")) {
    ReadHealth(*health, reader.PathOf("health"), report, spec->mutable_health());
  }
  int policy = 0;
  if (reader.Choose("restart", kPolicies, &policy)) spec->set_restart(static_cast<v1::RestartPolicy>(policy));
  if (const auto timeout = reader.Duration("stopTimeout")) *spec->mutable_stop_timeout() = *timeout;
  reader.Text("agent", spec->mutable_agent());
}

}  // namespace

void ReadStack(const Node& root, Report* report, v1::StackSpec* stack) {
  const Reader reader(root, "", "a mapping of a document", kStackKeys, report);
  reader.Text("name", stack->mutable_name());
  int runtime = 0;
  if (reader.Choose("runtime", kRuntimes, &runtime)) stack->set_runtime(static_cast<v1::Runtime>(runtime));
  const Node* nodes = reader.Find("nodes");
  if (nodes == nullptr) return;
  if (nodes->kind != Node::Kind::kSequence) return reader.Expected("nodes", *nodes);
  for (size_t i = 0; i < nodes->items.size(); ++i) {
    ReadNode(nodes->items[i], Index("nodes", i), report, stack->add_nodes());
  }
}

}  // namespace loadstar::spec
