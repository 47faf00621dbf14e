#include "agent/fetch/fetcher.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "lib/os/clock.h"
#include "tests/agent/test_server.h"

namespace loadstar::agent {
namespace {

std::future<FetchResult> Get(Fetcher& fetcher, const std::string& address, const std::string& path,
                             int64_t timeout_ns = 5'000'000'000) {
  auto promise = std::make_shared<std::promise<FetchResult>>();
  fetcher.Get({.address = address, .path = path, .timeout_ns = timeout_ns},
              [promise](FetchResult result) { promise->set_value(std::move(result)); });
  return promise->get_future();
}

TEST(Fetcher, ReturnsTheAnswer) {
  const TestServer server("127.0.0.1:26101", TestServer::Answer("fine"));
  Fetcher fetcher;
  const FetchResult result = Get(fetcher, server.address(), "/health").get();
  EXPECT_EQ(result.error, "");
  EXPECT_EQ(result.status, 200);
  EXPECT_EQ(result.body, "fine");
}

TEST(Fetcher, OneSilentServerDoesNotDelayTheOthers) {
  std::vector<os::Fd> kept;
  const TestServer silent("127.0.0.1:26102", [&](os::Fd fd) { kept.push_back(std::move(fd)); });
  const TestServer server("127.0.0.1:26103", TestServer::Answer("fine"));
  Fetcher fetcher;
  const int64_t start = os::MonotonicNs();
  std::future<FetchResult> slow = Get(fetcher, silent.address(), "/health", 1'000'000'000);
  EXPECT_EQ(Get(fetcher, server.address(), "/health").get().body, "fine");
  EXPECT_LT(os::MonotonicNs() - start, 900'000'000);
  EXPECT_EQ(slow.get().error, "no answer in time");
  EXPECT_GE(os::MonotonicNs() - start, 1'000'000'000);
}

TEST(Fetcher, TimeoutBoundsTheWholeAnswerOfATricklingServer) {
  const TestServer server("127.0.0.1:26104", [](os::Fd fd) {
    const std::string head = "HTTP/1.1 200 OK\r\n";
    for (int i = 0; i < 20; ++i) {
      if (send(fd.get(), head.data(), 1, MSG_NOSIGNAL) != 1) return;
      poll(nullptr, 0, 50);
    }
  });
  Fetcher fetcher;
  EXPECT_EQ(Get(fetcher, server.address(), "/metrics", 300'000'000).get().error, "no answer in time");
}

TEST(Fetcher, ConnectAloneIsEnoughWithoutAPath) {
  const TestServer server("127.0.0.1:26105", [](os::Fd) {});
  Fetcher fetcher;
  EXPECT_EQ(Get(fetcher, server.address(), "").get().error, "");
}

TEST(Fetcher, SaysWhyThereIsNoAnswer) {
  Fetcher fetcher;
  EXPECT_NE(Get(fetcher, "127.0.0.1:26106", "/health").get().error.find("refused"), std::string::npos);
  EXPECT_NE(Get(fetcher, "nonsense", "/health").get().error.find("HOST:PORT"), std::string::npos);
}

TEST(Fetcher, NoCallbackAfterStop) {
  std::vector<os::Fd> kept;
  const TestServer silent("127.0.0.1:26107", [&](os::Fd fd) { kept.push_back(std::move(fd)); });
  bool called = false;
  Fetcher fetcher;
  fetcher.Get({.address = silent.address(), .path = "/", .timeout_ns = 1'000'000},
              [&](const FetchResult&) { called = true; });
  fetcher.Stop();
  const bool after_stop = called;
  poll(nullptr, 0, 20);
  EXPECT_EQ(called, after_stop);
}

}  // namespace
}  // namespace loadstar::agent
