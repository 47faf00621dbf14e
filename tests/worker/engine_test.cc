// The engine in simulated time: what a run does, second by second, with exact expectations.
#include "agent/worker/engine.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "tests/worker/peers.h"
#include "tests/worker/sim_run.h"

namespace loadstar::worker {
namespace {

// --- connections ---

TEST(EngineTest, ConnectionsFollowTheRampAtEverySecond) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Ramp(10 * kS, 1000).Ramp(5 * kS, 1000).plan(), &peer);
  run.ToTheEnd();
  ASSERT_EQ(run.told().samples.size(), 16u);
  for (size_t second = 0; second < 15; ++second) {
    const v1::Gauges& gauges = run.told().samples[second].figures().gauges();
    const uint64_t want = std::min<uint64_t>(1000, 100 * (second + 1));
    EXPECT_EQ(gauges.connections_target(), want) << second;
    EXPECT_NEAR(static_cast<double>(gauges.connections_established()), static_cast<double>(want), 10) << second;
  }
  EXPECT_EQ(run.told().samples[14].figures().gauges().connections_established(), 1000u);
  EXPECT_EQ(run.told().samples[15].figures().gauges().connections_target(), 0u);
  EXPECT_EQ(run.told().Sum().counters().connections_closed(), 1000u);
  EXPECT_EQ(run.loop().resets(), 1000u) << "an orderly end leaves no TIME_WAIT";
}

TEST(EngineTest, StepDownClosesTheHighestAndStepUpOpensTheLowest) {
  GoodPeer peer;
  SimRun run(PlanBuilder()
                 .Ramp(1, 90)
                 .Ramp(3 * kS, 90)
                 .Ramp(1, 30)
                 .Ramp(3 * kS, 30)
                 .Ramp(1, 60)
                 .Ramp(3 * kS, 60)
                 .Endpoints(3)
                 .plan(),
             &peer);
  run.Start();
  run.RunUntil(2 * kS);
  EXPECT_EQ(run.loop().open(), 90u);
  run.RunUntil(5 * kS);
  EXPECT_EQ(run.loop().open(), 30u);
  for (const char* endpoint : {"127.0.0.1:23001", "127.0.0.1:23002", "127.0.0.1:23003"}) {
    EXPECT_EQ(run.loop().open_to(endpoint), 10u) << endpoint;
  }
  run.RunUntil(8 * kS);
  EXPECT_EQ(run.loop().open(), 60u);
  run.Finish();
  EXPECT_EQ(run.told().Sum().counters().connects_attempted(), 120u);
  EXPECT_EQ(run.told().Sum().counters().connections_closed(), 120u);
  EXPECT_EQ(run.told().Sum().counters().connections_lost(), 0u);
}

TEST(EngineTest, WorkersTogetherSpreadExactlyEvenOverEndpointsAndSources) {
  GoodPeer peer;
  std::map<std::string, uint64_t> per_endpoint;
  for (uint32_t worker = 0; worker < 6; ++worker) {
    PlanBuilder plan;
    plan.Hold(3 * kS, 4000).Endpoints(4).Worker(worker, 6);
    for (const char* source : {"127.0.0.2", "127.0.0.3"}) plan.plan().mutable_load()->add_source_addresses(source);
    plan.plan().set_connections_max(667);
    SimRun run(plan.plan(), &peer);
    run.ToTheEnd();
    for (const v1::EndpointFigures& endpoint : run.told().samples[1].endpoints()) {
      per_endpoint[endpoint.endpoint()] += endpoint.gauges().connections_established();
      EXPECT_EQ(endpoint.gauges().connections_target(), endpoint.gauges().connections_established());
    }
  }
  ASSERT_EQ(per_endpoint.size(), 4u);
  for (const auto& [endpoint, count] : per_endpoint) EXPECT_EQ(count, 1000u) << endpoint;
  ASSERT_EQ(peer.sources.size(), 2u);
  for (const auto& [source, count] : peer.sources) EXPECT_EQ(count, 2000u) << source;
}

TEST(EngineTest, RefusingTargetIsReportedOnceWithinSeconds) {
  struct Refusing final : GoodPeer {
    Connect OnConnect(SimLoop*, const std::string&, const std::string&) override { return {ECONNREFUSED, 50'000}; }
  } peer;
  SimRun run(PlanBuilder().Ramp(60 * kS, 6000).plan(), &peer);
  run.Start();
  run.RunUntil(3 * kS);
  ASSERT_EQ(run.told().EventsOf("target-refuses"), 1u);
  EXPECT_EQ(run.told().events[0].severity(), 3u);
  EXPECT_NE(run.told().events[0].message().find("127.0.0.1:23001 ERROR_KIND_REFUSED"), std::string::npos);
  run.Stop(4 * kS);
  run.Finish();
  EXPECT_EQ(run.told().EventsOf("target-refuses"), 1u);
  EXPECT_GT(run.told().Errors(v1::ERROR_PHASE_CONNECT, v1::ERROR_KIND_REFUSED), 300u);
}

TEST(EngineTest, RefusalOfASmallTestIsReportedToo) {
  struct Refusing final : GoodPeer {
    Connect OnConnect(SimLoop*, const std::string&, const std::string&) override { return {ECONNREFUSED, 50'000}; }
  } peer;
  SimRun run(PlanBuilder().Hold(5 * kS, 3).plan(), &peer);
  run.ToTheEnd();
  EXPECT_EQ(run.told().EventsOf("target-refuses"), 1u);
  EXPECT_EQ(run.told().Sum().counters().connects_attempted(), 3u) << "without reconnect a number is tried once";
}

TEST(EngineTest, ConnectTimeoutFailsTheAttempt) {
  struct Silent final : GoodPeer {
    Connect OnConnect(SimLoop*, const std::string&, const std::string&) override { return {0, -1}; }
  } peer;
  PlanBuilder plan;
  plan.Hold(5 * kS, 10).plan().mutable_load()->mutable_connect_timeout()->set_seconds(2);
  SimRun run(plan.plan(), &peer);
  run.ToTheEnd();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECT, v1::ERROR_KIND_CONNECT_TIMEOUT), 10u);
  EXPECT_EQ(run.told().samples[1].figures().gauges().connections_pending(), 10u);
  EXPECT_EQ(run.told().samples[2].figures().gauges().connections_pending(), 0u);
}

TEST(EngineTest, NoMoreThanTheBoundOfConnectsIsInProgress) {
  struct Slow final : GoodPeer {
    Connect OnConnect(SimLoop*, const std::string&, const std::string&) override { return {0, 700 * kMs}; }
  } peer;
  SimRun run(PlanBuilder().Hold(10 * kS, 2000).plan(), &peer);
  run.ToTheEnd();
  for (const v1::WorkerSample& sample : run.told().samples) {
    EXPECT_LE(sample.figures().gauges().connections_pending(), Load::kMaxPending);
  }
  EXPECT_EQ(run.told().samples[0].figures().gauges().connections_pending(), Load::kMaxPending);
  EXPECT_EQ(run.told().samples[5].figures().gauges().connections_established(), 2000u);
}

TEST(EngineTest, LostConnectionStaysGoneWithoutReconnectAndComesBackWithIt) {
  for (const bool reconnect : {false, true}) {
    GoodPeer peer;
    PlanBuilder plan;
    plan.Hold(20 * kS, 5);
    if (reconnect) plan.Reconnect();
    SimRun run(plan.plan(), &peer);
    run.At(2 * kS, [&] { run.loop().End(3, 1, ECONNRESET); });
    run.ToTheEnd();
    EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_RESET), 1u);
    EXPECT_EQ(run.told().samples[18].figures().gauges().connections_established(), reconnect ? 5u : 4u);
    EXPECT_EQ(run.told().Sum().counters().connects_attempted(), reconnect ? 6u : 5u);
  }
}

