// Heartbeats in simulated time: which connections are asked, when, and what becomes of those that do not answer.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "agent/worker/load.h"
#include "tests/worker/peers.h"
#include "tests/worker/sim_run.h"

namespace loadstar::worker {
namespace {

// Answers in whichever protocol it is asked in. An endpoint may fall silent for a time: it takes connections and bytes,
// as the kernel of a stopped process does, and says nothing.
struct Node : GoodPeer {
  std::string silent_endpoint;
  int64_t silent_from_ns = INT64_MAX;  // on the loop's clock
  int64_t silent_until_ns = INT64_MAX;
  bool refuses = false;  // every request is answered with an error
  struct Asked {
    int64_t at_ns;  // of the run
    net::SocketId id;
    std::string bytes;
  };
  std::vector<Asked> asked;  // handshakes are left out

  Connect OnConnect(SimLoop* loop, const std::string& endpoint, const std::string& source) override {
    endpoints_.push_back(endpoint);  // sockets are numbered as they are made
    return GoodPeer::OnConnect(loop, endpoint, source);
  }
  void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
    const bool handshake = bytes.find("initialize") != std::string::npos;
    if (!handshake) asked.push_back({SimLoop::Clock() - SimLoop::kEpoch - kS, id, bytes});
    const int64_t now_ns = SimLoop::Clock();
    if (endpoints_[id] == silent_endpoint && now_ns >= silent_from_ns && now_ns < silent_until_ns) return;
    std::string answer;
    if (bytes[0] == 'P' || bytes[0] == 'G') {
      answer = HttpAnswerTo(bytes, handshake);
    } else {
      answer = AnswerTo(bytes);
      if (bytes[0] == '{' && refuses && !handshake) answer = "{\"id\":" + IdOf(bytes) + kError + "\n";
    }
    if (!answer.empty()) loop->Answer(id, handshake ? kMs : delay_ns, answer);
  }

 private:
  static constexpr const char* kError = ",\"error\":{\"code\":-32601,\"message\":\"no\"}}";

  std::string HttpAnswerTo(const std::string& bytes, bool handshake) const {
    if (bytes.find("notifications/") != std::string::npos) return "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    if (refuses && !handshake) return "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
    const std::string body = bytes[0] == 'P' ? "{\"jsonrpc\":\"2.0\",\"id\":" + IdOf(bytes) + ",\"result\":{}}" : "ok";
    return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }

  std::vector<std::string> endpoints_;
};

PlanBuilder PlanOf(v1::Protocol protocol) {
  PlanBuilder plan;
  plan.plan().set_protocol(protocol);
  plan.plan().mutable_http()->set_method("GET");
  plan.plan().mutable_http()->set_path("/");
  return plan;
}

// TCP and both of HTTP have answers in order, MCP over TCP has not.
class HeartbeatTest : public testing::TestWithParam<v1::Protocol> {};

INSTANTIATE_TEST_SUITE_P(Protocols, HeartbeatTest,
                         testing::Values(v1::PROTOCOL_TCP, v1::PROTOCOL_MCP_TCP, v1::PROTOCOL_HTTP,
                                         v1::PROTOCOL_MCP_HTTP),
                         [](const auto& which) { return v1::Protocol_Name(which.param); });

TEST_P(HeartbeatTest, SilentConnectionsAreLostInTheirSecondAndOthersStay) {
  Node node;
  PlanBuilder plan = PlanOf(GetParam());
  plan.Hold(12 * kS, 10).Endpoints(2).Heartbeat(kS, 2 * kS);
  SimRun run(plan.plan(), &node);
  node.silent_endpoint = "127.0.0.1:23002";
  node.silent_from_ns = SimLoop::Clock() + kS + 4 * kS + 500 * kMs;
  run.ToTheEnd();
  // Asked about every second; the question after 4.5 s has no answer for two.
  for (size_t second = 0; second < 12; ++second) {
    const v1::LoadFigures& figures = run.told().samples[second].figures();
    EXPECT_EQ(figures.counters().connections_lost(), second == 7 ? 5u : 0u) << second;
    EXPECT_EQ(figures.gauges().connections_established(), second < 7 ? 10u : 5u) << second;
  }
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_HEARTBEAT_TIMEOUT), 5u);
  const v1::LoadFigures sum = run.told().Sum();
  EXPECT_EQ(sum.counters().heartbeats_sent(), node.asked.size());
  EXPECT_EQ(sum.counters().heartbeats_failed(), 5u);
  EXPECT_EQ(sum.counters().heartbeats_sent(), 5u * 11 + 5u * 5);
  EXPECT_EQ(sum.counters().connections_closed(), 5u);
  EXPECT_EQ(sum.counters().connects_attempted(), 10u) << "there is no reconnect policy";
}

