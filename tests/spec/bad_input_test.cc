// Every bad document gets a clear error: the place, what is wrong, and what to write instead.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>
#include <string>

#include "lib/spec/spec.h"
#include "tests/spec/documents.h"

namespace loadstar::spec {
namespace {

using ::testing::HasSubstr;

struct BadInput {
  std::string name;
  std::string yaml;
  std::string expected;  // the whole first problem, or its beginning
};

void PrintTo(const BadInput& bad, std::ostream* out) { *out << bad.name; }

class BadInputTest : public ::testing::TestWithParam<BadInput> {};

TEST_P(BadInputTest, GetsOneClearError) {
  const Parsed parsed = ParseText(GetParam().yaml);
  ASSERT_FALSE(parsed.problems.empty());
  EXPECT_EQ(parsed.kind, Parsed::Kind::kNone);
  EXPECT_THAT(ToString(parsed.problems[0]), ::testing::StartsWith(GetParam().expected));
  EXPECT_EQ(parsed.problems.size(), 1u) << ToString(parsed.problems);
}

std::string TestWith(std::string_view from, std::string_view to) { return With(kTest, from, to); }
std::string StackWith(std::string_view from, std::string_view to) { return With(kStack, from, to); }

std::string Bomb() {
  std::string text = "a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (char c = 'b'; c <= 'i'; ++c) {
    text += std::string(1, c) + ": &" + c + " [";
    for (int i = 0; i < 9; ++i) text += std::string(i == 0 ? "*" : ", *") + static_cast<char>(c - 1);
    text += "]\n";
  }
  return text;
}

std::string Nested(size_t depth) { return "a: " + std::string(depth, '[') + std::string(depth, ']') + "\n"; }

std::string ManyNodes() {
  std::string text = "a:\n";
  for (int i = 0; i < 11'000; ++i) text += "- 1\n";
  return text;
}

const BadInput kBadTests[] = {
    {"UnknownKey", TestWith("  requests:", "  request:"),
     "test.yaml:11:3: load.request: unknown key \"request\". Did you mean \"requests\" (the requests on the "
     "connections)?"},
    {"UnknownKeyWithoutANearOne", TestWith("  requests:", "  velocity: 1\n  requests:"),
     "test.yaml:11:3: load.velocity: unknown key \"velocity\". Known here: connections, requests, connectTimeout"},
    {"ListForDuration", TestWith("ramp: 5m", "ramp: [5m]"),
     "test.yaml:9:14: load.connections[0].ramp: found a list where a duration such as 5m is expected"},
    {"TextForMapping", TestWith("target:\n  endpoints: [127.0.0.1:9100]\n  protocol: tcp", "target: here"),
     "test.yaml:4:9: target: found \"here\" where a mapping of the target is expected. Keys: stack, endpoints"},
    {"MappingForList", TestWith("    - {ramp: 5m, to: 100k}\n    - {hold: 5m}", "    ramp: 5m\n    to: 100k"),
     "test.yaml:9:5: load.connections: found a mapping where a list of stages such as"},
    {"NoValue", TestWith("model: open", "model:"), "test.yaml:12:5: load.requests.model: the key has no value"},
    {"BadUnit", TestWith("ramp: 5m", "ramp: 5 minute"),
     "test.yaml:9:14: load.connections[0].ramp: \"5 minute\" contains a blank. Write 5m"},
    {"NoUnit", TestWith("hold: 5m", "hold: 5"),
     "test.yaml:10:14: load.connections[1].hold: \"5\" has no unit. Write 5s for seconds"},
    {"NegativeDuration", TestWith("hold: 5m", "hold: -5m"),
     "test.yaml:10:14: load.connections[1].hold: \"-5m\" is negative"},
    {"NegativeConnections", TestWith("to: 100k", "to: -1"),
     "test.yaml:9:22: load.connections[0].to: \"-1\" is negative"},
    {"AbsurdConnections", TestWith("to: 100k", "to: 1e12"),
     "test.yaml:9:22: load.connections[0].to: 1000G connections are absurd. At most 100M are possible"},
    {"AbsurdDuration", TestWith("hold: 5m", "hold: 400d"),
     "test.yaml:10:14: load.connections[1].hold: 9600h is too long. At most 744h is allowed"},
    {"ProfileTooLong", TestWith("{hold: 5m}", "{hold: 20d}\n    - {hold: 20d}"),
     "test.yaml:8:3: load.connections: the load profile takes 960h5m. At most 744h is allowed"},
    {"ZeroDuration", TestWith("hold: 5m", "hold: 0s"), "test.yaml:10:14: load.connections[1].hold: a stage needs time"},
    {"EmptyProfile", TestWith("\n    - {ramp: 5m, to: 100k}\n    - {hold: 5m}", " []"),
     "test.yaml:8:3: load.connections: the load profile is empty. Write stages, such as"},
    {"NoProfile", TestWith("  connections:\n    - {ramp: 5m, to: 100k}\n    - {hold: 5m}\n", ""),
     "test.yaml:7:1: load.connections: the load profile is empty"},
    {"ProfileOfNothing", TestWith("to: 100k", "to: 0"),
     "test.yaml:8:3: load.connections: the load profile never has a connection"},
    {"RampToNowhere", TestWith("{ramp: 5m, to: 100k}", "{ramp: 5m}"),
     "test.yaml:9:7: load.connections[0].to: the ramp does not say where to"},
    {"RampAndHold", TestWith("{hold: 5m}", "{hold: 5m, ramp: 5m, to: 5}"),
     "test.yaml:10:7: load.connections[1]: the stage is both a ramp and a hold"},
    {"HoldWithNumber", TestWith("{hold: 5m}", "{hold: 5m, to: 5}"),
     "test.yaml:10:22: load.connections[1].to: a hold keeps the connections"},
    {"StageOfNeither", TestWith("{hold: 5m}", "{}"),
     "test.yaml:10:7: load.connections[1].ramp: the stage says neither ramp nor hold"},
    {"UnknownProtocol", TestWith("protocol: tcp", "protocol: udp"),
     "test.yaml:6:13: target.protocol: unknown protocol \"udp\"; known: tcp, mcp-tcp, http, mcp-http"},
    {"LaterProtocol", TestWith("protocol: tcp", "protocol: grpc"),
     "test.yaml:6:13: target.protocol: protocol \"grpc\" is not supported by this version"},
    {"NoProtocol", TestWith("  protocol: tcp\n", ""),
     "test.yaml:4:1: target.protocol: there is no known protocol. Write protocol: tcp"},
    {"LaterTls", TestWith("protocol: tcp", "protocol: tcp\n  tls: {}"),
     "test.yaml:7:3: target.tls: tls is not supported by this version"},
    {"UnknownThresholdMetric", TestWith("latency.p99", "latency.p98"),
     "test.yaml:15:5: thresholds[0]: unknown metric \"latency.p98\". Did you mean \"latency.p9"},
    {"ThresholdNeverMeasured", TestWith("  requests:\n    model: open\n    rate: 1/s per connection\n", ""),
     "test.yaml:12:5: thresholds[0]: latency.p99 is not measured: the test sends no requests"},
    {"ThresholdNeverMeasuredByProtocol", TestWith("latency.p99", "handshake_time.p99"),
     "test.yaml:15:5: thresholds[0]: handshake_time.p99 is not measured: the protocol tcp has no handshake"},
    {"ThresholdNeverMet", TestWith("latency.p99 < 50ms", "connections.peak >= 200k"),
     "test.yaml:15:5: thresholds[0]: the load never asks for more than 100k connections, so this cannot hold. Lower"},
    {"ThresholdWithoutUnit", TestWith("< 50ms", "< 50"), "test.yaml:15:5: thresholds[0]: \"50\" has no unit"},
    {"ThresholdOperator", TestWith("< 50ms", "== 50ms"), "test.yaml:15:5: thresholds[0]: unknown operator \"==\""},
    {"StackAndEndpoints", TestWith("  protocol: tcp", "  stack: four-nodes\n  protocol: tcp"),
     "test.yaml:5:3: target.endpoints: the target has both a stack and endpoints. Keep one of the two"},
    {"NeitherStackNorEndpoints", TestWith("  endpoints: [127.0.0.1:9100]\n", ""),
     "test.yaml:4:1: target: the target has neither a stack nor endpoints. Write stack: NAME or endpoints:"},
    {"BadHost", TestWith("127.0.0.1:9100", "300.0.0.1:9100"),
     "test.yaml:5:15: target.endpoints[0]: \"300.0.0.1\" is neither an address nor a host name"},
    {"BadPort", TestWith("127.0.0.1:9100", "127.0.0.1:91000"),
     "test.yaml:5:15: target.endpoints[0]: \"91000\" is no port. Ports are 1 to 65535"},
    {"Ipv6WithoutBrackets", TestWith("127.0.0.1:9100", "\"::1:9100\""),
     "test.yaml:5:15: target.endpoints[0]: \"::1:9100\" has an IPv6 address without brackets"},
    {"SameEndpointTwice", TestWith("[127.0.0.1:9100]", "[127.0.0.1:9100, 127.0.0.1:9100]"),
     "test.yaml:5:31: target.endpoints[1]: the endpoint 127.0.0.1:9100 is there twice"},
    {"RateWithoutScope", TestWith("1/s per connection", "1/s"),
     "test.yaml:13:11: load.requests.rate: \"1/s\" does not say whether it is per connection or total"},
    {"AbsurdRate", TestWith("1/s per connection", "1M/s per connection"),
     "test.yaml:13:11: load.requests.rate: 100G/s in all is absurd. At most 1G/s is possible"},
    {"OpenWithoutRate", TestWith("\n    rate: 1/s per connection", ""),
     "test.yaml:11:3: load.requests.rate: the open model needs a rate"},
    {"ClosedWithRate", TestWith("model: open", "model: closed"),
     "test.yaml:13:11: load.requests.rate: the closed model has no rate"},
    {"OpenWithThink", TestWith("model: open", "model: open\n    think: 1s"),
     "test.yaml:13:12: load.requests.think: the open model has no think time"},
    {"UnknownArrival", TestWith("model: open", "model: open\n    arrival: bursts"),
     "test.yaml:13:14: load.requests.arrival: unknown arrival \"bursts\"; known: constant, poisson, burst"},
    {"BurstWithoutSize", TestWith("model: open", "model: open\n    arrival: burst"),
     "test.yaml:11:3: load.requests.burst: arrivals in bursts need the size of a burst. Write it such as burst: 100"},
    {"BurstOfOne", TestWith("model: open", "model: open\n    arrival: burst\n    burst: 1"),
     "test.yaml:14:12: load.requests.burst: a burst of 1 is not possible. Write 2 to 1M"},
    {"ZeroBurst", TestWith("model: open", "model: open\n    arrival: burst\n    burst: 0"),
     "test.yaml:14:12: load.requests.burst: burst is 0. Write 2 or more"},
    {"BurstOfOtherArrivals", TestWith("model: open", "model: open\n    arrival: poisson\n    burst: 5"),
     "test.yaml:14:12: load.requests.burst: only arrivals in bursts have a size"},
    {"ClosedWithBurst", TestWith("model: open\n    rate: 1/s per connection", "model: closed\n    burst: 5"),
     "test.yaml:13:12: load.requests.burst: the closed model has no bursts"},
    {"UnknownLateRequests", TestWith("model: open", "model: open\n    lateRequests: drop"),
     "test.yaml:13:19: load.requests.lateRequests: unknown lateRequests \"drop\"; known: send, skip"},
    {"ClosedWithLateRequests",
     TestWith("model: open\n    rate: 1/s per connection", "model: closed\n    lateRequests: skip"),
     "test.yaml:13:19: load.requests.lateRequests: the closed model has no late requests"},
    {"ZeroPipeline", TestWith("model: open", "model: open\n    pipeline: 0"),
     "test.yaml:13:15: load.requests.pipeline: pipeline is 0. Write 1 or more"},
    {"LargePipeline", TestWith("model: open", "model: open\n    pipeline: 99999999999"),
     "test.yaml:13:15: load.requests.pipeline: 4,294,967,295 requests in flight"},
    {"SmallPayload", TestWith("protocol: tcp", "protocol: tcp\n  tcp: {payload: 4}"),
     "test.yaml:7:18: target.tcp.payload: a payload of 4 bytes is out of bounds. Between 8 and 65536"},
    {"SettingsOfAnotherProtocol", TestWith("protocol: tcp", "protocol: tcp\n  mcp: {method: ping}"),
     "test.yaml:7:3: target.mcp: settings of MCP do not apply to the protocol tcp. Take them out or write protocol: "
     "mcp-tcp"},
    {"HttpSettingsOfTcp", TestWith("protocol: tcp", "protocol: tcp\n  http: {path: /}"),
     "test.yaml:7:3: target.http: settings of HTTP do not apply to the protocol tcp. Take them out or write protocol: "
     "http"},
    {"TcpSettingsOfHttp", TestWith("protocol: tcp", "protocol: http\n  tcp: {payload: 64}"),
     "test.yaml:7:3: target.tcp: settings of tcp do not apply to the protocol http"},
    {"McpSettingsOfHttp", TestWith("protocol: tcp", "protocol: http\n  mcp: {method: ping}"),
     "test.yaml:7:3: target.mcp: settings of MCP do not apply to the protocol http. Take them out or write protocol: "
     "mcp-http"},
    {"HttpMethodWithBlank", TestWith("protocol: tcp", "protocol: http\n  http: {method: \"GE T\"}"),
     "test.yaml:7:18: target.http.method: \"GE T\" is no method"},
    {"HttpMethodInLowerCase", TestWith("protocol: tcp", "protocol: http\n  http: {method: get}"),
     "test.yaml:7:18: target.http.method: methods are in upper case, and \"get\" is another one. Write GET"},
    {"HttpConnect", TestWith("protocol: tcp", "protocol: http\n  http: {method: CONNECT}"),
     "test.yaml:7:18: target.http.method: CONNECT opens a tunnel"},
    {"HttpPathOfUrl", TestWith("protocol: tcp", "protocol: http\n  http: {path: \"http://host/\"}"),
     "test.yaml:7:16: target.http.path: the path \"http://host/\" does not begin with \"/\". The host is the endpoint"},
    {"HttpPathWithBlank", TestWith("protocol: tcp", "protocol: http\n  http: {path: /a b}"),
     "test.yaml:7:16: target.http.path: the path \"/a b\" has characters that a request cannot carry. Percent-encode"},
    {"HttpPathWithFragment", TestWith("protocol: tcp", "protocol: http\n  http: {path: \"/a#b\"}"),
     "test.yaml:7:16: target.http.path: the path \"/a#b\" has characters that a request cannot carry"},
    {"HttpPathTooLong", TestWith("protocol: tcp", "protocol: http\n  http: {path: /" + std::string(8192, 'a') + "}"),
     "test.yaml:7:16: target.http.path: the path has 8193 bytes; at most 8 KiB are allowed"},
    {"HttpHeaderName", TestWith("protocol: tcp", "protocol: http\n  http: {headers: {\"A b\": c}}"),
     "test.yaml:7:27: target.http.headers.A b: \"A b\" is no name of a header"},
    {"HttpHeaderInjection", TestWith("protocol: tcp", "protocol: http\n  http: {headers: {A: \"b\\r\\nC: d\"}}"),
     "test.yaml:7:23: target.http.headers.A: the value \"b\\r\\nC: d\" has control characters"},
    {"HttpHeaderOfList", TestWith("protocol: tcp", "protocol: http\n  http: {headers: {A: [b]}}"),
     "test.yaml:7:23: target.http.headers.A: found a list where the text of a header is expected"},
    {"HttpHeadersOfList", TestWith("protocol: tcp", "protocol: http\n  http: {headers: [A]}"),
     "test.yaml:7:19: target.http.headers: found a list where a mapping such as {Accept: text/html} is expected"},
    {"HttpContentLength", TestWith("protocol: tcp", "protocol: http\n  http: {headers: {content-length: 5}}"),
     "test.yaml:7:36: target.http.headers.content-length: the header content-length follows from the body"},
    {"HttpTransferEncoding",
     TestWith("protocol: tcp", "protocol: http\n  http: {headers: {Transfer-Encoding: chunked}}"),
     "test.yaml:7:39: target.http.headers.Transfer-Encoding: the header Transfer-Encoding follows from the body"},
    {"HttpConnectionHeader", TestWith("protocol: tcp", "protocol: http\n  http: {headers: {Connection: upgrade}}"),
     "test.yaml:7:32: target.http.headers.Connection: the header Connection is close or keep-alive"},
    {"HttpHostTwice", TestWith("protocol: tcp", "protocol: http\n  http: {headers: {Host: a, host: b}}"),
     "test.yaml:7:35: target.http.headers.host: the header host is there twice. Keep one of them"},
    {"HttpBodyTooLarge", TestWith("protocol: tcp", "protocol: http\n  http: {body: " + std::string(262145, 'a') + "}"),
     "test.yaml:7:16: target.http.body: the body has 262145 bytes; at most 256 KiB are allowed"},
    {"HttpStatusOutOfBounds", TestWith("protocol: tcp", "protocol: http\n  http: {expect: [200, 101]}"),
     "test.yaml:7:24: target.http.expect[1]: 101 is no status of an answer. Write 200 to 599"},
    {"HttpStatusOfText", TestWith("protocol: tcp", "protocol: http\n  http: {expect: [200, 2xx]}"),
     "test.yaml:7:24: target.http.expect[1]: a status is a number. Write such as 200"},
    {"HttpStatusOfNumber", TestWith("protocol: tcp", "protocol: http\n  http: {expect: 200}"),
     "test.yaml:7:18: target.http.expect: found \"200\" where a list of statuses such as [200, 204] is expected"},
    {"HttpCloseWithPipeline",
     With(TestWith("protocol: tcp", "protocol: http\n  http: {headers: {Connection: close}}"), "model: open",
          "model: open\n    pipeline: 2"),
     "test.yaml:14:15: load.requests.pipeline: every request ends its connection (Connection: close)"},
    {"HttpCloseWithHeartbeat",
     With(TestWith("protocol: tcp", "protocol: http\n  http: {headers: {Connection: close}}"),
          "  requests:", "  heartbeat: 30s\n  requests:"),
     "test.yaml:12:14: load.heartbeat: every request ends its connection (Connection: close), and so would a "
     "heartbeat"},
    {"HeartbeatTooOften", TestWith("  requests:", "  heartbeat: 99ms\n  requests:"),
     "test.yaml:11:3: load.heartbeat.every: 99ms is too short. At least 100ms is needed"},
    {"HeartbeatTooSeldom", TestWith("  requests:", "  heartbeat: {every: 2h}\n  requests:"),
     "test.yaml:11:22: load.heartbeat.every: 2h is too long. At most 1h is allowed"},
    {"HeartbeatWithoutUnit", TestWith("  requests:", "  heartbeat: 30\n  requests:"),
     "test.yaml:11:14: load.heartbeat: \"30\" has no unit. Write 30s for seconds"},
    {"HeartbeatWithoutTime", TestWith("  requests:", "  heartbeat: {timeout: 5s}\n  requests:"),
     "test.yaml:11:3: load.heartbeat.every: a heartbeat needs to be told how long a connection is idle before it. "
     "Write it such as every: 30s"},
    {"HeartbeatTimeoutZero", TestWith("  requests:", "  heartbeat: {every: 5s, timeout: 0s}\n  requests:"),
     "test.yaml:11:35: load.heartbeat.timeout: 0s is too short. At least 1ms is needed"},
    {"HeartbeatOfList", TestWith("  requests:", "  heartbeat: [30s]\n  requests:"),
     "test.yaml:11:14: load.heartbeat: found a list where a duration, or a mapping of durations, is expected. Keys: "
     "every, timeout"},
    {"HeartbeatUnknownKey", TestWith("  requests:", "  heartbeat: {every: 5s, interval: 1s}\n  requests:"),
     "test.yaml:11:26: load.heartbeat.interval: unknown key \"interval\". Known here: every, timeout"},
    {"KeepaliveOfHalfSeconds", TestWith("  requests:", "  keepalive: 1500ms\n  requests:"),
     "test.yaml:11:3: load.keepalive.idle: 1.5s is no whole number of seconds. The kernel counts keepalive in seconds"},
    {"KeepaliveTooLong", TestWith("  requests:", "  keepalive: {idle: 60s, interval: 10h}\n  requests:"),
     "test.yaml:11:36: load.keepalive.interval: 10h is too long. At most 9h6m7s is allowed"},
    {"KeepaliveWithoutIdle", TestWith("  requests:", "  keepalive: {probes: 5}\n  requests:"),
     "test.yaml:11:3: load.keepalive.idle: keepalive needs to be told how long a connection is idle before the first"},
    {"KeepaliveOfNoProbe", TestWith("  requests:", "  keepalive: {idle: 60s, probes: 0}\n  requests:"),
     "test.yaml:11:34: load.keepalive.probes: probes is 0. Write 1 or more (left out, it is 3)"},
    {"KeepaliveOfManyProbes", TestWith("  requests:", "  keepalive: {idle: 60s, probes: 128}\n  requests:"),
     "test.yaml:11:34: load.keepalive.probes: 128 probes are too many. At most 127 are possible"},
    {"McpHttpMethod", TestWith("protocol: tcp", "protocol: mcp-http\n  http: {method: GET}"),
     "test.yaml:7:18: target.http.method: every request is a POST; the protocol mcp-http makes its own. Take it out"},
    {"McpHttpBody", TestWith("protocol: tcp", "protocol: mcp-http\n  http: {body: x}"),
     "test.yaml:7:16: target.http.body: the body is JSON-RPC"},
    {"McpHttpExpect", TestWith("protocol: tcp", "protocol: mcp-http\n  http: {expect: [200]}"),
     "test.yaml:7:10: target.http.expect: MCP says which statuses are answers"},
    {"McpHttpHeader", TestWith("protocol: tcp", "protocol: mcp-http\n  http: {headers: {mcp-session-id: x}}"),
     "test.yaml:7:36: target.http.headers.mcp-session-id: the header mcp-session-id is given by the protocol mcp-http"},
    {"ThresholdNeverMeasuredByHttp",
     With(TestWith("protocol: tcp", "protocol: http"), "latency.p99", "handshake_time.p99"),
     "test.yaml:15:5: thresholds[0]: handshake_time.p99 is not measured: the protocol http has no handshake"},
    {"ToolWithPing", TestWith("protocol: tcp", "protocol: mcp-tcp\n  mcp: {method: ping, tool: echo}"),
     "test.yaml:7:29: target.mcp.tool: ping calls no tool"},
    {"CallWithoutTool", TestWith("protocol: tcp", "protocol: mcp-tcp\n  mcp: {method: tools/call}"),
     "test.yaml:7:3: target.mcp.tool: tools/call needs the tool's name"},
    {"UnknownMethod", TestWith("protocol: tcp", "protocol: mcp-tcp\n  mcp: {method: tools/list}"),
     "test.yaml:7:17: target.mcp.method: unknown method \"tools/list\""},
    {"BadSource", TestWith("  requests:", "  sourceAddresses: [localhost]\n  requests:"),
     "test.yaml:11:21: load.sourceAddresses[0]: \"localhost\" is no address"},
    {"SourceRangeBackwards", TestWith("  requests:", "  sourceAddresses: [127.0.0.9-127.0.0.2]\n  requests:"),
     "test.yaml:11:21: load.sourceAddresses[0]: \"127.0.0.9-127.0.0.2\" ends before it begins. Write 127.0.0.2-127"},
    {"SourceRangeTooWide", TestWith("  requests:", "  sourceAddresses: [127.0.0.0-127.255.255.255]\n  requests:"),
     "test.yaml:11:21: load.sourceAddresses[0]: \"127.0.0.0-127.255.255.255\" has 16777216 addresses; at most 4096"},
    {"SourceBlockOfManyBits", TestWith("  requests:", "  sourceAddresses: [127.1.0.0/33]\n  requests:"),
     "test.yaml:11:21: load.sourceAddresses[0]: \"127.1.0.0/33\" is no block of IPv4 addresses"},
    {"SourceBlockOfIpv6", TestWith("  requests:", "  sourceAddresses: [\"fd00::/120\"]\n  requests:"),
     "test.yaml:11:21: load.sourceAddresses[0]: \"fd00::/120\" is no block of IPv4 addresses"},
    {"SourceBlockThatBeginsWithin", TestWith("  requests:", "  sourceAddresses: [127.1.0.5/24]\n  requests:"),
     "test.yaml:11:21: load.sourceAddresses[0]: \"127.1.0.5/24\" does not begin where a block of that size does. Write "
     "127.1.0.0/24"},
    {"SourceBlockTooWide", TestWith("  requests:", "  sourceAddresses: [127.0.0.0/8]\n  requests:"),
     "test.yaml:11:21: load.sourceAddresses[0]: \"127.0.0.0/8\" has 16777214 addresses; at most 4096"},
    {"SourceTwice", TestWith("  requests:", "  sourceAddresses: [127.0.0.2, 127.0.0.1-127.0.0.3]\n  requests:"),
     "test.yaml:11:32: load.sourceAddresses[1]: the address 127.0.0.2 is there twice"},
    {"ReconnectOfText", TestWith("  requests:", "  reconnect: always\n  requests:"),
     "test.yaml:11:14: load.reconnect: found \"always\" where none, or a mapping such as {initial: 100ms, max: 10s}"},
    {"ReconnectBackwards", TestWith("  requests:", "  reconnect: {initial: 1m, max: 1s}\n  requests:"),
     "test.yaml:11:33: load.reconnect.max: the longest delay is below the first one, 1m"},
    {"BadName", TestWith("name: full", "name: -full"),
     "test.yaml:3:7: name: \"-full\" is no name: lower-case letters, digits and \"-\", at most 63. Write it such as "
     "full"},
    {"NoName", TestWith("name: full\n", ""), "test.yaml:1:1: name: there is no name. Give one, such as my-test"},
    {"KeyTwice", TestWith("name: full", "name: full\nname: other"),
     "test.yaml:4:1: name: the key \"name\" is there twice. Keep one of them"},
    {"UnknownKind", TestWith("kind: Test", "kind: Tuning"),
     "test.yaml:2:7: kind: unknown kind \"Tuning\". Write kind: Test, kind: Stack or kind: TuningProfile"},
    {"NoKind", TestWith("kind: Test\n", ""), "test.yaml:1:1: kind: the document does not say what it describes"},
    {"NoApiVersion", TestWith("apiVersion: loadstar/v1\n", ""), "test.yaml:1:1: apiVersion: there is no apiVersion"},
};

INSTANTIATE_TEST_SUITE_P(Test, BadInputTest, ::testing::ValuesIn(kBadTests),
                         [](const auto& bad) { return bad.param.name; });

const BadInput kBadStacks[] = {
    {"DuplicateName", StackWith("name: node2", "name: node1"),
     "test.yaml:9:11: nodes[1].name: the name \"node1\" is there twice. Give each node its own"},
    {"DuplicateListener", StackWith("listen: 9101", "listen: 9100"),
     "test.yaml:10:13: nodes[1].listen: 127.0.0.1:9100 is also the listener of node1 (nodes[0].listen). Give each"},
    {"ListenerOnApi", StackWith("listen: 9101", "listen: 8080"),
     "test.yaml:10:13: nodes[1].listen: 127.0.0.1:8080 is also the API of node1 (nodes[0].api)"},
    {"WildcardListener", StackWith("listen: 9101", "listen: 0.0.0.0:9100"),
     "test.yaml:10:13: nodes[1].listen: 0.0.0.0:9100 is also the listener of node1"},
    {"NoListener", StackWith("    listen: 9101\n", ""), "test.yaml:9:5: nodes[1].listen: the node has no listener"},
    {"BadListener", StackWith("listen: 9101", "listen: 99999"),
     "test.yaml:10:13: nodes[1].listen: \"99999\" is no port"},
    {"Docker", StackWith("runtime: process", "runtime: docker"),
     "test.yaml:4:10: runtime: runtime \"docker\" is not supported by this version. Write process"},
    {"Colima", StackWith("runtime: process", "runtime: colima"),
     "test.yaml:4:10: runtime: runtime \"colima\" is not supported by this version"},
    {"NoRuntime", StackWith("runtime: process\n", ""), "test.yaml:1:1: runtime: there is no known runtime"},
    {"NoNodes", "apiVersion: loadstar/v1\nkind: Stack\nname: none\nruntime: process\nnodes: []\n",
     "test.yaml:5:1: nodes: the stack has no nodes"},
    {"BadPolicy", StackWith("listen: 9101", "listen: 9101\n    restart: sometimes"),
     "test.yaml:11:14: nodes[1].restart: unknown restart \"sometimes\"; known: never, on-failure, always"},
    {"CommandOfText", StackWith("listen: 9101", "listen: 9101\n    command: ./server --port 9101"),
     "test.yaml:11:14: nodes[1].command: found \"./server --port 9101\" where a list such as [./server"},
    {"ProcessesOfACommand", StackWith("listen: 9101", "listen: 9101\n    command: [./server]\n    processes: 2"),
     "test.yaml:12:16: nodes[1].processes: only loadstar-target runs as several processes"},
    {"HealthWithoutApi", StackWith("listen: 9101", "listen: 9101\n    health: {path: /health}"),
     "test.yaml:11:20: nodes[1].health.path: a health path needs an API to ask"},
    {"BadHealthPath", StackWith("api: 8080", "api: 8080\n    health: {path: health}"),
     "test.yaml:9:20: nodes[0].health.path: \"health\" is no path. Write it such as /health"},
    {"BadVariable", StackWith("listen: 9101", "listen: 9101\n    environment: {1A: x}"),
     "test.yaml:11:5: nodes[1].environment: \"1A\" is no name of a variable"},
    {"UnknownNodeKey", StackWith("listen: 9101", "listn: 9101"),
     "test.yaml:10:5: nodes[1].listn: unknown key \"listn\". Did you mean \"listen\" (the address under load)?"},
};

INSTANTIATE_TEST_SUITE_P(Stack, BadInputTest, ::testing::ValuesIn(kBadStacks),
                         [](const auto& bad) { return bad.param.name; });

const BadInput kBadTexts[] = {
    {"Empty", "", "test.yaml: the document is empty"},
    {"OnlyComment", "# nothing here\n", "test.yaml: the document is empty"},
    {"Null", "~\n", "test.yaml:1:1: the document is empty"},
    {"Prose", "Dear Loadstar, please.\n", "test.yaml:1:1: the document is a value, not a mapping. Begin with"},
    {"List", "- 1\n- 2\n", "test.yaml:1:1: the document is a list, not a mapping"},
    {"NotYaml", "a: b: c\n", "test.yaml:1:5: this is not YAML: illegal map value. Check the indentation"},
    {"OpenBracket", "a: [1, 2\n", "test.yaml:2:1: this is not YAML: end of sequence flow not found"},
    {"Tab", "a:\n\tb: 1\n", "test.yaml:2:"},
    {"Binary",
     std::string("\x7f"
                 "ELF\x02\x01\x01\0\0\0",
                 10),
     "test.yaml: this is no text but binary data"},
    {"Latin1", "name: caf\xe9\n", "test.yaml: this is no text but binary data"},
    {"Surrogate", "name: \xed\xa0\x80\n", "test.yaml: this is no text but binary data"},
    {"TooLarge", std::string(size_t{2} << 20, 'a'), "test.yaml: the text has 2097152 bytes; at most 1 MiB is read"},
    {"AliasBomb", Bomb(), "test.yaml:1:4: anchors (&name) are not allowed"},
    {"Alias", "a: *b\n", "test.yaml:1:"},
    {"Tag", "a: !!binary aGVsbG8=\n", "test.yaml:1:4: the tag \"tag:yaml.org,2002:binary\" is not allowed"},
    {"TooDeep", Nested(40), "test.yaml:1:35: values are nested more than 32 deep"},
    {"FarTooDeep", Nested(100'000), "test.yaml:1:35: values are nested more than 32 deep"},
    {"TooManyValues", ManyNodes(), "test.yaml:10000:3: the document has more than 10k values"},
    {"KeyOfAList", "? [a]\n: b\n", "test.yaml:1:3: a key is no plain text"},
    {"TwoDocuments", "a: 1\n---\nb: 2\n", "test.yaml:3:1: there is a second document after ---"},
};

INSTANTIATE_TEST_SUITE_P(Text, BadInputTest, ::testing::ValuesIn(kBadTexts),
                         [](const auto& bad) { return bad.param.name; });

TEST(BadInput, WildcardsOnTwoAgentsAreFine) {
  const Parsed parsed = ParseText(R"(
apiVersion: loadstar/v1
kind: Stack
name: two
runtime: process
nodes:
  - {name: node1, listen: 10.0.0.1:9100, api: 0.0.0.0:8080, agent: host1}
  - {name: node2, listen: 10.0.0.2:9100, api: 10.0.0.2:8080, agent: host2}
)");
  EXPECT_TRUE(parsed.problems.empty()) << ToString(parsed.problems);
}

TEST(BadInput, ProblemAtTheHundredthStageNamesIt) {
  std::string stages;
  for (int i = 0; i < 100; ++i) stages += "    - {ramp: 1s, to: 5}\n";
  stages += "    - {ramp: 1x, to: 5}\n";
  const Parsed parsed = ParseText(TestWith("    - {ramp: 5m, to: 100k}\n", stages));
  ASSERT_EQ(parsed.problems.size(), 1u) << ToString(parsed.problems);
  EXPECT_THAT(parsed.problems[0].field(), "load.connections[100].ramp");
}

}  // namespace
}  // namespace loadstar::spec
