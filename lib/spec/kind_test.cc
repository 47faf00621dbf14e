#include <array>
#include <optional>
#include <string>

#include "lib/spec/json.h"
#include "lib/spec/kinds.h"
#include "lib/spec/reader.h"
#include "lib/spec/text.h"
#include "lib/spec/threshold.h"
#include "lib/spec/units.h"

namespace loadstar::spec {
namespace {

constexpr std::array kTestKeys = {
    KeyInfo{"apiVersion", "loadstar/v1", "", "the version of the document format"},
    KeyInfo{"kind", "Test", "", "what the document describes"},
    KeyInfo{"name", "a name such as my-test", "", "the test's name"},
    KeyInfo{"target", "a mapping such as {stack: four-nodes, protocol: tcp}", "", "what is put under load"},
    KeyInfo{"load", "a mapping with connections and requests", "", "the load"},
    KeyInfo{"thresholds", "a list such as [latency.p99 < 50ms]", "no thresholds", "conditions that decide the verdict"},
};
constexpr std::array kTargetKeys = {
    KeyInfo{"stack", "the name of a stack such as four-nodes", "", "the deployment whose nodes are put under load"},
    KeyInfo{"endpoints", "a list such as [127.0.0.1:9100]", "", "the addresses that are put under load"},
    KeyInfo{"protocol", "tcp, mcp-tcp, http or mcp-http", "", "what is spoken on each connection"},
    KeyInfo{"tcp", "a mapping such as {payload: 64}", "{payload: 64}", "settings of the protocol tcp"},
    KeyInfo{"mcp", "a mapping such as {method: ping}", "{method: ping}",
            "settings of the protocols mcp-tcp and mcp-http"},
    KeyInfo{"http", "a mapping such as {path: /index.html}", "{method: GET, path: /}",
            "settings of the protocols http and mcp-http"},
    KeyInfo{"tls", "", "", "encryption of the connections", false},
};
constexpr std::array kTcpKeys = {
    KeyInfo{"payload", "a size such as 64 or 4KiB", "64", "bytes of each request and of its echo"},
};
constexpr std::array kMcpKeys = {
    KeyInfo{"method", "ping or tools/call", "ping, or tools/call with a tool", "the method of every request"},
    KeyInfo{"tool", "a tool's name", "", "the tool that tools/call calls"},
    KeyInfo{"arguments", "a mapping such as {text: hello}", "{}", "the arguments of tools/call"},
};
constexpr std::array kHttpKeys = {
    KeyInfo{"method", "a method such as GET or POST", "GET, or POST with a body", "the method of every request"},
    KeyInfo{"path", "a path such as /index.html?page=1", "/, or /mcp with mcp-http", "path and query of every request"},
    KeyInfo{"headers", "a mapping such as {Accept: text/html}", "no more than Host", "additional headers"},
    KeyInfo{"body", "a text", "no body", "the body of every request"},
    KeyInfo{"expect", "a list of statuses such as [200, 204]", "200 to 399", "the statuses that count as success"},
};
constexpr std::array kLoadKeys = {
    KeyInfo{"connections", "a list of stages such as [{ramp: 1m, to: 1k}, {hold: 1m}]", "",
            "the connections held open over time"},
    KeyInfo{"requests", "a mapping such as {model: open, rate: 1/s per connection}", "no requests",
            "the requests on the connections"},
    KeyInfo{"connectTimeout", "a duration such as 10s", "10s", "after which a connect counts as failed"},
    KeyInfo{"reconnect", "none, or a mapping such as {initial: 100ms, max: 10s}", "none",
            "what follows a failed or lost connection"},
    KeyInfo{"heartbeat", "a duration such as 30s, or a mapping such as {every: 30s, timeout: 10s}", "no heartbeats",
            "requests that ask idle connections for a sign of life"},
    KeyInfo{"keepalive", "a duration such as 60s, or a mapping such as {idle: 60s, interval: 10s, probes: 3}",
            "no keepalive", "the kernel's own probes of idle connections"},
    KeyInfo{"sourceAddresses", "a list such as [127.0.0.2-127.0.0.9] or [127.1.0.0/24]", "the kernel's choice",
            "local addresses to connect from"},
    KeyInfo{"workers", "a whole number such as 8", "computed", "worker processes in all"},
    KeyInfo{"agents", "a list of names such as [host1]", "all agents", "the agents that make the load"},
    KeyInfo{"seed", "a whole number such as 42", "drawn at the start", "the seed of every random choice"},
};
constexpr std::array kStageKeys = {
    KeyInfo{"ramp", "a duration such as 5m", "", "how long the way to the new number takes"},
    KeyInfo{"to", "a count such as 100k", "", "connections at the end of a ramp"},
    KeyInfo{"hold", "a duration such as 5m", "", "how long the number is kept"},
};
constexpr std::array kRequestsKeys = {
    KeyInfo{"model", "open or closed", "", "what makes the next request due"},
    KeyInfo{"rate", "a rate such as 1/s per connection or 100k/s total", "", "requests a second of the open model"},
    KeyInfo{"arrival", "constant, poisson or burst", "constant", "the spacing of requests in the open model"},
    KeyInfo{"burst", "a whole number such as 100", "", "requests that are due at one instant with arrival: burst"},
    KeyInfo{"lateRequests", "send or skip", "send", "what becomes of requests that are late by more than an interval"},
    KeyInfo{"think", "a duration such as 100ms", "0s", "the pause before the next request in the closed model"},
    KeyInfo{"timeout", "a duration such as 30s", "30s", "after which a request without an answer counts as failed"},
    KeyInfo{"pipeline", "a whole number such as 1", "1", "requests in flight allowed on a connection"},
};
constexpr std::array kReconnectKeys = {
    KeyInfo{"initial", "a duration such as 100ms", "100ms", "the first delay"},
    KeyInfo{"max", "a duration such as 10s", "10s", "the longest delay"},
};

constexpr std::array kHeartbeatKeys = {
    KeyInfo{"every", "a duration such as 30s", "", "how long a connection is idle before it is asked"},
    KeyInfo{"timeout", "a duration such as 10s", "10s", "after which a connection without an answer is lost"},
};
constexpr std::array kKeepaliveKeys = {
    KeyInfo{"idle", "a duration of whole seconds such as 60s", "",
            "how long a connection is idle before the first probe"},
    KeyInfo{"interval", "a duration of whole seconds such as 10s", "10s", "the time between probes"},
    KeyInfo{"probes", "a whole number such as 3", "3", "probes without an answer after which a connection is lost"},
};

constexpr std::array kProtocols = {
    Choice{"tcp", v1::PROTOCOL_TCP},   Choice{"mcp-tcp", v1::PROTOCOL_MCP_TCP},
    Choice{"http", v1::PROTOCOL_HTTP}, Choice{"mcp-http", v1::PROTOCOL_MCP_HTTP},
    Choice{"websocket", 0, false},     Choice{"grpc", 0, false},
};
constexpr std::array kModels = {Choice{"open", v1::REQUEST_MODEL_OPEN}, Choice{"closed", v1::REQUEST_MODEL_CLOSED}};
constexpr std::array kArrivals = {Choice{"constant", v1::ARRIVAL_CONSTANT}, Choice{"poisson", v1::ARRIVAL_POISSON},
                                  Choice{"burst", v1::ARRIVAL_BURST}};
constexpr std::array kLateRequests = {Choice{"send", v1::LATE_REQUESTS_SEND}, Choice{"skip", v1::LATE_REQUESTS_SKIP}};

// A number that proto3 cannot tell from an absent one.
void RefuseZero(const Reader& reader, std::string_view name, uint32_t value) {
  if (value == 0) reader.Wrong(name, *reader.Find(name), {Cat(name, " is 0"), "Write 1 or more"});
}

void ReadTcp(const Node& node, const std::string& path, Report* report, v1::TcpOptions* tcp) {
  const Reader reader(node, path, "a mapping of settings", kTcpKeys, report);
  uint32_t payload = 0;
  if (!reader.Size("payload", &payload)) return;
  RefuseZero(reader, "payload", payload);
  tcp->set_payload_bytes(payload);
}

void ReadMcp(const Node& node, const std::string& path, Report* report, v1::McpOptions* mcp) {
  const Reader reader(node, path, "a mapping of settings", kMcpKeys, report);
  reader.Text("method", mcp->mutable_method());
  reader.Text("tool", mcp->mutable_tool());
  const Node* arguments = reader.Find("arguments");
  if (arguments == nullptr) return;
  if (arguments->kind != Node::Kind::kMapping) return reader.Expected("arguments", *arguments);
  mcp->set_arguments_json(ToJson(*arguments));
}

void ReadHttp(const Node& node, const std::string& path, Report* report, v1::HttpOptions* http) {
  const Reader reader(node, path, "a mapping of settings", kHttpKeys, report);
  reader.Text("method", http->mutable_method());
  reader.Text("path", http->mutable_path());
  reader.Text("body", http->mutable_body());
  if (const Node* headers = reader.Find("headers")) {
    if (headers->kind != Node::Kind::kMapping) reader.Expected("headers", *headers);
    for (size_t i = 0; i < headers->keys.size(); ++i) {
      const Node& value = headers->items[i];
      if (value.kind != Node::Kind::kScalar) {
        report->AddAt(
            value.place, Join(reader.PathOf("headers"), headers->keys[i].text),
            {Cat("found ", KindName(value.kind), " where the text of a header is expected"), "Write it in quotes"});
        continue;
      }
      v1::HttpHeader* header = http->add_headers();
      header->set_name(headers->keys[i].text);
      header->set_value(value.text);
    }
  }
  if (const Node* expect = reader.Find("expect")) {
    if (expect->kind != Node::Kind::kSequence) reader.Expected("expect", *expect);
    for (size_t i = 0; i < expect->items.size(); ++i) {
      const Node& item = expect->items[i];
      size_t status = 0;
      if (item.kind != Node::Kind::kScalar || !ReadDigits(item.text, &status) || status > UINT32_MAX) {
        report->AddAt(item.place, Index(reader.PathOf("expect"), i), {"a status is a number", "Write such as 200"});
        status = 0;
      }
      http->add_expect_status(static_cast<uint32_t>(status));  // even when spoilt: the numbers stay the document's
    }
  }
}

void ReadTarget(const Node& node, Report* report, v1::TargetSpec* target) {
  const Reader reader(node, "target", "a mapping of the target", kTargetKeys, report);
  reader.Text("stack", target->mutable_stack());
  reader.Texts("endpoints", target->mutable_endpoints());
  int protocol = 0;
  if (reader.Choose("protocol", kProtocols, &protocol)) target->set_protocol(static_cast<v1::Protocol>(protocol));
  if (const Node* tcp = reader.Find("tcp")) ReadTcp(*tcp, reader.PathOf("tcp"), report, target->mutable_tcp());
  if (const Node* mcp = reader.Find("mcp")) ReadMcp(*mcp, reader.PathOf("mcp"), report, target->mutable_mcp());
  if (const Node* http = reader.Find("http")) ReadHttp(*http, reader.PathOf("http"), report, target->mutable_http());
}

void ReadStage(const Node& node, const std::string& path, Report* report, v1::Stage* stage) {
  const Reader reader(node, path, "a stage such as {ramp: 5m, to: 100k} or {hold: 5m}", kStageKeys, report);
  if (node.kind != Node::Kind::kMapping) return;
  const bool ramp = node.Find("ramp") != nullptr, hold = node.Find("hold") != nullptr, to = node.Find("to") != nullptr;
  stage->set_hold(hold && !ramp);
  if (const auto duration = reader.Duration(stage->hold() ? "hold" : "ramp")) *stage->mutable_duration() = *duration;
  uint64_t connections = 0;
  if (reader.Count("to", &connections)) stage->set_to_connections(connections);
  if (ramp && hold) {
    report->Add(path, "the stage is both a ramp and a hold", "Make two stages of it");
  } else if (!ramp && !hold) {
    report->Add(Join(path, "ramp"), "the stage says neither ramp nor hold", "Write {ramp: 5m, to: 100k} or {hold: 5m}");
  } else if (ramp && !to) {
    report->Add(Join(path, "to"), "the ramp does not say where to", "Write to: COUNT beside it");
  } else if (hold && to) {
    report->Add(Join(path, "to"), "a hold keeps the connections that there were before it",
                "Take it out, or write ramp");
  }
}

void ReadRequests(const Node& node, Report* report, v1::RequestsSpec* requests) {
  const Reader reader(node, "load.requests", "a mapping of the requests", kRequestsKeys, report);
  int choice = 0;
  if (reader.Choose("model", kModels, &choice)) requests->set_model(static_cast<v1::RequestModel>(choice));
  if (reader.Choose("arrival", kArrivals, &choice)) requests->set_arrival(static_cast<v1::Arrival>(choice));
  if (reader.Choose("lateRequests", kLateRequests, &choice)) {
    requests->set_late_requests(static_cast<v1::LateRequests>(choice));
  }
  uint32_t burst = 0;
  if (reader.Count("burst", &burst)) {
    if (burst == 0) reader.Wrong("burst", *reader.Find("burst"), {"burst is 0", "Write 2 or more"});
    requests->set_burst_requests(burst);
  }
  std::string rate;
  if (reader.Text("rate", &rate)) {
    double per_s = 0;
    v1::RateScope scope = v1::RATE_SCOPE_UNSPECIFIED;
    if (MaybeFlaw flaw = ReadScopedRate(rate, &per_s, &scope)) {
      reader.Wrong("rate", *reader.Find("rate"), *std::move(flaw));
    } else {
      requests->set_rate_per_s(per_s);
      requests->set_rate_scope(scope);
    }
  }
  if (const auto think = reader.Duration("think")) *requests->mutable_think() = *think;
  if (const auto timeout = reader.Duration("timeout")) *requests->mutable_timeout() = *timeout;
  uint32_t pipeline = 0;
  if (reader.Count("pipeline", &pipeline)) {
    RefuseZero(reader, "pipeline", pipeline);
    requests->set_pipeline(pipeline);
  }
}

void ReadReconnect(const Reader& load, const Node& node, Report* report, v1::ReconnectSpec* reconnect) {
  if (node.kind == Node::Kind::kScalar) {
    if (node.text != "none") load.Expected("reconnect", node);
    return;
  }
  const Reader reader(node, "load.reconnect", "none, or a mapping of delays,", kReconnectKeys, report);
  reconnect->set_enabled(true);
  if (const auto initial = reader.Duration("initial")) *reconnect->mutable_initial_backoff() = *initial;
  if (const auto max = reader.Duration("max")) *reconnect->mutable_max_backoff() = *max;
}

// A duration alone is the one value that has no default.
void ReadHeartbeat(const Reader& load, const Node& node, Report* report, v1::HeartbeatSpec* heartbeat) {
  if (node.kind == Node::Kind::kScalar) {
    if (const auto every = load.Duration("heartbeat")) *heartbeat->mutable_every() = *every;
    return;
  }
  const Reader reader(node, load.PathOf("heartbeat"), "a duration, or a mapping of durations,", kHeartbeatKeys, report);
  if (const auto every = reader.Duration("every")) *heartbeat->mutable_every() = *every;
  if (const auto timeout = reader.Duration("timeout")) *heartbeat->mutable_timeout() = *timeout;
}

void ReadKeepalive(const Reader& load, const Node& node, Report* report, v1::KeepaliveSpec* keepalive) {
  if (node.kind == Node::Kind::kScalar) {
    if (const auto idle = load.Duration("keepalive")) *keepalive->mutable_idle() = *idle;
    return;
  }
  const Reader reader(node, load.PathOf("keepalive"), "a duration, or a mapping of settings,", kKeepaliveKeys, report);
  if (const auto idle = reader.Duration("idle")) *keepalive->mutable_idle() = *idle;
  if (const auto interval = reader.Duration("interval")) *keepalive->mutable_interval() = *interval;
  uint32_t probes = 0;
  if (reader.Count("probes", &probes)) {
    RefuseZero(reader, "probes", probes);
    keepalive->set_probes(probes);
  }
}

void ReadLoad(const Node& node, Report* report, v1::LoadSpec* load) {
  const Reader reader(node, "load", "a mapping of the load", kLoadKeys, report);
  if (const Node* connections = reader.Find("connections")) {
    if (connections->kind != Node::Kind::kSequence) reader.Expected("connections", *connections);
    for (size_t i = 0; connections->kind == Node::Kind::kSequence && i < connections->items.size(); ++i) {
      ReadStage(connections->items[i], Index("load.connections", i), report, load->add_connections());
    }
  }
  if (const Node* requests = reader.Find("requests")) ReadRequests(*requests, report, load->mutable_requests());
  if (const auto timeout = reader.Duration("connectTimeout")) *load->mutable_connect_timeout() = *timeout;
  if (const Node* reconnect = reader.Find("reconnect")) {
    ReadReconnect(reader, *reconnect, report, load->mutable_reconnect());
  }
  if (const Node* heartbeat = reader.Find("heartbeat")) {
    ReadHeartbeat(reader, *heartbeat, report, load->mutable_heartbeat());
  }
  if (const Node* keepalive = reader.Find("keepalive")) {
    ReadKeepalive(reader, *keepalive, report, load->mutable_keepalive());
  }
  reader.Texts("sourceAddresses", load->mutable_source_addresses());
  uint32_t workers = 0;
  if (reader.Count("workers", &workers)) load->set_workers(workers);
  reader.Texts("agents", load->mutable_agents());
  uint64_t seed = 0;
  if (reader.Count("seed", &seed)) load->set_seed(seed);
}

void ReadThresholds(const Node& node, Report* report, v1::TestSpec* test) {
  for (size_t i = 0; i < node.items.size(); ++i) {
    const std::string field = Index("thresholds", i);
    const Node& item = node.items[i];
    v1::ThresholdSpec* threshold = test->add_thresholds();  // even when spoilt, so that the numbers stay the document's
    if (item.kind != Node::Kind::kScalar) {
      report->AddAt(
          item.place, field,
          {Cat("found ", KindName(item.kind), " where a condition is expected"), "Write such as latency.p99 < 50ms"});
    } else if (MaybeFlaw flaw = ReadThreshold(item.text, threshold)) {
      report->AddAt(item.place, field, *std::move(flaw));
    }
  }
}

}  // namespace

void ReadTest(const Node& root, Report* report, v1::TestSpec* test) {
  const Reader reader(root, "", "a mapping of a document", kTestKeys, report);
  reader.Text("name", test->mutable_name());
  if (const Node* target = reader.Find("target")) ReadTarget(*target, report, test->mutable_target());
  if (const Node* load = reader.Find("load")) ReadLoad(*load, report, test->mutable_load());
  const Node* thresholds = reader.Find("thresholds");
  if (thresholds == nullptr) return;
  if (thresholds->kind != Node::Kind::kSequence) return reader.Expected("thresholds", *thresholds);
  ReadThresholds(*thresholds, report, test);
}

}  // namespace loadstar::spec
