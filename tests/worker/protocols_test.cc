// The protocols, with strings alone.
#include <gtest/gtest.h>

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
    return true;
  }
  bool OnErrorAnswer(uint64_t id, const Failure& failure) override {
    words.push_back("error " + std::to_string(id) + " " + failure.detail);
    return true;
  }
  bool OnSend(std::span<const std::byte> bytes) override {
    words.push_back("send " + Text(bytes));
    return true;
  }
  void OnBroken(const char* detail) override { words.push_back(std::string("broken ") + detail); }
  std::vector<std::string> words;
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
  EXPECT_FALSE(protocol->Begin(1, &greeting));
  Log log;
  protocol->OnReceived(1, Bytes(kInitializeResult), &log);
  EXPECT_EQ(log.words.back(), "ready");
  return protocol;
}

TEST(McpTest, HandshakeIsInitializeThenInitialized) {
  auto protocol = Make(v1::PROTOCOL_MCP_TCP);
  std::string greeting;
  EXPECT_FALSE(protocol->Begin(1, &greeting));
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
    EXPECT_FALSE(protocol->Begin(1, &greeting));
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
      EXPECT_TRUE(protocol->Begin(2, &greeting));
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
    ASSERT_TRUE(protocol->Begin(0, &greeting));
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

TEST(ProtocolTest, UnknownProtocolIsRefused) {
  v1::WorkerPlan plan;
  EXPECT_FALSE(MakeProtocol(plan, 1).ok());
}

}  // namespace
}  // namespace loadstar::worker