TEST_P(HeartbeatTest, ReconnectFollowsALossAndTheNewConnectionIsAskedToo) {
  Node node;
  PlanBuilder plan = PlanOf(GetParam());
  plan.Hold(30 * kS, 4).Heartbeat(kS, 2 * kS).Timeout(2).Reconnect();
  plan.plan().mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_CLOSED);
  plan.plan().mutable_load()->mutable_requests()->mutable_think()->set_seconds(1000);
  SimRun run(plan.plan(), &node);
  node.silent_endpoint = "127.0.0.1:23001";
  node.silent_from_ns = SimLoop::Clock() + kS + 5 * kS;
  node.silent_until_ns = node.silent_from_ns + 10 * kS;
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(run.told().samples[28].figures().gauges().connections_established(), 4u);
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_HEARTBEAT_TIMEOUT), sum.heartbeats_failed());
  EXPECT_GE(sum.heartbeats_failed(), 4u);
  EXPECT_EQ(sum.connects_established(), 4u + sum.connections_lost());
  for (size_t second = 20; second < 28; ++second) {
    EXPECT_NEAR(static_cast<double>(run.told().samples[second].figures().counters().heartbeats_answered()), 4, 1)
        << second;
  }
}

TEST_P(HeartbeatTest, AreOutsideTheLoadAndErrorAnswersAreSignsOfLife) {
  Node node;
  node.refuses = true;
  PlanBuilder plan = PlanOf(GetParam());
  plan.Hold(10 * kS, 10).Heartbeat(kS, 2 * kS);
  SimRun run(plan.plan(), &node);
  run.ToTheEnd();
  const v1::LoadFigures sum = run.told().Sum();
  EXPECT_EQ(sum.counters().heartbeats_sent(), 90u);
  EXPECT_EQ(sum.counters().heartbeats_answered(), 90u);
  EXPECT_EQ(sum.counters().requests_due() + sum.counters().requests_sent() + sum.counters().requests_answered() +
                sum.counters().requests_failed() + sum.counters().requests_dropped(),
            0u);
  EXPECT_EQ(sum.errors_size(), 0) << sum.DebugString();
  EXPECT_EQ(run.told().Latency().count() + run.told().ServiceTime().count() + run.told().ScheduleLag().count(), 0u);
  EXPECT_EQ(sum.counters().connections_lost(), 0u);
}

TEST_P(HeartbeatTest, ConnectionsWithAnswersOftenEnoughSendNone) {
  Node node;
  PlanBuilder plan = PlanOf(GetParam());
  plan.Hold(10 * kS, 10).Open(10, v1::RATE_SCOPE_PER_CONNECTION, v1::ARRIVAL_POISSON).Heartbeat(3 * kS, kS);
  SimRun run(plan.plan(), &node);
  run.ToTheEnd();
  EXPECT_EQ(run.told().Sum().counters().heartbeats_sent(), 0u);
  EXPECT_GT(run.told().Sum().counters().requests_answered(), 800u);
}