TEST(EngineTest, BackoffDoublesUpToItsBoundWithJitter) {
  struct Recorder final : GoodPeer {
    Connect OnConnect(SimLoop*, const std::string&, const std::string&) override {
      at.push_back(SimLoop::Clock());
      return {ECONNREFUSED, 1000};
    }
    std::vector<int64_t> at;
  } peer;
  PlanBuilder plan;
  plan.Hold(120 * kS, 1).Reconnect();
  SimRun run(plan.plan(), &peer);
  run.ToTheEnd();
  ASSERT_GT(peer.at.size(), 12u);
  for (size_t i = 1; i < peer.at.size(); ++i) {
    const int64_t bound = std::min<int64_t>(100 * kMs << std::min<size_t>(i - 1, 20), 10 * kS);
    EXPECT_LE(peer.at[i] - peer.at[i - 1], bound + kMs) << i;
  }
}

TEST(EngineTest, DescriptorShortageIsCountedAsTheGeneratorsOwn) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(3 * kS, 10).plan(), &peer);
  run.loop().FailConnects(EMFILE);
  run.ToTheEnd();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECT, v1::ERROR_KIND_NO_DESCRIPTORS), 10u);
}

TEST(EngineTest, UpdateChangesConnectionsFromItsInstantOn) {
  GoodPeer peer;
  PlanBuilder plan;
  plan.Hold(10 * kS, 100).plan().set_connections_max(200);
  SimRun run(plan.plan(), &peer);
  run.Start();
  run.RunUntil(2 * kS);
  v1::LoadUpdate update;
  update.set_connections(150);
  update.mutable_ramp()->set_seconds(2);
  run.Update(4 * kS, update);
  run.Finish();
  const auto established = [&](size_t second) {
    return run.told().samples[second].figures().gauges().connections_established();
  };
  EXPECT_EQ(established(3), 100u);
  EXPECT_NEAR(static_cast<double>(established(4)), 125, 2);
  EXPECT_EQ(established(6), 150u);
}

TEST(EngineTest, UpdateBeyondThePlannedArraysIsHeldAndReported) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(6 * kS, 10).plan(), &peer);
  run.Start();
  v1::LoadUpdate update;
  update.set_connections(50);
  run.Update(1 * kS, update);
  run.Finish();
  EXPECT_EQ(run.told().EventsOf("connections-limit"), 1u);
  EXPECT_EQ(run.told().samples[3].figures().gauges().connections_established(), 10u);
  EXPECT_EQ(run.told().samples[3].figures().gauges().connections_target(), 50u) << "what is asked for is shown";
}

// --- requests ---

TEST(EngineTest, WorkersTogetherSendExactlyTheConstantTotalRate) {
  uint64_t due = 0;
  GoodPeer peer;
  for (uint32_t worker = 0; worker < 3; ++worker) {
    SimRun run(PlanBuilder().Hold(10 * kS, 30).Worker(worker, 3).Open(1000, v1::RATE_SCOPE_TOTAL).plan(), &peer);
    run.ToTheEnd();
    due += run.told().Sum().counters().requests_due();
    EXPECT_EQ(run.told().Sum().counters().requests_answered(), run.told().Sum().counters().requests_due());
    for (size_t second = 1; second < 9; ++second) {
      EXPECT_NEAR(static_cast<double>(run.told().samples[second].figures().counters().requests_sent()), 1000.0 / 3, 1);
    }
  }
  EXPECT_EQ(due, 10'000u);
  EXPECT_EQ(peer.requests, 10'000u);
}

TEST(EngineTest, PerConnectionRateIsOfEachConnectionFromWhenItIsWanted) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(10 * kS, 100).Open(2, v1::RATE_SCOPE_PER_CONNECTION).plan(), &peer);
  run.ToTheEnd();
  EXPECT_NEAR(static_cast<double>(run.told().Sum().counters().requests_sent()), 2000, 2);
  for (size_t second = 1; second < 9; ++second) {
    EXPECT_NEAR(static_cast<double>(run.told().samples[second].figures().counters().requests_sent()), 200, 3)
        << "phases are spread, so every second is alike: " << second;
  }
}

TEST(EngineTest, PoissonArrivalsHaveTheMeanAndTheSpreadOfPoisson) {
  GoodPeer peer;
  peer.delay_ns = 1000;
  for (const v1::RateScope scope : {v1::RATE_SCOPE_TOTAL, v1::RATE_SCOPE_PER_CONNECTION}) {
    const double rate = scope == v1::RATE_SCOPE_TOTAL ? 400 : 4;
    SimRun run(PlanBuilder().Hold(200 * kS, 100).Open(rate, scope, v1::ARRIVAL_POISSON).plan(), &peer);
    run.ToTheEnd();
    double sum = 0;
    double squares = 0;
    for (size_t second = 1; second < 199; ++second) {
      const auto due = static_cast<double>(run.told().samples[second].figures().counters().requests_due());
      sum += due;
      squares += due * due;
    }
    const double mean = sum / 198;
    const double variance = squares / 198 - mean * mean;
    EXPECT_NEAR(mean, 400, 6);  // four standard errors
    EXPECT_NEAR(variance / mean, 1.0, 0.4) << "the variance of Poisson counts is their mean";
  }
}

TEST(EngineTest, ChangeOfRateIsContinuous) {
  for (const v1::RateScope scope : {v1::RATE_SCOPE_TOTAL, v1::RATE_SCOPE_PER_CONNECTION}) {
    GoodPeer peer;
    const double unit = scope == v1::RATE_SCOPE_TOTAL ? 100 : 1;
    SimRun run(PlanBuilder().Hold(12 * kS, 100).Open(unit, scope).plan(), &peer);
    run.Start();
    v1::LoadUpdate update;
    update.set_rate_per_s(3 * unit);
    run.Update(4 * kS, update);
    run.RunUntil(5 * kS);
    update.set_rate_per_s(0);
    run.Update(8 * kS, update);
    run.Finish();
    const auto due = [&](size_t s) {
      return static_cast<double>(run.told().samples[s].figures().counters().requests_due());
    };
    EXPECT_NEAR(due(2), 100, 2);
    EXPECT_NEAR(due(5), 300, 2);
    EXPECT_NEAR(due(7), 300, 2);
    EXPECT_NEAR(due(9), 0, 1);
    EXPECT_NEAR(static_cast<double>(run.told().Sum().counters().requests_due()), 4 * 100 + 4 * 300, 4);
  }
}

