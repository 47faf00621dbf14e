// The protocols, with strings alone.
#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <vector>

#include "agent/worker/protocols/json_rpc.h"
#include "agent/worker/protocols/mcp_tcp.h"
#include "agent/worker/protocols/protocol.h"
#include "agent/worker/protocols/tcp_echo.h"

namespace loadstar::worker {
namespace {

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }
std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Writes down what a protocol reports, a word for each event.
struct Log final : ProtocolEvents {
  bool OnReady() override {
    words.push_back("ready");
    return true;
  }
  bool OnAnswer(uint64_t id) override {
    words.push_back("answer " + std::to_string(id));
    if (id == OldestInFlight()) in_flight.pop_front();
    return true;
  }
  bool OnErrorAnswer(uint64_t id, const Failure& failure) override {
    words.push_back("error " + std::to_string(id) + " " + (failure.kind == v1::ERROR_KIND_HTTP_STATUS ? "http " : "") +
                    failure.detail);
    if (id == OldestInFlight()) in_flight.pop_front();
    return true;
  }
  bool OnSend(std::span<const std::byte> bytes) override {
    words.push_back("send " + Text(bytes));
    return true;
  }
  void OnBroken(const char* detail) override { words.push_back(std::string("broken ") + detail); }
  uint64_t OldestInFlight() const override { return in_flight.empty() ? 0 : in_flight.front(); }
  void OnLast() override { words.push_back("last"); }
  std::vector<std::string> words;
  std::deque<uint64_t> in_flight;
};

std::unique_ptr<Protocol> Make(v1::Protocol kind, const v1::McpOptions& mcp = {}, uint32_t payload = 0) {
  v1::WorkerPlan plan;
  plan.set_protocol(kind);
  *plan.mutable_mcp() = mcp;
  plan.mutable_tcp()->set_payload_bytes(payload);
  auto protocol = MakeProtocol(plan, 4);
  EXPECT_TRUE(protocol.ok()) << protocol.status();
  return *std::move(protocol);
}

constexpr char kInitializeResult[] = R"({"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}})"
                                     "\n";

std::unique_ptr<Protocol> ReadyMcp(const v1::McpOptions& mcp = {}) {
  auto protocol = Make(v1::PROTOCOL_MCP_TCP, mcp);
  std::string greeting;
  EXPECT_FALSE(protocol->Begin(1, 0, &greeting));
  Log log;
  protocol->OnReceived(1, Bytes(kInitializeResult), &log);
  EXPECT_EQ(log.words.back(), "ready");
  return protocol;
}

TEST(McpTest, HandshakeIsInitializeThenInitialized) {
  auto protocol = Make(v1::PROTOCOL_MCP_TCP);
  std::string greeting;
  EXPECT_FALSE(protocol->Begin(1, 0, &greeting));
  EXPECT_EQ(greeting, R"({"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18",)"
                      R"("capabilities":{},"clientInfo":{"name":"loadstar","version":"0.1.0"}}})"
                      "\n");
  Log log;
  protocol->OnReceived(1, Bytes(kInitializeResult), &log);
  EXPECT_EQ(log.words, (std::vector<std::string>{
                           "send {\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n", "ready"}));
}

TEST(McpTest, RequestsArePingOrToolsCallOnOneLine) {
  EXPECT_EQ(Text(ReadyMcp()->Request(1, 1024)), "{\"jsonrpc\":\"2.0\",\"id\":1024,\"method\":\"ping\"}\n");
  v1::McpOptions mcp;
  mcp.set_method("tools/call");
  mcp.set_tool("say \"hi\"");
  mcp.set_arguments_json("{\n  \"text\": \"a\\nb\"\n}");
  const std::string request = Text(ReadyMcp(mcp)->Request(1, 2049));
  EXPECT_EQ(request,
            "{\"jsonrpc\":\"2.0\",\"id\":2049,\"method\":\"tools/call\",\"params\":{\"name\":\"say \\\"hi\\\"\","
            "\"arguments\":{   \"text\": \"a\\nb\" }}}\n");
  EXPECT_TRUE(ParseJsonRpc(request).has_value());
  EXPECT_EQ(Text(ReadyMcp(mcp)->Heartbeat(1, 2050)), "{\"jsonrpc\":\"2.0\",\"id\":2050,\"method\":\"ping\"}\n");
}