// Requests every 1.25 s, each in the middle of a heartbeat whose answer takes half a second.
TEST_P(HeartbeatTest, RequestThatBecomesDueMeanwhileIsSentBehindItAtOnce) {
  Node node;
  node.delay_ns = 500 * kMs;
  PlanBuilder plan = PlanOf(GetParam());
  plan.Hold(20 * kS, 1).Open(0.8, v1::RATE_SCOPE_TOTAL).Heartbeat(500 * kMs, 10 * kS);
  SimRun run(plan.plan(), &node);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.requests_answered(), 16u);
  EXPECT_GE(sum.heartbeats_answered(), 15u);
  size_t behind = 0;
  for (size_t i = 1; i < node.asked.size(); ++i) behind += node.asked[i].at_ns - node.asked[i - 1].at_ns < 500 * kMs;
  EXPECT_GE(behind, 15u) << "or the test does not show what it is for";
  EXPECT_LE(run.told().Latency().max_us(), 510'000u);
  EXPECT_LE(run.told().ServiceTime().max_us(), 500'500u);
  EXPECT_LE(run.told().ScheduleLag().max_us(), 200u);
}

TEST_P(HeartbeatTest, TakesNoPlaceOfARequestAndGivesNone) {
  for (const uint32_t pipeline : {1U, 3U}) {
    Node node;
    PlanBuilder plan = PlanOf(GetParam());
    plan.Hold(10 * kS, 2).Open(4, v1::RATE_SCOPE_TOTAL).Pipeline(pipeline).Heartbeat(400 * kMs, 8 * kS);
    SimRun run(plan.plan(), &node);
    node.silent_endpoint = "127.0.0.1:23001";
    node.silent_from_ns = SimLoop::Clock() + kS + 5 * kS + 410 * kMs;
    run.ToTheEnd(40 * kS);
    for (size_t second = 7; second < 10; ++second) {
      EXPECT_EQ(run.told().samples[second].figures().gauges().requests_outstanding(), 2 * pipeline) << second;
    }
    EXPECT_EQ(run.told().Sum().counters().requests_due(), 40u);
  }
}

TEST_P(HeartbeatTest, WhatIsInFlightBehindASilentOneIsGivenUpWithItsWait) {
  Node node;
  PlanBuilder plan = PlanOf(GetParam());
  plan.Hold(20 * kS, 1).Open(0.2, v1::RATE_SCOPE_TOTAL).Heartbeat(2 * kS, 3 * kS);
  SimRun run(plan.plan(), &node);
  node.silent_endpoint = "127.0.0.1:23001";
  node.silent_from_ns = SimLoop::Clock() + kS + 8 * kS;
  run.ToTheEnd();
  // Requests at 0, 5, 10 and 15 s; heartbeats at 2, 4, 7 and 9 s. The last has no answer until 12 s.
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_HEARTBEAT_TIMEOUT), 1u);
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_HEARTBEAT_TIMEOUT), 1u);
  EXPECT_EQ(run.told().samples[12].figures().counters().connections_lost(), 1u);
  metrics::Histogram latency;
  ASSERT_TRUE(latency.Merge(run.told().samples[12].figures().latency()));
  EXPECT_EQ(latency.count(), 1u);
  EXPECT_NEAR(static_cast<double>(latency.max_us()), 2e6, 1e4);
}

TEST_P(HeartbeatTest, EndWithTheProfileAndOneInFlightIsWaitedFor) {
  Node node;
  node.delay_ns = 1700 * kMs;  // asked at 1 and 3.7 s, answered at 2.7 and 5.4 s
  PlanBuilder plan = PlanOf(GetParam());
  plan.Hold(5 * kS, 1).Heartbeat(kS, 10 * kS);
  SimRun run(plan.plan(), &node);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.heartbeats_sent(), 2u);
  EXPECT_EQ(sum.heartbeats_answered(), 2u);
  EXPECT_EQ(sum.connections_closed(), 1u);
  EXPECT_LT(node.asked.back().at_ns, 5 * kS);
  EXPECT_NEAR(static_cast<double>(run.finished_after_ns()), 5.4e9, 2e7);
}

TEST_P(HeartbeatTest, SilenceAtTheEndIsFoundWhileTheRunDrains) {
  Node node;
  PlanBuilder plan = PlanOf(GetParam());
  plan.Hold(5 * kS, 3).Heartbeat(kS, 2 * kS);
  SimRun run(plan.plan(), &node);
  node.silent_endpoint = "127.0.0.1:23001";
  node.silent_from_ns = SimLoop::Clock() + kS + 3 * kS + 500 * kMs;
  run.ToTheEnd();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_HEARTBEAT_TIMEOUT), 3u);
  EXPECT_LT(run.finished_after_ns(), 6 * kS + 100 * kMs);
}

TEST(HeartbeatMcpTest, IsAPingWhateverTheTestCalls) {
  for (const v1::Protocol protocol : {v1::PROTOCOL_MCP_TCP, v1::PROTOCOL_MCP_HTTP}) {
    Node node;
    PlanBuilder plan = PlanOf(protocol);
    plan.Hold(3 * kS, 1).Heartbeat(kS, kS);
    plan.plan().mutable_mcp()->set_method("tools/call");
    plan.plan().mutable_mcp()->set_tool("echo");
    SimRun run(plan.plan(), &node);
    run.ToTheEnd();
    ASSERT_EQ(node.asked.size(), 2u);
    for (const Node::Asked& asked : node.asked) {
      EXPECT_NE(asked.bytes.find("\"method\":\"ping\""), std::string::npos) << asked.bytes;
    }
  }
}