TEST(EngineTest, ClosedModelKeepsThePipelineFullAndThinksBetween) {
  GoodPeer peer;
  peer.delay_ns = 10 * kMs;
  SimRun run(PlanBuilder().Hold(10 * kS, 10).Closed(40 * kMs).Pipeline(2).plan(), &peer);
  run.ToTheEnd();
  // Each of 20 places sends every 50 ms (and a tick of the timer wheel).
  EXPECT_NEAR(static_cast<double>(run.told().samples[5].figures().counters().requests_sent()), 400, 8);
  EXPECT_EQ(run.told().Latency().ToPercentiles().SerializeAsString(),
            run.told().ServiceTime().ToPercentiles().SerializeAsString());
  EXPECT_EQ(run.told().Sum().counters().requests_due(), run.told().Sum().counters().requests_sent());
}

TEST(EngineTest, PipelineBoundsWhatIsInFlightOnAConnection) {
  for (const uint32_t pipeline : {1U, 8U}) {
    GoodPeer peer;
    peer.delay_ns = 100 * kMs;
    SimRun run(PlanBuilder().Hold(5 * kS, 10).Mcp().Pipeline(pipeline).Open(10'000, v1::RATE_SCOPE_TOTAL).plan(),
               &peer);
    run.ToTheEnd();
    for (size_t second = 1; second < 4; ++second) {
      EXPECT_EQ(run.told().samples[second].figures().gauges().requests_outstanding(), 10u * pipeline);
    }
    // 10 connections, `pipeline` in flight each, 100 ms an answer.
    EXPECT_NEAR(static_cast<double>(run.told().Sum().counters().requests_sent()), 500.0 * pipeline, 20.0 * pipeline);
    EXPECT_GT(run.told().Sum().counters().requests_dropped(), 40'000u) << "what was due and not sent is told";
  }
}

TEST(EngineTest, McpHandshakeComesFirstAndIsMeasured) {
  GoodPeer peer;
  peer.delay_ns = 5 * kMs;
  SimRun run(PlanBuilder().Hold(3 * kS, 10).Mcp().Open(10, v1::RATE_SCOPE_PER_CONNECTION).plan(), &peer);
  run.ToTheEnd();
  EXPECT_EQ(run.told().Sum().counters().handshakes_done(), 10u);
  metrics::Histogram handshake;
  ASSERT_TRUE(handshake.Merge(run.told().Sum().handshake_time()));
  EXPECT_EQ(handshake.count(), 10u);
  EXPECT_EQ(handshake.max_us(), 5000u);
}

TEST(EngineTest, GarbageEndsTheConnectionAsAProtocolError) {
  struct Garbage final : GoodPeer {
    void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
      loop->Answer(id, 1000, IsRequest(bytes) ? "what?\n" : AnswerTo(bytes));
    }
  } peer;
  SimRun run(PlanBuilder().Hold(3 * kS, 10).Mcp().Open(10, v1::RATE_SCOPE_PER_CONNECTION).plan(), &peer);
  run.ToTheEnd();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_PROTOCOL, "not-json-rpc"), 10u);
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_PROTOCOL, "not-json-rpc"), 10u);
}

TEST(EngineTest, EchoThatDiffersOrComesOutOfOrderEndsTheConnection) {
  struct Wrong final : GoodPeer {
    void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
      std::string answer = bytes;
      answer[reversed ? 6 : 20] ^= reversed ? 8 : 1;  // the id, one sequence number further; the pattern
      loop->Answer(id, 1000, answer);
    }
    bool reversed = false;
  } peer;
  for (const bool reversed : {false, true}) {
    peer.reversed = reversed;
    SimRun run(PlanBuilder().Hold(3 * kS, 4).Open(10, v1::RATE_SCOPE_PER_CONNECTION).plan(), &peer);
    run.ToTheEnd();
    EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_PROTOCOL,
                                reversed ? "unknown-id" : "echo-differs"),
              4u);
  }
}

TEST(EngineTest, ErrorAnswersFailTheirRequestsAndAreMeasured) {
  struct Refusing final : GoodPeer {
    void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
      if (!IsRequest(bytes)) return GoodPeer::OnBytes(loop, id, bytes);
      loop->Answer(id, 2 * kMs, "{\"id\":" + IdOf(bytes) + ",\"error\":{\"code\":-32601,\"message\":\"no\"}}\n");
    }
  } peer;
  SimRun run(PlanBuilder().Hold(3 * kS, 4).Mcp().Open(100, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  run.ToTheEnd();
  const uint64_t sent = run.told().Sum().counters().requests_sent();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_RPC_ERROR, "-32601"), sent);
  EXPECT_EQ(run.told().Latency().count(), sent);
  EXPECT_EQ(run.told().Sum().counters().connections_lost(), 0u);
}

// ---- HTTP: answers in order, and connections that end by agreement.

constexpr char kHttpAnswer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
constexpr char kHttpLast[] = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

PlanBuilder HttpPlan() {
  PlanBuilder plan;
  plan.plan().set_protocol(v1::PROTOCOL_HTTP);
  plan.plan().mutable_http()->set_method("GET");
  plan.plan().mutable_http()->set_path("/");
  return plan;
}

// Answers every request; each connection's answer number `last_after` is its last.
struct HttpPeer : SimPeer {
  int last_after = INT_MAX;
  std::string last = kHttpLast;
  bool closes = false;  // the last answer lasts until the close
  int64_t delay_ns = kMs;
  uint64_t connects = 0;
  std::map<net::SocketId, int> answered;

  Connect OnConnect(SimLoop* /*loop*/, const std::string& /*endpoint*/, const std::string& /*source*/) override {
    ++connects;
    return {};
  }
  void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
    EXPECT_EQ(bytes, "GET / HTTP/1.1\r\nHost: 127.0.0.1:23001\r\n\r\n");
    const int number = ++answered[id];
    if (number > last_after) return;
    loop->Answer(id, delay_ns, number == last_after ? last : kHttpAnswer);
    if (number == last_after && closes) loop->End(id, delay_ns + kMs, 0);
  }
};

