// What the node answers over HTTP, with strings alone.
#include "target/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace loadstar::target {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr size_t kLongestBody = 2000;
constexpr char kPlain[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nxxx";

class HttpTest : public ::testing::Test {
 protected:
  // The answers, and "<last>" or "<closed>" when the connection is to end so.
  std::string Serve(std::string_view bytes, size_t step = SIZE_MAX) {
    std::string out;
    while (!bytes.empty()) {
      std::string_view part = bytes.substr(0, step);
      bytes.remove_prefix(part.size());
      switch (http_.Serve(&connection_, &part, &out)) {
        case Http::Result::kMore:
          EXPECT_TRUE(part.empty() || out.size() >= kEnough);
          break;
        case Http::Result::kLast:
          return out + "<last>";
        case Http::Result::kClosed:
          return out + "<closed>";
      }
    }
    return out;
  }
  static std::string Post(const std::string& body, const std::string& type = "application/json") {
    return "POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Type: " + type +
           "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }

  static constexpr size_t kEnough = 10'000;
  JsonRpc rpc_{"node", "1"};
  RequestFaults faults_;
  ProcessCells cells_;
  Http http_{{.body_bytes = 3, .longest_body = kLongestBody, .enough_answers = kEnough, .first_session = 255},
             &rpc_,
             &faults_,
             &cells_};
  HttpConnection connection_;
};

TEST_F(HttpTest, EveryPathAndMethodGetsTheBodyOfFixedSize) {
  EXPECT_EQ(Serve("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), kPlain);
  EXPECT_EQ(Serve("DELETE /a/b?c HTTP/1.1\r\nHost: h\r\n\r\n"), kPlain);
  EXPECT_EQ(Serve("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(Serve(Post("{}", "text/plain")), kPlain);
  EXPECT_EQ(cells_.requests.Get(), 4U);
}

TEST_F(HttpTest, PipelinedRequestsAreAnsweredInOrderInAnyCut) {
  const std::string stream =
      "GET / HTTP/1.1\r\nHost: h\r\n\r\nPOST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      "2\r\nab\r\n0\r\n\r\n" +
      Post(R"({"jsonrpc":"2.0","id":7,"method":"ping"})");
  for (size_t step = 1; step <= stream.size(); ++step) {
    ASSERT_EQ(Serve(stream, step), std::string(kPlain) + kPlain +
                                       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 36\r\n\r\n"
                                       R"({"jsonrpc":"2.0","id":7,"result":{}})")
        << step;
  }
  EXPECT_TRUE(connection_.body.empty());
}

TEST_F(HttpTest, ConnectionEndsWhenTheClientSaysSo) {
  EXPECT_EQ(Serve("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxxx<last>");
  EXPECT_EQ(cells_.requests.Get(), 1U) << "what follows is not served";
}

TEST_F(HttpTest, OldClientsAreToldWhetherTheConnectionStays) {
  EXPECT_THAT(Serve("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), HasSubstr("\r\nConnection: keep-alive\r\n"));
  EXPECT_THAT(Serve("GET / HTTP/1.0\r\n\r\n"), EndsWith("Connection: close\r\n\r\nxxx<last>"));
}

TEST_F(HttpTest, PostOfJsonIsJsonRpc) {
  const std::string hello =
      R"({"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}})";
  EXPECT_THAT(Serve(Post(hello)), HasSubstr("\r\nMcp-Session-Id: 00000000000000ff\r\n"));
  EXPECT_THAT(Serve(Post(hello, "Application/JSON; charset=utf-8")), HasSubstr("0000000000000100\r\n"));
  EXPECT_EQ(Serve(Post(R"({"jsonrpc":"2.0","method":"notifications/initialized"})")),
            "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(cells_.handshakes.Get(), 2U);
  EXPECT_EQ(cells_.requests.Get(), 0U);
  EXPECT_THAT(Serve(Post(R"({"jsonrpc":"2.0","id":1,"method":"no"})")),
              ::testing::AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("-32601")));
  EXPECT_THAT(Serve(Post("{")), ::testing::AllOf(StartsWith("HTTP/1.1 400 Bad Request\r\n"), HasSubstr("-32700")));
  EXPECT_EQ(cells_.requests.Get(), 1U);
  EXPECT_EQ(Serve("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), kPlain) << "the connection lives on";
}

TEST_F(HttpTest, WhatCannotBeReadIsRefusedAndCounted) {
  const auto refused = [this](const std::string& stream) {
    connection_ = HttpConnection();
    return Serve(stream);
  };
  EXPECT_EQ(refused("hello\r\n"), "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n<last>");
  EXPECT_THAT(refused("GET / HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(refused("GET / HTTP/1.1\r\nA: " + std::string(70'000, 'a')), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(refused("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n"), StartsWith("HTTP/1.1 501 "));
  EXPECT_THAT(refused(Post(std::string(kLongestBody + 1, ' '))), StartsWith("HTTP/1.1 413 "));
  EXPECT_EQ(cells_.errors[static_cast<size_t>(ErrorKind::kBadHttp)].Get(), 5U);
}

TEST_F(HttpTest, ClientThatWaitsForItIsToldToContinue) {
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
  EXPECT_EQ(Serve(head), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(Serve("a"), kPlain);
  EXPECT_EQ(Serve(head + "a"), kPlain) << "it did not wait";
}

TEST_F(HttpTest, FaultsHitTheirShare) {
  faults_.error.SetRatio(0.5);
  const std::string two = "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n";
  EXPECT_EQ(Serve(two), std::string(kPlain) +
                            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 15\r\n\r\n"
                            "injected fault\n");
  const std::string ping = Post(R"({"jsonrpc":"2.0","id":7,"method":"ping"})");
  EXPECT_THAT(Serve(ping + ping), HasSubstr("-32000"));
  faults_.error.SetRatio(0);
  faults_.close.SetRatio(0.5);
  EXPECT_EQ(Serve(two), std::string(kPlain) + "<closed>");
  EXPECT_EQ(cells_.requests.Get(), 6U);
  EXPECT_EQ(cells_.errors[static_cast<size_t>(ErrorKind::kInjectedError)].Get(), 2U);
  EXPECT_EQ(cells_.errors[static_cast<size_t>(ErrorKind::kInjectedClose)].Get(), 1U);
}

TEST_F(HttpTest, RequestsBeyondEnoughAnswersAreLeft) {
  std::string stream;
  for (int i = 0; i < 1000; ++i) stream += "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  std::string_view bytes = stream;
  std::string answers;
  size_t turns = 0;
  for (; !bytes.empty(); ++turns) {
    std::string out;
    EXPECT_EQ(http_.Serve(&connection_, &bytes, &out), Http::Result::kMore);
    EXPECT_LT(out.size(), kEnough + sizeof(kPlain));
    answers += out;
  }
  EXPECT_GT(turns, 5U);
  EXPECT_EQ(answers.size(), 1000 * (sizeof(kPlain) - 1));
}

}  // namespace
}  // namespace loadstar::target