TEST(HeartbeatMcpTest, AnythingReceivedIsASignOfLife) {
  Node node;
  SimRun run(PlanBuilder().Mcp().Hold(5 * kS, 1).Heartbeat(kS, kS).plan(), &node);
  for (int64_t at_ns = 500 * kMs; at_ns < 5 * kS; at_ns += 500 * kMs) {
    run.At(at_ns, [&] { run.loop().Answer(0, 0, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tick\"}\n"); });
  }
  run.ToTheEnd();
  EXPECT_EQ(run.told().Sum().counters().heartbeats_sent(), 0u);
}

// An unordered protocol gives requests up one by one; what follows is the question whether anyone is there at all.
TEST(HeartbeatMcpTest, FollowsARequestThatTimedOut) {
  Node node;
  SimRun run(
      PlanBuilder().Mcp().Hold(10 * kS, 1).Open(0.1, v1::RATE_SCOPE_TOTAL).Timeout(3).Heartbeat(kS, 2 * kS).plan(),
      &node);
  node.silent_endpoint = "127.0.0.1:23001";
  node.silent_from_ns = SimLoop::Clock() + kS + 5'500'000;  // while the handshake's answer is on its way
  run.ToTheEnd();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_REQUEST_TIMEOUT), 1u);
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_HEARTBEAT_TIMEOUT), 1u);
  EXPECT_EQ(run.told().samples[5].figures().counters().connections_lost(), 1u);
}

TEST(HeartbeatClosedModelTest, AreSentWhileAConnectionThinks) {
  Node node;
  SimRun run(PlanBuilder().Hold(25 * kS, 2).Closed(10 * kS).Heartbeat(2 * kS, kS).plan(), &node);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.requests_answered(), 2u * 3);
  EXPECT_EQ(sum.heartbeats_answered(), 2u * (4 + 4 + 2));
}

TEST(HeartbeatSpreadTest, FollowsTheRamp) {
  Node node;
  SimRun run(PlanBuilder().Ramp(10 * kS, 1000).Ramp(30 * kS, 1000).Heartbeat(10 * kS, kS).plan(), &node);
  run.ToTheEnd();
  for (size_t second = 11; second < 39; ++second) {
    EXPECT_NEAR(static_cast<double>(run.told().samples[second].figures().counters().heartbeats_sent()), 100, 5)
        << second;
  }
}

TEST(HeartbeatHttpTest, AnswerThatIsTheLastReplacesItsConnection) {
  struct Closing final : Node {
    void OnBytes(SimLoop* loop, net::SocketId id, const std::string& /*bytes*/) override {
      loop->Answer(id, delay_ns, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    }
  } node;
  PlanBuilder plan = PlanOf(v1::PROTOCOL_HTTP);
  plan.Hold(5 * kS, 2).Heartbeat(kS, kS);
  SimRun run(plan.plan(), &node);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.connections_lost(), 0u);
  EXPECT_EQ(sum.heartbeats_answered(), 8u);
  EXPECT_EQ(sum.connects_established(), 2u + 8u);
}

TEST(KeepaliveTest, OfThePlanIsAskedForOnEveryConnection) {
  Node node;
  PlanBuilder plan;
  SimRun without(plan.Hold(kS, 1).plan(), &node);
  without.ToTheEnd();
  EXPECT_FALSE(without.loop().keepalive().has_value());
  v1::KeepaliveSpec* keepalive = plan.plan().mutable_load()->mutable_keepalive();
  keepalive->mutable_idle()->set_seconds(60);
  keepalive->mutable_interval()->set_seconds(7);
  keepalive->set_probes(4);
  SimRun run(plan.plan(), &node);
  run.ToTheEnd();
  ASSERT_TRUE(run.loop().keepalive().has_value());
  EXPECT_EQ(run.loop().keepalive()->idle_s, 60);
  EXPECT_EQ(run.loop().keepalive()->interval_s, 7);
  EXPECT_EQ(run.loop().keepalive()->probes, 4);
}

}  // namespace
}  // namespace loadstar::worker