TEST(EngineTest, HttpAnswersMatchTheOldestRequestInFlight) {
  HttpPeer peer;
  peer.delay_ns = 30 * kMs;
  SimRun run(HttpPlan().Hold(3 * kS, 2).Pipeline(5).Open(300, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.requests_answered(), 900u);
  EXPECT_EQ(sum.connections_lost(), 0u);
  EXPECT_NEAR(static_cast<double>(run.told().ServiceTime().max_us()), 30'000, 300);
}

TEST(EngineTest, ConnectionThatEndsByAgreementIsClosedAndReplacedAtOnceWithoutAReconnectPolicy) {
  HttpPeer peer;
  peer.last_after = 10;
  SimRun run(HttpPlan().Hold(5 * kS, 4).Open(20, v1::RATE_SCOPE_PER_CONNECTION).plan(), &peer);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.connections_lost(), 0u);
  EXPECT_EQ(sum.requests_failed(), 0u);
  EXPECT_EQ(sum.requests_answered(), 400u);
  EXPECT_EQ(sum.connects_established(), peer.connects);
  EXPECT_NEAR(static_cast<double>(peer.connects), 40, 4);
  // One is replaced within a round trip: no backoff is in it.
  EXPECT_LT(run.told().Latency().max_us(), 5'000u);
}

TEST(EngineTest, EveryRequestOnItsOwnConnection) {
  HttpPeer peer;
  peer.last_after = 1;
  SimRun run(HttpPlan().Hold(2 * kS, 5).Closed(0).plan(), &peer);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_GT(sum.requests_answered(), 5000u);
  EXPECT_EQ(sum.requests_failed(), 0u);
  EXPECT_EQ(sum.connections_lost(), 0u);
  EXPECT_GE(sum.connects_established(), sum.requests_answered());
  for (size_t i = 0; i + 1 < run.told().samples.size(); ++i) {
    EXPECT_LE(run.told().samples[i].figures().gauges().connections_established(), 5u);
  }
}

TEST(EngineTest, RequestsInFlightBehindTheLastAnswerFailAsClosedByPeer) {
  HttpPeer peer;
  peer.last_after = 3;
  peer.delay_ns = 50 * kMs;
  SimRun run(HttpPlan().Hold(3 * kS, 2).Pipeline(4).Open(200, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.connections_lost(), 0u);
  EXPECT_GT(sum.requests_failed(), 50u);
  EXPECT_GT(sum.requests_answered(), 150u);
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_CLOSED_BY_PEER), sum.requests_failed());
}

TEST(EngineTest, OrderlyCloseCompletesABodyThatLastsUntilThen) {
  HttpPeer peer;
  peer.last_after = 1;
  peer.last = "HTTP/1.0 200 OK\r\n\r\nuntil the end";
  peer.closes = true;
  SimRun run(HttpPlan().Hold(2 * kS, 3).Closed(10 * kMs).plan(), &peer);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_GT(sum.requests_answered(), 400u);
  EXPECT_EQ(sum.requests_failed(), 0u);
  EXPECT_EQ(sum.connections_lost(), 0u);
  EXPECT_NEAR(static_cast<double>(run.told().ServiceTime().max_us()), 2'000, 50);
}

TEST(EngineTest, CloseWithinAnAnswerIsALostConnection) {
  HttpPeer peer;
  peer.last_after = 1;
  peer.last = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort";
  peer.closes = true;
  SimRun run(HttpPlan().Hold(2 * kS, 3).Closed(10 * kMs).plan(), &peer);
  run.ToTheEnd();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_CLOSED_BY_PEER), 3u);
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_CLOSED_BY_PEER), 3u);
  EXPECT_EQ(peer.connects, 3u) << "there is no reconnect policy";
}

TEST(EngineTest, UnexpectedStatusesAreCountedByStatusAndMeasured) {
  struct Failing final : HttpPeer {
    void OnBytes(SimLoop* loop, net::SocketId id, const std::string& /*bytes*/) override {
      loop->Answer(id, 2 * kMs, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
    }
  } peer;
  SimRun run(HttpPlan().Hold(3 * kS, 4).Open(100, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  run.ToTheEnd();
  const uint64_t sent = run.told().Sum().counters().requests_sent();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_HTTP_STATUS, "503"), sent);
  EXPECT_EQ(run.told().Latency().count(), sent);
  EXPECT_EQ(run.told().Sum().counters().connections_lost(), 0u);
}

TEST(EngineTest, ConnectionThatIsNotWantedAnyMoreIsNotReplaced) {
  HttpPeer peer;
  peer.delay_ns = 700 * kMs;
  peer.last_after = 1;
  SimRun run(HttpPlan().Hold(kS, 3).Closed(0).plan(), &peer);
  run.ToTheEnd();
  EXPECT_EQ(peer.connects, 6u) << "those whose last answer came after the end have no successor";
}

TEST(EngineTest, TimedOutMcpRequestIsMeasuredAndItsLateAnswerIgnored) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(20 * kS, 4).Mcp().Timeout(2).Open(40, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  peer.stall_from_ns = SimLoop::Clock() + kS + 5 * kS;
  peer.stall_until_ns = peer.stall_from_ns + 5 * kS;
  run.ToTheEnd();
  // Four connections, each stuck at 5 s and, after the timeout, twice more before the stall is over.
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_REQUEST_TIMEOUT), 8u);
  EXPECT_EQ(run.told().Sum().counters().connections_lost(), 0u);
  EXPECT_EQ(run.told().Sum().counters().requests_due(), 800u);
  EXPECT_EQ(run.told().Sum().counters().requests_answered(), 792u);
  EXPECT_NEAR(static_cast<double>(run.told().Latency().max_us()), 5e6, 2e5) << "the stall shows in full";
}

TEST(EngineTest, TimedOutEchoLosesItsConnection) {
  struct Silent final : GoodPeer {
    void OnBytes(SimLoop*, net::SocketId, const std::string&) override {}
  } peer;
  SimRun run(PlanBuilder().Hold(10 * kS, 4).Timeout(2).Pipeline(3).Open(10, v1::RATE_SCOPE_PER_CONNECTION).plan(),
             &peer);
  run.ToTheEnd();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_REQUEST_TIMEOUT), 4u);
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_REQUEST_TIMEOUT), 12u);
  EXPECT_EQ(run.told().ServiceTime().count(), 4u) << "nobody knows of those lost with the connection, only that";
  EXPECT_EQ(run.told().Latency().count(), 400u)
      << "they took longer than until then, as those did that were never sent";
  EXPECT_EQ(run.told().Sum().counters().requests_dropped(), 388u) << "due on a connection that was lost";
}

TEST(EngineTest, ConnectionTheKernelGaveUpIsNoConnectTimeout) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(5 * kS, 3).plan(), &peer);
  run.At(2 * kS, [&] { run.loop().End(1, 1, ETIMEDOUT); });
  run.ToTheEnd();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_TRANSPORT_TIMEOUT), 1u);
}

// --- schedules of numbers that have no connection ---

