#include "target/json_rpc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace loadstar::target {
namespace {

using nlohmann::json;

class JsonRpcTest : public ::testing::Test {
 protected:
  json Answer(std::string_view message) {
    text.clear();
    outcome = rpc.Answer(message, &faults, &text);
    EXPECT_EQ(outcome.answered, !text.empty());
    EXPECT_EQ(text.find('\n'), std::string::npos) << "an answer is one line";
    return text.empty() ? json() : json::parse(text);
  }
  int ErrorCode(std::string_view message) { return Answer(message).at("error").at("code").get<int>(); }

  JsonRpc rpc{"node1", "1.2.3"};
  RequestFaults faults;
  RpcOutcome outcome;
  std::string text;
};

TEST_F(JsonRpcTest, InitializeEchoesTheProtocolVersionAndIntroducesTheServer) {
  const json answer = Answer(
      R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}})");
  EXPECT_EQ(answer.at("id"), 1);
  const json& result = answer.at("result");
  EXPECT_EQ(result.at("protocolVersion"), "2025-06-18");
  EXPECT_TRUE(result.at("capabilities").is_object());
  EXPECT_EQ(result.at("serverInfo"), (json{{"name", "node1"}, {"version", "1.2.3"}}));
  EXPECT_TRUE(outcome.handshake);
  EXPECT_FALSE(outcome.request) << "a handshake is no request of the load";
}

TEST_F(JsonRpcTest, PingIsAnsweredWithAnEmptyResult) {
  EXPECT_EQ(Answer(R"({"jsonrpc":"2.0","id":7,"method":"ping"})"),
            json::parse(R"({"jsonrpc":"2.0","id":7,"result":{}})"));
  EXPECT_TRUE(outcome.request);
  EXPECT_FALSE(outcome.error);
}

TEST_F(JsonRpcTest, IdsComeBackAsTheyWere) {
  for (const char* id : {"0", "-1", "9223372036854775807", "18446744073709551615", "1.5", R"("")",
                         R"("a\"b\\c\u0001\n")", R"("ü€😀")", "null"}) {
    const json answer = Answer(std::string(R"({"id":)") + id + R"(,"method":"ping","jsonrpc":"2.0"})");
    EXPECT_EQ(answer.at("id"), json::parse(id)) << id;
    EXPECT_TRUE(answer.contains("result")) << id;
  }
}

TEST_F(JsonRpcTest, NotificationsAreNeverAnswered) {
  EXPECT_TRUE(Answer(R"({"jsonrpc":"2.0","method":"notifications/initialized"})").is_null());
  EXPECT_TRUE(Answer(R"({"jsonrpc":"2.0","method":"what/ever","params":[1]})").is_null());
  EXPECT_FALSE(outcome.request);
  EXPECT_FALSE(outcome.error);
}

TEST_F(JsonRpcTest, ToolsAreListedWithTheirSchemas) {
  const json answer = Answer(R"({"jsonrpc":"2.0","id":1,"method":"tools/list"})");
  std::vector<std::string> names;
  for (const json& tool : answer.at("result").at("tools")) {
    names.push_back(tool.at("name"));
    EXPECT_EQ(tool.at("inputSchema").at("type"), "object");
  }
  EXPECT_THAT(names, ::testing::ElementsAre("echo", "add"));
}

TEST_F(JsonRpcTest, EchoReturnsItsArgumentsAsText) {
  const json arguments = {{"text", "quote \" backslash \\ newline \n ünï"}, {"list", {1, 2.5, nullptr, true}}};
  const json answer = Answer(json{{"jsonrpc", "2.0"},
                                  {"id", "e"},
                                  {"method", "tools/call"},
                                  {"params", {{"name", "echo"}, {"arguments", arguments}}}}
                                 .dump());
  const json& result = answer.at("result");
  EXPECT_EQ(result.at("isError"), false);
  EXPECT_EQ(result.at("content").at(0).at("type"), "text");
  EXPECT_EQ(json::parse(result.at("content").at(0).at("text").get<std::string>()), arguments);
}

TEST_F(JsonRpcTest, EchoWithoutArgumentsReturnsAnEmptyObject) {
  const json answer = Answer(R"({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}})");
  EXPECT_EQ(answer.at("result").at("content").at(0).at("text"), "{}");
}

struct Sum {
  const char* a;
  const char* b;
  const char* sum;
};
class JsonRpcAddTest : public JsonRpcTest, public ::testing::WithParamInterface<Sum> {};