TEST(McpTest, AnswersMatchInAnyCut) {
  const std::string stream =
      "{\"jsonrpc\":\"2.0\",\"id\":1024,\"result\":{}}\n"
      " { \"result\" : { \"id\" : 7, \"error\" : [1, {\"a\": \"}\\\"\\n\"}] } , \"id\" : 2048 } \r\n"
      "\n"
      "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n"
      "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"ping\"}\n"
      "{\"id\":3072,\"error\":{\"message\":\"no\",\"data\":{\"code\":1},\"code\":-32601}}\n"
      "{\"id\":4096,\"result\":{\"content\":[],\"isError\":true}}\n";
  const std::vector<std::string> expected = {"answer 1024", "answer 2048", "error 3072 -32601", "error 4096 isError"};
  for (size_t step = 1; step <= stream.size(); ++step) {
    auto protocol = ReadyMcp();
    Log log;
    for (size_t at = 0; at < stream.size(); at += step) {
      const std::string part = stream.substr(at, step);
      protocol->OnReceived(1, Bytes(part), &log);
    }
    ASSERT_EQ(log.words, expected) << "in parts of " << step;
  }
}

TEST(McpTest, WhatIsNoAnswerBreaksTheConnection) {
  const std::pair<const char*, const char*> rows[] = {
      {"hello\n", "broken not-json-rpc"},
      {"[{\"id\":1024,\"result\":{}}]\n", "broken not-json-rpc"},
      {"{\"id\":1024,\"result\":{}} x\n", "broken not-json-rpc"},
      {"{\"id\":1024,\"result\":{}\n", "broken not-json-rpc"},
      {"{\"id\":01,\"result\":{}}\n", "broken not-json-rpc"},
      {"{\"id\":1024}\n", "broken neither-result-nor-error"},
      {"{\"id\":1024,\"result\":{},\"error\":{}}\n", "broken neither-result-nor-error"},
      {"{\"id\":null,\"error\":{\"code\":-32700}}\n", "broken answer-without-id"},
      {"{\"id\":\"1024\",\"result\":{}}\n", "broken answer-without-id"},
      {"{\"id\":-1,\"result\":{}}\n", "broken answer-without-id"},
      {"{\"id\":1.5,\"result\":{}}\n", "broken answer-without-id"},
      {"{\"id\":99999999999999999999,\"result\":{}}\n", "broken answer-without-id"},
  };
  for (const auto& [line, word] : rows) {
    auto protocol = ReadyMcp();
    Log log;
    protocol->OnReceived(1, Bytes(line), &log);
    EXPECT_EQ(log.words, std::vector<std::string>{word}) << line;
  }
}

TEST(McpTest, HandshakeThatGoesWrongBreaksTheConnection) {
  const std::pair<const char*, const char*> rows[] = {
      {"{\"id\":0,\"error\":{\"code\":-32602}}\n", "broken initialize-refused"},
      {"{\"id\":1024,\"result\":{}}\n", "broken answer-before-initialize"},
  };
  for (const auto& [line, word] : rows) {
    auto protocol = Make(v1::PROTOCOL_MCP_TCP);
    std::string greeting;
    EXPECT_FALSE(protocol->Begin(1, 0, &greeting));
    Log log;
    protocol->OnReceived(1, Bytes(line), &log);
    EXPECT_EQ(log.words, std::vector<std::string>{word}) << line;
  }
}

