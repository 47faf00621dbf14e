#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/spec/spec.h"
#include "lib/spec/units.h"
#include "tests/spec/documents.h"

namespace loadstar::spec {
namespace {

using ::testing::ElementsAre;

TEST(Parse, ReadsATestAndFillsInItsDefaults) {
  const Parsed parsed = ParseText(kTest);
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  ASSERT_EQ(parsed.kind, Parsed::Kind::kTest);
  const v1::TestSpec& test = parsed.test;
  EXPECT_EQ(test.name(), "full");
  EXPECT_THAT(test.target().endpoints(), ElementsAre("127.0.0.1:9100"));
  EXPECT_EQ(test.target().protocol(), v1::PROTOCOL_TCP);
  EXPECT_EQ(test.target().tcp().payload_bytes(), 64u);
  EXPECT_FALSE(test.target().has_mcp());
  ASSERT_EQ(test.load().connections_size(), 2);
  EXPECT_EQ(test.load().connections(0).to_connections(), 100'000u);
  EXPECT_FALSE(test.load().connections(0).hold());
  EXPECT_EQ(test.load().connections(1).to_connections(), 100'000u);
  EXPECT_TRUE(test.load().connections(1).hold());
  EXPECT_EQ(FromProto(test.load().connections(1).duration()), absl::Minutes(5));
  EXPECT_EQ(test.load().requests().model(), v1::REQUEST_MODEL_OPEN);
  EXPECT_EQ(test.load().requests().rate_per_s(), 1);
  EXPECT_EQ(test.load().requests().rate_scope(), v1::RATE_SCOPE_PER_CONNECTION);
  EXPECT_EQ(test.load().requests().arrival(), v1::ARRIVAL_CONSTANT);
  EXPECT_EQ(test.load().requests().burst_requests(), 0u);
  EXPECT_EQ(test.load().requests().late_requests(), v1::LATE_REQUESTS_SEND);
  EXPECT_EQ(FromProto(test.load().requests().timeout()), absl::Seconds(30));
  EXPECT_EQ(test.load().requests().pipeline(), 1u);
  EXPECT_EQ(FromProto(test.load().connect_timeout()), absl::Seconds(10));
  EXPECT_TRUE(test.load().has_reconnect());
  EXPECT_FALSE(test.load().reconnect().enabled());
  ASSERT_EQ(test.thresholds_size(), 1);
  EXPECT_EQ(test.thresholds(0).text(), "latency.p99 < 50ms");
}

TEST(Parse, HttpHasDefaults) {
  const auto http_of = [](std::string_view settings) {
    const Parsed parsed = ParseText(With(kTest, "protocol: tcp", settings));
    EXPECT_EQ(ToString(parsed.problems), "");
    return parsed.test.target().http();
  };
  v1::HttpOptions http = http_of("protocol: http");
  EXPECT_EQ(http.method(), "GET");
  EXPECT_EQ(http.path(), "/");
  EXPECT_EQ(http.headers_size(), 0);
  EXPECT_EQ(http.expect_status_size(), 0);
  EXPECT_EQ(http_of("protocol: http\n  http: {body: x}").method(), "POST");
  http = http_of("protocol: mcp-http");
  EXPECT_EQ(http.path(), "/mcp");
  EXPECT_EQ(http.method(), "");
}

TEST(Parse, ReadsEverySettingOfHttp) {
  const Parsed parsed = ParseText(With(kTest, "protocol: tcp", R"(protocol: http
  http:
    method: PUT
    path: /a?b=c%20d
    headers: {Host: example.org, X-Number: 5, Accept: "a, b", accept: c}
    body: "line\nline"
    expect: [201, 503])"));
  ASSERT_EQ(ToString(parsed.problems), "");
  const v1::HttpOptions& http = parsed.test.target().http();
  EXPECT_EQ(http.method(), "PUT");
  EXPECT_EQ(http.path(), "/a?b=c%20d");
  ASSERT_EQ(http.headers_size(), 4);
  EXPECT_EQ(http.headers(1).name() + "=" + http.headers(1).value(), "X-Number=5");
  EXPECT_EQ(http.headers(3).name() + "=" + http.headers(3).value(), "accept=c");
  EXPECT_EQ(http.body(), "line\nline");
  EXPECT_THAT(http.expect_status(), ElementsAre(201, 503));
}

TEST(Parse, ReadsEverySettingOfATest) {
  const Parsed parsed = ParseText(R"(
apiVersion: loadstar/v1
kind: Test
name: all-of-it
target:
  stack: four-nodes
  protocol: mcp-tcp
  mcp:
    method: tools/call
    tool: echo
    arguments: {text: "5", count: 5, deep: {list: [1, 2.5, true, null, yes]}}
load:
  connections: [{ramp: 10s, to: 10}, {hold: 5s}, {ramp: 1s, to: 0}]
  requests: {model: closed, think: 100ms, timeout: 2s, pipeline: 4}
  connectTimeout: 3s
  reconnect: {initial: 50ms, max: 5s}
  heartbeat: {every: 30s, timeout: 2500ms}
  keepalive: {idle: 1m, interval: 5s, probes: 4}
  sourceAddresses: [127.0.1.1-127.0.1.3, 127.0.2.1]
  workers: 3
  agents: [host1, host2]
  seed: 42
)");
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  const v1::TestSpec& test = parsed.test;
  EXPECT_EQ(test.target().stack(), "four-nodes");
  EXPECT_EQ(test.target().mcp().method(), "tools/call");
  EXPECT_EQ(test.target().mcp().tool(), "echo");
  EXPECT_EQ(test.target().mcp().arguments_json(), R"({"text":"5","count":5,"deep":{"list":[1,2.5,true,null,"yes"]}})");
  EXPECT_EQ(test.load().connections(2).to_connections(), 0u);
  EXPECT_EQ(test.load().requests().model(), v1::REQUEST_MODEL_CLOSED);
  EXPECT_EQ(FromProto(test.load().requests().think()), absl::Milliseconds(100));
  EXPECT_EQ(test.load().requests().pipeline(), 4u);
  EXPECT_TRUE(test.load().reconnect().enabled());
  EXPECT_EQ(FromProto(test.load().reconnect().initial_backoff()), absl::Milliseconds(50));
  EXPECT_EQ(FromProto(test.load().reconnect().max_backoff()), absl::Seconds(5));
  EXPECT_EQ(FromProto(test.load().heartbeat().every()), absl::Seconds(30));
  EXPECT_EQ(FromProto(test.load().heartbeat().timeout()), absl::Milliseconds(2500));
  EXPECT_EQ(FromProto(test.load().keepalive().idle()), absl::Minutes(1));
  EXPECT_EQ(FromProto(test.load().keepalive().interval()), absl::Seconds(5));
  EXPECT_EQ(test.load().keepalive().probes(), 4u);
  EXPECT_THAT(test.load().source_addresses(), ElementsAre("127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.2.1"));
  EXPECT_EQ(test.load().workers(), 3u);
  EXPECT_THAT(test.load().agents(), ElementsAre("host1", "host2"));
  EXPECT_EQ(test.load().seed(), 42u);
}

TEST(Parse, ReadsBurstsAndWhatBecomesOfLateRequests) {
  const Parsed parsed = ParseText(
      With(kTest, "    model: open", "    model: open\n    arrival: burst\n    burst: 1k\n    lateRequests: skip"));
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  EXPECT_EQ(parsed.test.load().requests().arrival(), v1::ARRIVAL_BURST);
  EXPECT_EQ(parsed.test.load().requests().burst_requests(), 1000u);
  EXPECT_EQ(parsed.test.load().requests().late_requests(), v1::LATE_REQUESTS_SKIP);
}

TEST(Parse, HeartbeatAndKeepaliveAreOffUnlessAskedForAndADurationIsEnough) {
  const Parsed without = ParseText(kTest);
  EXPECT_FALSE(without.test.load().has_heartbeat());
  EXPECT_FALSE(without.test.load().has_keepalive());
  const Parsed parsed = ParseText(With(kTest, "  requests:", "  heartbeat: 500ms\n  keepalive: 60s\n  requests:"));
  ASSERT_EQ(ToString(parsed.problems), "");
  const v1::LoadSpec& load = parsed.test.load();
  EXPECT_EQ(FromProto(load.heartbeat().every()), absl::Milliseconds(500));
  EXPECT_EQ(FromProto(load.heartbeat().timeout()), absl::Seconds(10));
  EXPECT_EQ(FromProto(load.keepalive().idle()), absl::Minutes(1));
  EXPECT_EQ(FromProto(load.keepalive().interval()), absl::Seconds(10));
  EXPECT_EQ(load.keepalive().probes(), 3u);
}

TEST(Parse, TakesReconnectNone) {
  const Parsed parsed = ParseText(With(kTest, "  requests:", "  reconnect: none\n  requests:"));
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  EXPECT_FALSE(parsed.test.load().reconnect().enabled());
}

TEST(Parse, ReadsAStackAndFillsInItsDefaults) {
  const Parsed parsed = ParseText(kStack);
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  ASSERT_EQ(parsed.kind, Parsed::Kind::kStack);
  ASSERT_EQ(parsed.stack.nodes_size(), 2);
  const v1::NodeSpec& node = parsed.stack.nodes(0);
  EXPECT_EQ(node.listen_address(), "127.0.0.1:9100");
  EXPECT_EQ(node.api_address(), "127.0.0.1:8080");
  EXPECT_EQ(node.processes(), 1u);
  EXPECT_EQ(node.health().path(), "/health");
  EXPECT_EQ(FromProto(node.health().start_timeout()), absl::Seconds(30));
  EXPECT_EQ(node.restart(), v1::RESTART_POLICY_NEVER);
  EXPECT_EQ(FromProto(node.stop_timeout()), absl::Seconds(10));
  EXPECT_EQ(parsed.stack.nodes(1).health().path(), "");
}

TEST(Parse, ReadsEverySettingOfANode) {
  const Parsed parsed = ParseText(R"(
apiVersion: loadstar/v1
kind: Stack
name: own
runtime: process
nodes:
  - name: node1
    role: leader
    listen: 0.0.0.0:9100
    api: "[::1]:8080"
    command: [./server, --port, 9100]
    environment: {LOG: debug, EMPTY: }
    health: {path: /ready, interval: 500ms, timeout: 1s, startTimeout: 1m}
    restart: on-failure
    stopTimeout: 3s
    agent: host1
)");
  ASSERT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
  const v1::NodeSpec& node = parsed.stack.nodes(0);
  EXPECT_EQ(node.role(), "leader");
  EXPECT_EQ(node.api_address(), "[::1]:8080");
  EXPECT_THAT(node.command(), ElementsAre("./server", "--port", "9100"));
  EXPECT_THAT(node.environment(), ElementsAre("LOG=debug", "EMPTY="));
  EXPECT_EQ(node.health().path(), "/ready");
  EXPECT_EQ(node.restart(), v1::RESTART_POLICY_ON_FAILURE);
  EXPECT_EQ(FromProto(node.stop_timeout()), absl::Seconds(3));
  EXPECT_EQ(node.agent(), "host1");
}

TEST(Parse, ReportsAllProblemsAtOnceInTheOrderOfTheText) {
  const Parsed parsed = ParseText(R"(apiVersion: loadstar/v2
kind: Test
name: Full Load
target:
  endpoints: [127.0.0.1]
  protocol: tpc
load:
  conections: []
  workers: many
thresholds: latency.p99 < 50ms
)");
  EXPECT_EQ(parsed.kind, Parsed::Kind::kNone);
  EXPECT_EQ(ToString(parsed.problems),
            R"(1. test.yaml:1:13: apiVersion: unknown apiVersion "loadstar/v2". Write apiVersion: loadstar/v1
2. test.yaml:3:7: name: "Full Load" is no name: lower-case letters, digits and "-", at most 63. Write it such as full-load
3. test.yaml:5:15: target.endpoints[0]: "127.0.0.1" has no port. Write HOST:PORT or [V6]:PORT, such as 127.0.0.1:9100
4. test.yaml:6:13: target.protocol: unknown protocol "tpc"; known: tcp, mcp-tcp, http, mcp-http. Did you mean "tcp"?
5. test.yaml:8:3: load.conections: unknown key "conections". Did you mean "connections" (the connections held open over time)?
6. test.yaml:9:12: load.workers: "many" does not start with a digit. Write a whole number, with k, M or G for thousands, such as 10000 or 100k (left out, it is computed)
7. test.yaml:10:13: thresholds: found "latency.p99 < 50ms" where a list such as [latency.p99 < 50ms] is expected. Write a list such as [latency.p99 < 50ms] (left out, it is no thresholds))");
}

TEST(Parse, LimitsTheNumberOfProblems) {
  std::string nodes;
  for (int i = 0; i < 500; ++i) nodes += "  - {nam: x}\n";
  const Parsed parsed = ParseText("apiVersion: loadstar/v1\nkind: Stack\nname: a\nruntime: process\nnodes:\n" + nodes);
  ASSERT_EQ(parsed.problems.size(), 101u);
  EXPECT_THAT(parsed.problems.back().message(), ::testing::HasSubstr("more problems"));
}

TEST(Parse, WithoutAFileNameNamesTheLine) {
  v1::Document document;
  document.set_yaml("apiVersion: loadstar/v1\nkind: Tset\n");
  EXPECT_EQ(ToString(Parse(document).problems), "1. line 2:7: kind: unknown kind \"Tset\". Did you mean \"Test\"?");
}

}  // namespace
}  // namespace loadstar::spec