TEST_P(JsonRpcAddTest, AddsExactlyWhileItFits) {
  const std::string arguments = std::string(R"({"a":)") + GetParam().a + R"(,"b":)" + GetParam().b + "}";
  const json answer =
      Answer(R"({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":)" + arguments + "}}");
  EXPECT_EQ(answer.at("result").at("content").at(0).at("text"), GetParam().sum);
}

INSTANTIATE_TEST_SUITE_P(Table, JsonRpcAddTest,
                         ::testing::Values(Sum{"2", "3", "5"}, Sum{"-2", "2", "0"}, Sum{"0.5", "1", "1.5"},
                                           Sum{"9223372036854775806", "1", "9223372036854775807"},
                                           Sum{"9223372036854775807", "1", "9223372036854775808"}));

struct Refusal {
  const char* message;
  int code;
  ErrorKind kind;
};
class JsonRpcRefusalTest : public JsonRpcTest, public ::testing::WithParamInterface<Refusal> {};

TEST_P(JsonRpcRefusalTest, HasItsCodeAndIsCountedByKind) {
  EXPECT_EQ(ErrorCode(GetParam().message), GetParam().code);
  EXPECT_EQ(outcome.error, GetParam().kind);
  EXPECT_FALSE(outcome.close) << "the connection lives on";
}

INSTANTIATE_TEST_SUITE_P(
    Table, JsonRpcRefusalTest,
    ::testing::Values(
        Refusal{"{", -32700, ErrorKind::kParse}, Refusal{"garbage", -32700, ErrorKind::kParse},
        Refusal{R"({"jsonrpc":"2.0","id":1,"method":"ping"}x)", -32700, ErrorKind::kParse},
        Refusal{R"({"jsonrpc":"2.0","id":1,"method":"ping","params":tru})", -32700, ErrorKind::kParse},
        Refusal{"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"p\xff\"}", -32700, ErrorKind::kParse},
        Refusal{"[]", -32600, ErrorKind::kInvalidRequest}, Refusal{"17", -32600, ErrorKind::kInvalidRequest},
        Refusal{R"({"id":1,"method":"ping"})", -32600, ErrorKind::kInvalidRequest},
        Refusal{R"({"jsonrpc":"1.0","id":1,"method":"ping"})", -32600, ErrorKind::kInvalidRequest},
        Refusal{R"({"jsonrpc":"2.0","id":1})", -32600, ErrorKind::kInvalidRequest},
        Refusal{R"({"jsonrpc":"2.0","id":1,"method":5})", -32600, ErrorKind::kInvalidRequest},
        Refusal{R"({"jsonrpc":"2.0","id":{},"method":"ping"})", -32600, ErrorKind::kInvalidRequest},
        Refusal{R"({"jsonrpc":"2.0","id":1,"method":"pong"})", -32601, ErrorKind::kUnknownMethod},
        Refusal{R"({"jsonrpc":"2.0","id":1,"method":"initialize"})", -32602, ErrorKind::kInvalidParams},
        Refusal{R"({"jsonrpc":"2.0","id":1,"method":"tools/call"})", -32602, ErrorKind::kInvalidParams},
        Refusal{R"({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm"}})", -32602,
                ErrorKind::kInvalidParams},
        Refusal{R"({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":[1]}})", -32602,
                ErrorKind::kInvalidParams},
        Refusal{R"({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1}}})", -32602,
                ErrorKind::kInvalidParams},
        Refusal{
            R"({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":1e308,"b":1e308}}})",
            -32602, ErrorKind::kInvalidParams}));

TEST_F(JsonRpcTest, DeepNestingIsAnErrorNotACrash) { EXPECT_EQ(ErrorCode(std::string(100'000, '[')), -32700); }

TEST_F(JsonRpcTest, InjectedErrorsHitRequestsInTheirRatioAndNeverTheHandshake) {
  faults.error.SetRatio(0.25);
  int failed = 0;
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(Answer(R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"1"}})")
                    .contains("result"));
    failed += Answer(R"({"jsonrpc":"2.0","id":1,"method":"ping"})").contains("error") ? 1 : 0;
  }
  EXPECT_EQ(failed, 25);
}

TEST_F(JsonRpcTest, InjectedCloseAnswersNothing) {
  faults.close.SetRatio(1);
  EXPECT_TRUE(Answer(R"({"jsonrpc":"2.0","id":1,"method":"ping"})").is_null());
  EXPECT_TRUE(outcome.close);
  EXPECT_TRUE(outcome.request) << "it was received";
}

}  // namespace
}  // namespace loadstar::target