// Ends every connection at one instant and refuses new ones until another.
struct Outage final : GoodPeer {
  Connect OnConnect(SimLoop* loop, const std::string& endpoint, const std::string& source) override {
    GoodPeer::OnConnect(loop, endpoint, source);
    const bool refused = SimLoop::Clock() >= from_ns && SimLoop::Clock() < until_ns;
    return {refused ? ECONNREFUSED : 0, 50'000};
  }
  // Scripts it, in times of the run; `connections` have the first sockets.
  void Script(SimRun* run, uint32_t connections, int64_t from, int64_t until) {
    from_ns = SimLoop::kEpoch + kS + from;
    until_ns = SimLoop::kEpoch + kS + until;
    run->At(from, [run, connections] {
      for (uint32_t id = 0; id < connections; ++id) run->loop().End(id, 0, ECONNRESET);
    });
  }
  int64_t from_ns = INT64_MAX;
  int64_t until_ns = INT64_MAX;
};

TEST(EngineTest, OutageShowsInFullInTheLatencyOfTheConnectionsThatCameBack) {
  Outage peer;
  PlanBuilder plan;
  plan.Hold(20 * kS, 10).Open(10, v1::RATE_SCOPE_PER_CONNECTION).Reconnect();
  plan.plan().mutable_load()->mutable_reconnect()->mutable_max_backoff()->set_nanos(100 * kMs);
  SimRun run(plan.plan(), &peer);
  peer.Script(&run, 10, 5 * kS + 50 * kMs, 9 * kS);
  run.ToTheEnd();
  const v1::LoadFigures sum = run.told().Sum();
  EXPECT_EQ(sum.counters().requests_due(), 2000u);
  EXPECT_EQ(sum.counters().requests_dropped(), 0u);
  EXPECT_LE(sum.counters().requests_failed(), 10u);
  for (size_t second = 0; second < 20; ++second) {
    EXPECT_NEAR(static_cast<double>(run.told().samples[second].figures().counters().requests_due()), 100, 1) << second;
  }
  for (size_t second = 5; second < 9; ++second) {
    EXPECT_NEAR(static_cast<double>(run.told().samples[second].figures().gauges().requests_backlog()),
                95.0 + 100.0 * static_cast<double>(second - 5), 2)
        << second;
  }
  // 395 of 2,000 requests wait, from about 4 s down to the backoff's jitter.
  const metrics::Histogram latency = run.told().Latency();
  EXPECT_NEAR(static_cast<double>(latency.max_us()), 3.95e6 + 5e4, 1.5e5);
  EXPECT_NEAR(static_cast<double>(latency.ValueAtQuantile(0.95)), 2.95e6 + 5e4, 1e5);
  EXPECT_LT(run.told().ServiceTime().max_us(), 1000u);
  EXPECT_LT(run.told().ScheduleLag().max_us(), 200u) << "waiting for the target is not the generator's fault";
}

TEST(EngineTest, WhatAConnectionThatStaysGoneWouldHaveAskedForIsDroppedAtTheEndWithItsWait) {
  Outage peer;
  SimRun run(PlanBuilder().Hold(10 * kS, 4).Open(10, v1::RATE_SCOPE_PER_CONNECTION).plan(), &peer);
  peer.Script(&run, 2, 2 * kS + 1, 100 * kS);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.requests_due(), 400u);
  EXPECT_NEAR(static_cast<double>(sum.requests_dropped()), 160, 1);
  EXPECT_EQ(run.told().samples[5].figures().counters().requests_due(), 40u);
  EXPECT_NEAR(static_cast<double>(run.told().samples[5].figures().gauges().requests_backlog()), 80, 1);
  EXPECT_NEAR(static_cast<double>(run.told().Latency().max_us()), 8e6, 2e5);
  EXPECT_NEAR(static_cast<double>(run.told().Latency().ValueAtQuantile(0.8)), 4e6, 2e5);
}