TEST(McpTest, LinesAreBounded) {
  const std::string part(300'000, ' ');
  auto protocol = ReadyMcp();
  Log log;
  for (int i = 0; i < 3; ++i) protocol->OnReceived(1, Bytes(part), &log);
  EXPECT_TRUE(log.words.empty());
  protocol->OnReceived(1, Bytes(part), &log);
  EXPECT_EQ(log.words, std::vector<std::string>{"broken line-too-long"});
}

TEST(McpTest, WrongSettingsAreRefused) {
  v1::McpOptions mcp;
  mcp.set_method("resources/list");
  EXPECT_FALSE(McpTcp::Create(mcp, 1).ok());
  mcp.set_method("tools/call");
  EXPECT_FALSE(McpTcp::Create(mcp, 1).ok()) << "no tool";
  mcp.set_tool("t");
  EXPECT_TRUE(McpTcp::Create(mcp, 1).ok());
  for (const char* arguments : {"[]", "{", "{} {}", "{\"a\":}", "x"}) {
    mcp.set_arguments_json(arguments);
    EXPECT_FALSE(McpTcp::Create(mcp, 1).ok()) << arguments;
  }
}

TEST(JsonRpcTest, DepthIsBounded) {
  const auto nested = [](int depth) {
    return "{\"id\":1,\"result\":" + std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']') + "}";
  };
  EXPECT_TRUE(ParseJsonRpc(nested(kMaxJsonDepth - 2)).has_value());
  EXPECT_FALSE(ParseJsonRpc(nested(kMaxJsonDepth + 1)).has_value());
  EXPECT_FALSE(ParseJsonRpc(nested(100'000)).has_value());
}

TEST(JsonRpcTest, ValuesAreHeldToTheGrammar) {
  for (const char* value : {"0", "-0.5e+3", "1E9", "\"\\u00e9\\n\"", "true", "null", "[]", "[1,[2]]", "{\"a\":{}}"}) {
    EXPECT_TRUE(IsJsonObject(std::string("{\"v\":") + value + "}")) << value;
  }
  for (const char* value : {"", "-", "1.", ".5", "1e", "00", "+1", "tru", "nulL", "\"\\x\"", "\"\\u12g4\"", "\"",
                            "[1,]", "[1 2]", "{\"a\"}", "{a:1}", "{\"a\":1,}", "\"\n\""}) {
    EXPECT_FALSE(IsJsonObject(std::string("{\"v\":") + value + "}")) << value;
  }
}

TEST(EchoTest, EchoesMatchInAnyCut) {
  for (const uint32_t payload : {8U, 64U, 300U}) {
    auto protocol = Make(v1::PROTOCOL_TCP, {}, payload);
    std::string stream;
    for (const uint64_t id : {1024U, 2048U, 70'000U}) {
      const std::string request = Text(protocol->Request(2, id));
      EXPECT_EQ(request.size(), payload);
      EXPECT_NE(request[0], '{');
      stream += request;
    }
    for (size_t step = 1; step <= stream.size(); ++step) {
      std::string greeting;
      EXPECT_TRUE(protocol->Begin(2, 0, &greeting));
      EXPECT_TRUE(greeting.empty());
      Log log;
      for (size_t at = 0; at < stream.size(); at += step) {
        const std::string part = stream.substr(at, step);
        protocol->OnReceived(2, Bytes(part), &log);
      }
      ASSERT_EQ(log.words, (std::vector<std::string>{"answer 1024", "answer 2048", "answer 70000"})) << step;
    }
  }
}

TEST(EchoTest, EveryByteIsVerified) {
  auto protocol = Make(v1::PROTOCOL_TCP, {}, 32);
  const std::string good = Text(protocol->Request(0, 1024));
  for (size_t i = 8; i < good.size(); ++i) {
    std::string greeting;
    ASSERT_TRUE(protocol->Begin(0, 0, &greeting));
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    Log log;
    protocol->OnReceived(0, Bytes(bad), &log);
    EXPECT_EQ(log.words, std::vector<std::string>{"broken echo-differs"}) << i;
  }
}

TEST(EchoTest, PayloadSizesAreBounded) {
  v1::TcpOptions tcp;
  EXPECT_TRUE(TcpEcho::Create(tcp, 1).ok()) << "the default";
  for (const uint32_t bytes : {1U, 7U, 65'537U}) {
    tcp.set_payload_bytes(bytes);
    EXPECT_FALSE(TcpEcho::Create(tcp, 1).ok()) << bytes;
  }
}

// ---- HTTP

v1::WorkerPlan HttpPlan() {
  v1::WorkerPlan plan;
  plan.set_protocol(v1::PROTOCOL_HTTP);
  plan.add_endpoints("127.0.0.1:80");
  plan.add_endpoints("[::1]:81");
  plan.mutable_http()->set_method("GET");
  plan.mutable_http()->set_path("/");
  return plan;
}

v1::WorkerPlan McpHttpPlan() {
  v1::WorkerPlan plan = HttpPlan();
  plan.set_protocol(v1::PROTOCOL_MCP_HTTP);
  plan.mutable_http()->set_path("/mcp");
  return plan;
}

void AddHeader(v1::WorkerPlan* plan, const char* name, const char* value) {
  v1::HttpHeader* header = plan->mutable_http()->add_headers();
  header->set_name(name);
  header->set_value(value);
}

std::unique_ptr<Protocol> Make(const v1::WorkerPlan& plan) {
  auto protocol = MakeProtocol(plan, 4);
  EXPECT_TRUE(protocol.ok()) << protocol.status();
  return *std::move(protocol);
}

std::string RequestOf(const v1::WorkerPlan& plan, uint32_t endpoint) {
  auto protocol = Make(plan);
  std::string greeting;
  EXPECT_TRUE(protocol->Begin(1, endpoint, &greeting));
  EXPECT_EQ(greeting, "");
  return Text(protocol->Request(1, 1024));
}

// What is reported for a stream of answers to requests 1, 2 and 3, in parts of `step`.
std::vector<std::string> WordsOf(Protocol* protocol, const std::string& stream, size_t step, bool close) {
  Log log;
  log.in_flight = {1, 2, 3};
  const auto over = [&] {
    return !log.words.empty() && (log.words.back() == "last" || log.words.back().rfind("broken", 0) == 0);
  };
  for (size_t at = 0; at < stream.size() && !over(); at += step) {
    const std::string part = stream.substr(at, step);
    protocol->OnReceived(1, Bytes(part), &log);
  }
  if (close && !over()) protocol->OnPeerClosed(1, &log);
  protocol->End(1);
  return log.words;
}

void ExpectWords(const v1::WorkerPlan& plan, const std::string& stream, const std::vector<std::string>& words,
                 bool close = false) {
  auto protocol = Make(plan);
  for (size_t step = 1; step <= stream.size(); ++step) {
    std::string greeting;
    protocol->Begin(1, 0, &greeting);
    ASSERT_EQ(WordsOf(protocol.get(), stream, step, close), words) << "in parts of " << step << ":\n" << stream;
  }
}

using Words = std::vector<std::string>;

TEST(HttpTest, RequestsNameTheEndpointAndSayWhatTheTestSays) {
  v1::WorkerPlan plan = HttpPlan();
  EXPECT_EQ(RequestOf(plan, 0), "GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n");
  EXPECT_EQ(RequestOf(plan, 1), "GET / HTTP/1.1\r\nHost: [::1]:81\r\n\r\n");
  plan.add_endpoint_names("one.test:80");
  plan.add_endpoint_names("two.test:81");
  EXPECT_EQ(RequestOf(plan, 1), "GET / HTTP/1.1\r\nHost: two.test:81\r\n\r\n");
  plan.mutable_http()->set_method("PUT");
  plan.mutable_http()->set_path("/a?b");
  plan.mutable_http()->set_body("x\r\ny");
  AddHeader(&plan, "Accept", "a, b");
  AddHeader(&plan, "hOst", "mine");
  EXPECT_EQ(RequestOf(plan, 1), "PUT /a?b HTTP/1.1\r\nAccept: a, b\r\nhOst: mine\r\nContent-Length: 4\r\n\r\nx\r\ny");
  auto protocol = Make(plan);
  std::string greeting;
  ASSERT_TRUE(protocol->Begin(1, 1, &greeting));
  EXPECT_EQ(Text(protocol->Heartbeat(1, 1)), Text(protocol->Request(1, 1)));
  plan = HttpPlan();
  plan.mutable_http()->set_method("POST");
  EXPECT_EQ(RequestOf(plan, 0), "POST / HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Length: 0\r\n\r\n");
}

TEST(HttpTest, AnswersComeInTheOrderOfRequests) {
  ExpectWords(HttpPlan(),
              "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
              "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n"
              "HTTP/1.1 304 Same\r\n\r\n",
              {"answer 1", "error 2 http 503", "answer 3"});
}

TEST(HttpTest, ExpectedStatusesAreThoseOfTheTest) {
  v1::WorkerPlan plan = HttpPlan();
  plan.mutable_http()->add_expect_status(404);
  ExpectWords(plan, "HTTP/1.1 404 .\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 .\r\nContent-Length: 0\r\n\r\n",
              {"answer 1", "error 2 http 200"});
  plan.mutable_http()->add_expect_status(1000);
  EXPECT_FALSE(MakeProtocol(plan, 1).ok());
}

TEST(HttpTest, AnswersToHeadHaveNoBody) {
  v1::WorkerPlan plan = HttpPlan();
  plan.mutable_http()->set_method("HEAD");
  ExpectWords(plan, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
              {"answer 1", "answer 2"});
}

TEST(HttpTest, AnswerThatIsTheLastEndsTheConnection) {
  const std::string answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na";
  ExpectWords(HttpPlan(), answer, {"answer 1", "last"});
  ExpectWords(HttpPlan(), answer + answer, {"answer 1", "last"});
  ExpectWords(HttpPlan(), "HTTP/1.0 500 OK\r\nContent-Length: 0\r\n\r\n", {"error 1 http 500", "last"});
  v1::WorkerPlan plan = HttpPlan();
  AddHeader(&plan, "connection", "Close");
  ExpectWords(plan, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", {"answer 1", "last"});
}

TEST(HttpTest, OrderlyCloseCompletesOnlyABodyThatLastsUntilThen) {
  ExpectWords(HttpPlan(), "HTTP/1.1 200 OK\r\n\r\nabc", {"answer 1", "last"}, /*close=*/true);
  ExpectWords(HttpPlan(), "HTTP/1.1 200 OK\r\n\r\n", {"answer 1", "last"}, /*close=*/true);
  ExpectWords(HttpPlan(), "HTTP/1.1 200 OK\r\n\r\nabc", {});
  ExpectWords(HttpPlan(), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", {}, /*close=*/true);
  ExpectWords(HttpPlan(), "HTTP/1.1 200 OK\r\nContent-Le", {}, /*close=*/true);
  ExpectWords(HttpPlan(), "HTTP/1.1 204 .\r\n\r\n", {"answer 1"}, /*close=*/true);
}

TEST(HttpTest, WhatIsNoAnswerBreaksTheConnection) {
  ExpectWords(HttpPlan(), "220 smtp\r\n", {"broken start-line"});
  ExpectWords(HttpPlan(), "HTTP/1.1 101 Switching\r\n\r\n", {"broken unasked-upgrade"});
  const std::string empty = "HTTP/1.1 204 .\r\n\r\n";
  ExpectWords(HttpPlan(), empty + empty + empty + empty, {"answer 1", "answer 2", "answer 3", "broken unasked-answer"});
}

// ---- MCP over HTTP

std::string JsonAnswer(const std::string& body, const std::string& more = "") {
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + more +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

const char kInitializeBody[] = R"({"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}})";
const char kAccepted[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

TEST(McpHttpTest, SessionOfInitializeIsInEveryLaterRequest) {
  auto protocol = Make(McpHttpPlan());
  std::string greeting;
  EXPECT_FALSE(protocol->Begin(1, 1, &greeting));
  const std::string head =
      "POST /mcp HTTP/1.1\r\nHost: [::1]:81\r\nContent-Type: application/json\r\n"
      "Accept: application/json, text/event-stream\r\n";
  const std::string initialize =
      R"({"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18",)"
      R"("capabilities":{},"clientInfo":{"name":"loadstar","version":"0.1.0"}}})";
  EXPECT_EQ(greeting, head + "Content-Length: " + std::to_string(initialize.size()) + "\r\n\r\n" + initialize);
  Log log;
  const std::string answer = JsonAnswer(kInitializeBody, "mcp-session-ID: s-1\r\n");
  protocol->OnReceived(1, Bytes(answer), &log);
  const std::string session = head + "MCP-Protocol-Version: 2025-06-18\r\nMcp-Session-Id: s-1\r\n";
  EXPECT_EQ(log.words, Words{"send " + session + "Content-Length: 54\r\n\r\n" +
                             R"({"jsonrpc":"2.0","method":"notifications/initialized"})"});
  log.words.clear();
  protocol->OnReceived(1, Bytes(kAccepted), &log);
  EXPECT_EQ(log.words, Words{"ready"});
  EXPECT_EQ(Text(protocol->Request(1, 1024)),
            session + "Content-Length: 43\r\n\r\n" + R"({"jsonrpc":"2.0","id":1024,"method":"ping"})");
  EXPECT_EQ(Text(protocol->Heartbeat(1, 2048)),
            session + "Content-Length: 43\r\n\r\n" + R"({"jsonrpc":"2.0","id":2048,"method":"ping"})");
  // Another connection has no session yet.
  EXPECT_FALSE(protocol->Begin(2, 1, &greeting));
  log.words.clear();
  const std::string without = JsonAnswer(kInitializeBody);
  protocol->OnReceived(2, Bytes(without), &log);
  EXPECT_EQ(log.words[0].find("Mcp-Session-Id"), std::string::npos);
}

TEST(McpHttpTest, AnswersMatchInAnyCut) {
  const std::string handshake = JsonAnswer(kInitializeBody) + kAccepted;
  const auto expect = [&](const std::string& stream, const Words& words, bool close = false) {
    auto protocol = Make(McpHttpPlan());
    for (size_t step = 1; step <= handshake.size() + stream.size(); ++step) {
      std::string greeting;
      protocol->Begin(1, 0, &greeting);
      Words all = WordsOf(protocol.get(), handshake + stream, step, close);
      ASSERT_GE(all.size(), 2U);
      EXPECT_EQ(all[0].substr(0, 4), "send");
      EXPECT_EQ(all[1], "ready");
      all.erase(all.begin(), all.begin() + 2);
      ASSERT_EQ(all, words) << "in parts of " << step << ":\n" << stream;
    }
  };
  expect(
      JsonAnswer(R"({"id":1,"result":{}})") +
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"id\":2,\r\nC\r\n\"result\":{}}\r\n0\r\n\r\n" +
          JsonAnswer(R"({"id":3,"error":{"code":-32601}})"),
      {"answer 1", "answer 2", "error 3 -32601"});
  expect("HTTP/1.1 404 Gone\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n\r\n{}" +
             JsonAnswer(R"({"id":2,"result":{"isError":true}})"),
         {"error 1 http 404", "error 2 isError"});
  expect(JsonAnswer(R"({"id":1,"result":{}})", "Connection: close\r\n"), {"answer 1", "last"});
  expect("HTTP/1.0 200 OK\r\n\r\n{\"id\":1,\"result\":{}}", {"answer 1", "last"}, /*close=*/true);
  expect("HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream;charset=utf-8\r\n",
         {"broken event-stream-is-not-supported-yet"});
  expect(kAccepted, {"broken not-json-rpc"});
  expect(JsonAnswer(R"({"method":"ping","id":1})"), {"broken not-an-answer"});
  expect(JsonAnswer("[]"), {"broken not-json-rpc"});
}

TEST(McpHttpTest, HandshakeThatGoesWrongBreaksTheConnection) {
  const auto expect = [](const std::string& stream, const char* word, bool close = false) {
    auto protocol = Make(McpHttpPlan());
    std::string greeting;
    EXPECT_FALSE(protocol->Begin(1, 0, &greeting));
    EXPECT_EQ(WordsOf(protocol.get(), stream, stream.size(), close).back(), word) << stream;
  };
  expect("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "broken initialize-http-401");
  expect("HTTP/1.1 302 There\r\nContent-Length: 0\r\n\r\n", "broken initialize-http-302");
  expect(JsonAnswer(R"({"id":0,"error":{"code":1}})"), "broken initialize-refused");
  expect(JsonAnswer(R"({"id":7,"result":{}})"), "broken answer-before-initialize");
  expect(JsonAnswer("no"), "broken not-json-rpc");
  expect(JsonAnswer(kInitializeBody, "Mcp-Session-Id: a b\r\n"), "broken session-id");
  expect(JsonAnswer(kInitializeBody, "Mcp-Session-Id: \r\n"), "broken session-id");
  expect(JsonAnswer(kInitializeBody, "Connection: close\r\n"), "broken closed-in-handshake");
  expect("HTTP/1.0 200 OK\r\n\r\n" + std::string(kInitializeBody), "broken closed-in-handshake", /*close=*/true);
  expect("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n", "broken event-stream-is-not-supported-yet");
  expect(JsonAnswer(kInitializeBody) + "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n", "broken initialized-http-400");
  expect(JsonAnswer(kInitializeBody) + kAccepted + "", "ready");
}

TEST(McpHttpTest, BodiesAreBounded) {
  auto protocol = Make(McpHttpPlan());
  std::string greeting;
  EXPECT_FALSE(protocol->Begin(1, 0, &greeting));
  Log log;
  const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n";
  protocol->OnReceived(1, Bytes(head), &log);
  const std::string part(300'000, ' ');
  for (int i = 0; i < 3; ++i) protocol->OnReceived(1, Bytes(part), &log);
  EXPECT_TRUE(log.words.empty());
  protocol->OnReceived(1, Bytes(part), &log);
  EXPECT_EQ(log.words, Words{"broken body-too-long"});
}

TEST(ProtocolTest, UnknownProtocolIsRefused) {
  v1::WorkerPlan plan;
  EXPECT_FALSE(MakeProtocol(plan, 1).ok());
}

}  // namespace
}  // namespace loadstar::worker