TEST(EngineTest, ConnectionsThatNeverCameAreAskedForAllTheSame) {
  struct Refusing final : GoodPeer {
    Connect OnConnect(SimLoop*, const std::string&, const std::string&) override { return {ECONNREFUSED, 50'000}; }
  } peer;
  SimRun run(PlanBuilder().Hold(10 * kS, 4).Open(10, v1::RATE_SCOPE_PER_CONNECTION).plan(), &peer);
  run.ToTheEnd();
  EXPECT_EQ(run.told().Sum().counters().requests_dropped(), 400u);
  EXPECT_EQ(run.told().Latency().count(), 400u);
}

TEST(EngineTest, WhatWaitsForAConnectionIsDroppedWhenTheProfileLetsGoOfIt) {
  Outage peer;
  SimRun run(PlanBuilder()
                 .Hold(4 * kS, 4)
                 .Ramp(1, 0)
                 .Ramp(4 * kS, 0)
                 .Open(10, v1::RATE_SCOPE_PER_CONNECTION)
                 .Reconnect()
                 .plan(),
             &peer);
  peer.Script(&run, 4, 2 * kS + 1, 100 * kS);
  run.ToTheEnd();
  EXPECT_NEAR(static_cast<double>(run.told().samples[3].figures().gauges().requests_backlog()), 80, 1);
  EXPECT_EQ(run.told().samples[4].figures().gauges().requests_backlog(), 0u);
  EXPECT_NEAR(static_cast<double>(run.told().samples[4].figures().counters().requests_dropped()), 80, 1);
  EXPECT_EQ(run.told().Sum().counters().requests_due(), 160u) << "nothing is due of a number that is not wanted";
}

TEST(EngineTest, WaitingRequestsOfOneConnectionAreBoundedAndTheBoundIsReported) {
  struct Silent final : GoodPeer {
    void OnBytes(SimLoop*, net::SocketId, const std::string&) override {}
  } peer;
  SimRun run(PlanBuilder().Hold(3 * kS, 1).Timeout(1).Open(500'000, v1::RATE_SCOPE_PER_CONNECTION).plan(), &peer);
  run.ToTheEnd();
  EXPECT_EQ(run.told().EventsOf("backlog-full"), 1u);
  EXPECT_EQ(run.told().samples[2].figures().gauges().requests_backlog(), 1'000'000u);
  EXPECT_NEAR(static_cast<double>(run.told().samples[2].figures().counters().requests_dropped()), 497'500, 200);
  EXPECT_EQ(run.told().Latency().count(), 1'497'500u) << "less than 3 s by the moment until the profile is looked at";
  EXPECT_NEAR(static_cast<double>(run.told().Latency().max_us()), 2e6, 2e4) << "the oldest are dropped";
}

TEST(EngineTest, LateRequestsOfAConnectionAreSkippedBeyondOneInterval) {
  GoodPeer peer;
  PlanBuilder plan;
  plan.Hold(10 * kS, 10).Open(10, v1::RATE_SCOPE_PER_CONNECTION);
  plan.plan().mutable_load()->mutable_requests()->set_late_requests(v1::LATE_REQUESTS_SKIP);
  SimRun run(plan.plan(), &peer);
  peer.stall_from_ns = SimLoop::Clock() + kS + 4 * kS;
  peer.stall_until_ns = peer.stall_from_ns + 2 * kS;
  run.ToTheEnd();
  // Of each connection one request is in flight throughout the stall, and the one that was due last is still sent.
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.requests_due(), 1000u);
  EXPECT_NEAR(static_cast<double>(sum.requests_dropped()), 10 * (20 - 2), 1);
  EXPECT_EQ(sum.requests_answered() + sum.requests_dropped(), 1000u);
  EXPECT_EQ(run.told().Latency().count(), 1000u);
  EXPECT_NEAR(static_cast<double>(run.told().Latency().ValueAtQuantile(0.9)), 1e6, 1e5)
      << "the stall shows in the waits of those that were skipped";
}

TEST(EngineTest, LateRequestsOfATotalRateHaveTheLimitOfTheSameRatePerConnection) {
  for (const uint32_t workers : {1U, 2U}) {
    GoodPeer peer;
    PlanBuilder plan;
    plan.Hold(10 * kS, 10).Open(100, v1::RATE_SCOPE_TOTAL).Worker(0, workers);
    plan.plan().mutable_load()->mutable_requests()->set_late_requests(v1::LATE_REQUESTS_SKIP);
    SimRun run(plan.plan(), &peer);
    peer.stall_from_ns = SimLoop::Clock() + kS + 4 * kS;
    peer.stall_until_ns = peer.stall_from_ns + 2 * kS;
    run.ToTheEnd();
    const v1::Counters sum = run.told().Sum().counters();
    EXPECT_EQ(sum.requests_due(), 1000u / workers);
    // In flight: 10 connections' (5 of the first of two workers); late by no more than 10 / 100/s = 100 ms: 10 (5).
    EXPECT_NEAR(static_cast<double>(sum.requests_dropped()), 180.0 / workers, 2);
    EXPECT_EQ(sum.requests_answered() + sum.requests_dropped(), 1000u / workers);
  }
}

TEST(EngineTest, LatenessBelowTheTimersCoarsenessIsNeverSkipped) {
  GoodPeer peer;
  peer.delay_ns = 1000;
  PlanBuilder plan;
  plan.Hold(2 * kS, 1).Pipeline(1024).Open(20'000, v1::RATE_SCOPE_PER_CONNECTION);
  plan.plan().mutable_load()->mutable_requests()->set_late_requests(v1::LATE_REQUESTS_SKIP);
  SimRun run(plan.plan(), &peer);
  run.ToTheEnd();
  EXPECT_NEAR(static_cast<double>(run.told().Sum().counters().requests_answered()), 40'000, 100);
  EXPECT_EQ(run.told().Sum().counters().requests_dropped(), 0u);
}

TEST(EngineTest, BurstsComeTogetherAndAreExactOverWorkers) {
  struct Listening final : GoodPeer {
    void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
      ++at[(SimLoop::Clock() - SimLoop::kEpoch - kS) / kMs];
      GoodPeer::OnBytes(loop, id, bytes);
    }
    std::map<int64_t, uint64_t> at;  // requests by millisecond
  } peer;
  for (uint32_t worker = 0; worker < 3; ++worker) {
    PlanBuilder plan;
    plan.Hold(5 * kS, 300).Worker(worker, 3).Open(100, v1::RATE_SCOPE_TOTAL, v1::ARRIVAL_BURST);
    plan.plan().mutable_load()->mutable_requests()->set_burst_requests(50);
    SimRun run(plan.plan(), &peer);
    run.ToTheEnd();
  }
  EXPECT_EQ(peer.requests, 500u);
  ASSERT_EQ(peer.at.size(), 10u);
  for (const auto& [ms, requests] : peer.at) {
    EXPECT_LE(ms % 500, 10) << ms;  // the first waits for its connections
    EXPECT_EQ(requests, 50u) << ms;
  }
}

TEST(EngineTest, BurstsOfAConnectionWaitForItsAnswersAndItsNextBurst) {
  GoodPeer peer;
  peer.delay_ns = 20 * kMs;
  PlanBuilder plan;
  plan.Hold(10 * kS, 4).Open(10, v1::RATE_SCOPE_PER_CONNECTION, v1::ARRIVAL_BURST);
  plan.plan().mutable_load()->mutable_requests()->set_burst_requests(10);
  plan.plan().mutable_load()->mutable_requests()->set_late_requests(v1::LATE_REQUESTS_SKIP);
  SimRun run(plan.plan(), &peer);
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.requests_due(), 400u);
  for (size_t second = 0; second < 9; ++second) {
    EXPECT_EQ(run.told().samples[second].figures().counters().requests_dropped(), 0u)
        << "a burst's last request is late by 180 ms, its interval is 1 s";
  }
  EXPECT_EQ(sum.requests_dropped(), 2u) << "of the burst that the end cuts short";
  EXPECT_NEAR(static_cast<double>(run.told().Latency().max_us()), 2e5, 1e3);
  EXPECT_NEAR(static_cast<double>(run.told().Latency().ValueAtQuantile(0.5)), 1e5, 1e3);
}

TEST(EngineTest, RandomStreamOfANumberGoesOnWhenItIsWantedAgain) {
  struct Listening final : GoodPeer {
    void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
      at.push_back(SimLoop::Clock() - SimLoop::kEpoch - kS);
      GoodPeer::OnBytes(loop, id, bytes);
    }
    std::vector<int64_t> at;
  } peer;
  SimRun run(PlanBuilder()
                 .Hold(20 * kS, 1)
                 .Ramp(1, 0)
                 .Ramp(kS - 1, 0)
                 .Ramp(1, 1)
                 .Ramp(20 * kS, 1)
                 .Open(1, v1::RATE_SCOPE_PER_CONNECTION, v1::ARRIVAL_POISSON)
                 .plan(),
             &peer);
  run.ToTheEnd();
  const auto again = std::find_if(peer.at.begin(), peer.at.end(), [](int64_t at) { return at > 20 * kS; });
  ASSERT_GE(again - peer.at.begin(), 5);
  ASSERT_GE(peer.at.end() - again, 5);
  int alike = 0;
  for (int i = 0; i < 5; ++i) alike += std::abs(peer.at[static_cast<size_t>(i)] - (again[i] - 21 * kS)) < 5 * kMs;
  EXPECT_LE(alike, 1);
}

// --- the truth ---

// 1,000 requests/s over 50 connections for 20 s, the target stalled for 2 s in the middle. Of 20,000 requests the 2,000
// that are due in the stall wait from 2 s down to 0: 5 % wait longer than 1,000 ms, 1 % longer than 1,800 ms. Only 50
// of them, one for each connection, are on the wire meanwhile.
TEST(EngineTest, StallOfTheTargetShowsInLatencyNotInServiceTime) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(20 * kS, 50).Open(1000, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  peer.stall_from_ns = SimLoop::Clock() + kS + 9 * kS;
  peer.stall_until_ns = peer.stall_from_ns + 2 * kS;
  run.ToTheEnd();
  const v1::Percentiles latency = run.told().Latency().ToPercentiles();
  EXPECT_EQ(latency.count(), 20'000u);
  EXPECT_NEAR(static_cast<double>(latency.p95_us()), 1e6, 1e4);
  EXPECT_NEAR(static_cast<double>(latency.p99_us()), 1.8e6, 1.8e4);
  EXPECT_NEAR(static_cast<double>(latency.max_us()), 2e6, 1e4);
  const metrics::Histogram service = run.told().ServiceTime();
  EXPECT_LT(service.ValueAtQuantile(0.99), 1000u);
  EXPECT_EQ(service.ValueAtQuantile(1 - 49.5 / 20'000) / 100'000, 19u) << "fifty requests saw it";
  EXPECT_LT(run.told().ScheduleLag().max_us(), 10u) << "waiting for the target is not the generator's fault";
}

// Holds the answers back by delays of known shares, in an order that mixes them evenly.
class DelayingPeer final : public GoodPeer {
 public:
  static constexpr uint64_t kRequests = 200'000;
  struct Delay {
    int64_t delay_ns;
    uint64_t requests;  // of kRequests
  };
  static constexpr Delay kDelays[] = {
      {10 * kMs, 140'000}, {30 * kMs, 50'000}, {60 * kMs, 9'000}, {100 * kMs, 900}, {200 * kMs, 100}};

  void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
    // The multiplier has no factor in common with kRequests, so every place is taken once.
    delay_ns = DelayOf(requests % kRequests * 123'457 % kRequests);
    GoodPeer::OnBytes(loop, id, bytes);
  }
  // Of all requests in the order of their delays.
  static int64_t DelayOf(uint64_t place) {
    const Delay* delay = kDelays;
    for (; place >= delay->requests; ++delay) place -= delay->requests;
    return delay->delay_ns;
  }
  // `late_us`: what an observation may be above its delay. Every rank asked for is far from where the delay changes.
  static void ExpectMeasured(const metrics::Histogram& latency, uint64_t late_us) {
    // Schedules of connections begin with the first steps of the profile and end with the run.
    EXPECT_NEAR(static_cast<double>(latency.count()), static_cast<double>(kRequests), 10);
    for (const double quantile : {0.5, 0.9, 0.99, 0.999, 0.9999}) {
      const auto rank = static_cast<uint64_t>(std::ceil(quantile * kRequests));
      const auto exact_us = static_cast<uint64_t>(DelayOf(rank - 1)) / 1000;
      EXPECT_GE(latency.ValueAtQuantile(quantile), exact_us) << quantile;
      EXPECT_LE(latency.ValueAtQuantile(quantile),
                metrics::Histogram::HighestOf(metrics::Histogram::BucketOf(exact_us + late_us)))
          << quantile;
    }
  }
};

// 10,000 requests/s for 20 s, far fewer in flight than there are connections: each is sent when it is due and answered
// when its delay is over, and the histogram has nothing else to tell.
TEST(EngineTest, KnownDelaysOfATotalRateAreMeasuredToTheHistogramsResolution) {
  DelayingPeer peer;
  SimRun run(PlanBuilder().Hold(20 * kS, 1000).Open(10'000, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  run.ToTheEnd();
  EXPECT_EQ(run.told().Latency().count(), DelayingPeer::kRequests);
  DelayingPeer::ExpectMeasured(run.told().Latency(), 0);
}

// Timers of connections are as coarse as the wheel's ticks, and that is all that may be added.
TEST(EngineTest, KnownDelaysOfARatePerConnectionAreMeasuredToTheResolutionOfHistogramAndTimers) {
  DelayingPeer peer;
  SimRun run(PlanBuilder().Hold(200 * kS, 1000).Open(1, v1::RATE_SCOPE_PER_CONNECTION).plan(), &peer);
  run.ToTheEnd();
  constexpr uint64_t kTick_us = (1 << 17) / 1000 + 1;
  DelayingPeer::ExpectMeasured(run.told().Latency(), kTick_us);
}

TEST(EngineTest, LatenessOfTheGeneratorShowsAsScheduleLag) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(5 * kS, 10).Open(100, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  run.At(2 * kS + 300 * kMs, [&] { run.loop().Pause(2500 * kMs); });
  run.ToTheEnd();
  EXPECT_NEAR(static_cast<double>(run.told().ScheduleLag().max_us()), 2.5e6, 2e4);
  EXPECT_EQ(run.told().Sum().counters().requests_answered(), 500u);
}

TEST(EngineTest, LongestTurnOfTheLoopIsMeasured) {
  struct Slow final : GoodPeer {
    void OnBytes(SimLoop* loop, net::SocketId id, const std::string& bytes) override {
      if (requests == 250) loop->Pause(30 * kMs);  // the worker is held up in its own turn
      GoodPeer::OnBytes(loop, id, bytes);
    }
  } peer;
  SimRun run(PlanBuilder().Hold(5 * kS, 10).Open(100, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  run.ToTheEnd();
  for (size_t second = 0; second < 5; ++second) {
    EXPECT_EQ(run.told().samples[second].usage().loop_max_ns(), second == 2 ? 30u * kMs : 0u) << second;
  }
}

// --- seconds, start and end ---

TEST(EngineTest, LateLoopSendsEverySecondAndCountsOnce) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(8 * kS, 10).Open(100, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  run.At(2 * kS + 1, [&] { run.loop().Pause(3 * kS); });
  run.ToTheEnd();
  ASSERT_EQ(run.told().samples.size(), 9u);  // ExpectLedger has checked that they are numbered without a gap
  EXPECT_EQ(run.told().samples[3].figures().counters().requests_sent(), 0u);
  EXPECT_EQ(run.told().Sum().counters().requests_sent(), 800u);
}

TEST(EngineTest, RequestsInFlightAtTheEndGetTheirTimeAndTheRestIsDropped) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(5 * kS, 10).Open(100, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  peer.stall_from_ns = SimLoop::Clock() + kS + 4 * kS;
  peer.stall_until_ns = peer.stall_from_ns + 3 * kS;
  run.ToTheEnd();
  const v1::Counters sum = run.told().Sum().counters();
  EXPECT_EQ(sum.requests_due(), 500u);
  EXPECT_EQ(sum.requests_answered(), 410u);
  EXPECT_EQ(sum.requests_dropped(), 90u);
  EXPECT_EQ(sum.requests_failed(), 0u);
  EXPECT_EQ(sum.connections_closed(), 10u);
  EXPECT_EQ(run.told().Latency().count(), 500u);
  EXPECT_NEAR(static_cast<double>(run.told().Latency().ValueAtQuantile(0.9)), 5e5, 2e4)
      << "those never sent are in it with their waits, up to 0.9 s at the end; those in flight with 3 s";
  EXPECT_EQ(run.told().ServiceTime().count(), 410u);
  EXPECT_EQ(run.told().samples.size(), 8u) << "seconds go on until the last connection is closed";
}

TEST(EngineTest, StopEndsTheProfileEarly) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(60 * kS, 10).Open(100, v1::RATE_SCOPE_TOTAL).plan(), &peer);
  run.Start();
  run.RunUntil(2 * kS);
  run.Stop(3 * kS);
  run.Finish();
  EXPECT_EQ(run.told().Sum().counters().requests_due(), 300u);
  EXPECT_EQ(run.told().samples.size(), 4u);
}

TEST(EngineTest, TerminateAbandonsWhatIsStillInFlightAfterASecond) {
  struct Silent final : GoodPeer {
    void OnBytes(SimLoop*, net::SocketId, const std::string&) override {}
  } peer;
  SimRun run(PlanBuilder().Hold(60 * kS, 10).Open(1, v1::RATE_SCOPE_PER_CONNECTION).plan(), &peer);
  run.Start();
  run.RunUntil(5 * kS);
  run.engine().Terminate();
  run.Finish();
  EXPECT_LT(run.finished_after_ns(), 6 * kS + 50 * kMs);
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_ABANDONED), 10u);
  EXPECT_EQ(run.told().Sum().counters().connections_closed(), 10u);
  EXPECT_EQ(run.told().ServiceTime().count(), 0u);
  EXPECT_EQ(run.told().Latency().count(), 50u) << "10 in flight and 40 never sent";
  EXPECT_NEAR(static_cast<double>(run.told().Latency().max_us()), 6e6, 1e5);
}

TEST(EngineTest, ConnectsInProgressAtTheDeadlineAreAbandoned) {
  struct Silent final : GoodPeer {
    Connect OnConnect(SimLoop*, const std::string&, const std::string&) override { return {0, -1}; }
  } peer;
  PlanBuilder plan;
  plan.Hold(1 * kS, 10).Timeout(2).plan().mutable_load()->mutable_connect_timeout()->set_seconds(100);
  plan.plan().mutable_load()->mutable_requests()->set_model(v1::REQUEST_MODEL_CLOSED);
  SimRun run(plan.plan(), &peer);
  run.ToTheEnd();
  EXPECT_EQ(run.told().Errors(v1::ERROR_PHASE_CONNECT, v1::ERROR_KIND_ABANDONED), 10u);
}

TEST(EngineTest, StopBeforeTheStartFinishesWithoutSamples) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(5 * kS, 10).plan(), &peer);
  run.Stop(0);
  ASSERT_TRUE(run.engine().finished());
  EXPECT_EQ(run.told().finished->samples(), 0u);
}

TEST(EngineTest, MessagesOutOfTurnAreRefusedAndChangeNothing) {
  GoodPeer peer;
  SimRun run(PlanBuilder().Hold(2 * kS, 10).plan(), &peer);
  run.Start();
  v1::AgentToWorker message;
  EXPECT_FALSE(run.engine().Receive(message).ok());
  message.mutable_start()->set_start_monotonic_ns(5);
  EXPECT_FALSE(run.engine().Receive(message).ok());
  message.mutable_plan();
  EXPECT_FALSE(run.engine().Receive(message).ok());
  run.Finish();
  EXPECT_EQ(run.told().samples.size(), 3u);
}

// --- whatever happens ---

// Random plans against a target that does everything wrong: ToTheEnd checks the ledgers at each second, that nothing is
// left open, and that every second was sent. The seed in the failure repeats it.
RC_GTEST_PROP(EngineProperty, LedgersHoldAtEverySecondWhateverTheTargetDoes, ()) {
  const auto seed = *rc::gen::arbitrary<uint64_t>();
  const auto connections = *rc::gen::inRange<uint64_t>(1, 200);
  const auto pace = *rc::gen::inRange(0, 6);
  const auto workers = *rc::gen::inRange<uint32_t>(1, 4);
  PlanBuilder plan;
  plan.Endpoints(*rc::gen::inRange(1, 6)).Worker(*rc::gen::inRange<uint32_t>(0, workers), workers);
  plan.Ramp(*rc::gen::inRange<int64_t>(1, 4 * kS), connections).Ramp(4 * kS, connections / 2).Ramp(kS, connections);
  plan.Ramp(2 * kS, connections);
  if (*rc::gen::arbitrary<bool>()) plan.Mcp();
  if (*rc::gen::arbitrary<bool>()) plan.Reconnect();
  if (*rc::gen::arbitrary<bool>()) {
    plan.Heartbeat(*rc::gen::inRange<int64_t>(5 * kMs, kS), *rc::gen::inRange<int64_t>(5 * kMs, 3 * kS));
  }
  const auto arrival = *rc::gen::element(v1::ARRIVAL_CONSTANT, v1::ARRIVAL_POISSON, v1::ARRIVAL_BURST);
  if (pace <= 1) plan.Open(500, v1::RATE_SCOPE_TOTAL, arrival);
  if (pace == 2 || pace == 3) plan.Open(5, v1::RATE_SCOPE_PER_CONNECTION, arrival);
  if (pace == 4) plan.Closed(*rc::gen::element<int64_t>(0, 20 * kMs));
  if (pace < 5) plan.Pipeline(*rc::gen::inRange<uint32_t>(1, 5)).Timeout(2);
  if (pace < 4) {
    v1::RequestsSpec* requests = plan.plan().mutable_load()->mutable_requests();
    if (arrival == v1::ARRIVAL_BURST) requests->set_burst_requests(*rc::gen::inRange<uint32_t>(2, 100));
    if (*rc::gen::arbitrary<bool>()) requests->set_late_requests(v1::LATE_REQUESTS_SKIP);
  }
  plan.plan().mutable_load()->mutable_connect_timeout()->set_seconds(2);
  plan.plan().mutable_load()->set_seed(seed);
  BadPeer peer(seed);
  SimRun run(plan.plan(), &peer);
  run.Start();
  v1::LoadUpdate update;
  update.set_rate_per_s(*rc::gen::inRange(0, 900));
  update.set_connections(*rc::gen::inRange<uint64_t>(0, connections));
  run.RunUntil(*rc::gen::inRange<int64_t>(0, 8 * kS));
  if (*rc::gen::arbitrary<bool>()) run.Update(run.elapsed_ns() + *rc::gen::inRange<int64_t>(-kS, kS), update);
  if (*rc::gen::arbitrary<bool>()) run.Stop(run.elapsed_ns() + *rc::gen::inRange<int64_t>(-kS, kS));
  run.Finish(100 * kS);
  RC_ASSERT(!testing::Test::HasFailure());
}

// In the open model the target has no say in what it is asked for: the same plan has the same requests due in every
// second, whether all goes well or connections are refused, lost and made again all the time.
RC_GTEST_PROP(EngineProperty, WhatIsDueIsTheProfilesWhateverTheTargetDoes, ()) {
  const auto seed = *rc::gen::arbitrary<uint64_t>();
  const auto connections = *rc::gen::inRange<uint64_t>(1, 100);
  PlanBuilder plan;
  plan.Endpoints(3).Ramp(*rc::gen::inRange<int64_t>(1, 4 * kS), connections).Ramp(4 * kS, connections / 2);
  plan.Ramp(kS, connections).Ramp(*rc::gen::inRange<int64_t>(1, 3 * kS), connections);
  const v1::Arrival arrival = *rc::gen::arbitrary<bool>() ? v1::ARRIVAL_POISSON : v1::ARRIVAL_CONSTANT;
  plan.Open(8, v1::RATE_SCOPE_PER_CONNECTION, arrival).Pipeline(*rc::gen::inRange<uint32_t>(1, 5)).Timeout(1);
  if (*rc::gen::arbitrary<bool>()) plan.Mcp();
  if (*rc::gen::arbitrary<bool>()) plan.Reconnect();
  if (*rc::gen::arbitrary<bool>()) plan.Heartbeat(*rc::gen::inRange<int64_t>(5 * kMs, kS), 500 * kMs);
  plan.plan().mutable_load()->set_seed(seed);
  v1::LoadUpdate update;
  update.set_rate_per_s(*rc::gen::inRange(0, 20));
  const auto update_ns = *rc::gen::inRange<int64_t>(0, 8 * kS);
  const auto due = [&](SimPeer* peer) {
    SimRun run(plan.plan(), peer);
    run.Start();
    run.RunUntil(update_ns);
    run.Update(update_ns, update);
    run.Finish(100 * kS);
    std::vector<uint64_t> sums;
    uint64_t sum = 0;
    for (const v1::WorkerSample& sample : run.told().samples) {
      sums.push_back(sum += sample.figures().counters().requests_due());
    }
    return sums;
  };
  GoodPeer good;
  BadPeer bad(seed);
  std::vector<uint64_t> well = due(&good);
  std::vector<uint64_t> badly = due(&bad);
  RC_ASSERT(well.back() == badly.back());
  // Timers are coarse: a request may be counted up to a tick late, on one side of the second's end or the other.
  const size_t seconds = std::min(well.size(), badly.size());
  for (size_t second = 0; second < seconds; ++second) {
    RC_ASSERT(std::abs(static_cast<double>(well[second]) - static_cast<double>(badly[second])) <= 2);
  }
  RC_ASSERT(!testing::Test::HasFailure());
}

}  // namespace
}  // namespace loadstar::worker
