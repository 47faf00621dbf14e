// The real worker process in real time, against an echo server in this process and against loadstar-target.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <utility>

#include "lib/metrics/figures.h"
#include "lib/net/loop.h"
#include "tests/worker/echo_server.h"
#include "tests/worker/sim_run.h"
#include "tests/worker/worker_process.h"

namespace loadstar::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::string Program(const std::string& name) { return std::string(LOADSTAR_BIN_DIR) + "/" + name; }

PlanBuilder PlanFor(const std::vector<std::string>& endpoints) {
  PlanBuilder plan;
  plan.plan().clear_endpoints();
  for (const std::string& endpoint : endpoints) plan.plan().add_endpoints(endpoint);
  return plan;
}

// Runs a whole plan, calling `meanwhile` after the start; checks what holds in every run.
template <typename Meanwhile>
Told RunPlan(WorkerProcess* worker, const v1::WorkerPlan& plan, milliseconds longest, Meanwhile meanwhile) {
  Told told;
  EXPECT_TRUE(worker->SendPlan(plan));
  const auto ready = worker->Next(seconds(10));
  if (!ready.has_value() || !ready->has_ready() || !ready->ready().error().empty()) {
    ADD_FAILURE() << "not ready: " << (ready.has_value() ? ready->DebugString() : "silence");
    return told;
  }
  EXPECT_THAT(ready->ready().backend(), ::testing::AnyOf("io_uring", "epoll"));
  const int64_t start_ns = net::Loop::ReadClock() + 200 * kMs;
  EXPECT_TRUE(worker->SendStart(start_ns));
  meanwhile(start_ns);
  const auto until = std::chrono::steady_clock::now() + longest;
  while (!told.finished.has_value() && std::chrono::steady_clock::now() < until) {
    const auto message = worker->Next(seconds(5));
    if (!message.has_value()) break;
    told.Send(*message);
  }
  EXPECT_TRUE(told.finished.has_value()) << "the worker did not finish";
  EXPECT_GE(told.started_ns, start_ns);
  EXPECT_EQ(worker->Wait(seconds(10)), std::optional<int>(0));
  ExpectLedger(told.samples);
  return told;
}

Told RunPlan(WorkerProcess* worker, const v1::WorkerPlan& plan, milliseconds longest) {
  return RunPlan(worker, plan, longest, [](int64_t) {});
}

TEST(WorkerProcessTest, ConnectionsAreExactlyEvenAndEveryRequestIsAccountedFor) {
  EchoServer server(3);
  WorkerProcess worker(Program("loadstar-worker"));
  PlanBuilder plan = PlanFor(server.endpoints());
  plan.Ramp(kS, 300).Ramp(kS, 300).Open(500, v1::RATE_SCOPE_TOTAL, v1::ARRIVAL_POISSON);
  const Told told = RunPlan(&worker, plan.plan(), seconds(20));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(server.accepted(i), 100u);
  ASSERT_GE(told.samples.size(), 2u);
  EXPECT_EQ(told.samples[1].endpoints_size(), 3);
  for (const v1::EndpointFigures& endpoint : told.samples[1].endpoints()) {
    EXPECT_EQ(endpoint.gauges().connections_established(), 100u);
  }
  const v1::Counters sum = told.Sum().counters();
  EXPECT_EQ(sum.requests_answered(), sum.requests_sent());
  EXPECT_GT(sum.requests_sent(), 700u);
  EXPECT_GT(told.samples[1].usage().rss_bytes(), 1'000'000u);
  EXPECT_GT(told.samples[1].usage().cpu_ns(), 0u);
  EXPECT_GT(told.samples[1].usage().loop_max_ns(), 0u);
  EXPECT_GT(told.samples[1].usage().loop_turns(), 0u);
  EXPECT_GT(told.samples[1].usage().interval_ns(), 900'000'000u);
}

TEST(WorkerProcessTest, EndsAtOnceWhenItsAgentIsGone) {
  EchoServer server(1);
  WorkerProcess worker(Program("loadstar-worker"));
  ASSERT_TRUE(worker.SendPlan(PlanFor(server.endpoints()).Hold(60 * kS, 50).plan()));
  ASSERT_TRUE(worker.Next(seconds(10)).has_value());
  ASSERT_TRUE(worker.SendStart(net::Loop::ReadClock()));
  ASSERT_TRUE(worker.Next(seconds(10)).has_value());
  worker.CloseChannel();
  ASSERT_TRUE(worker.Wait(seconds(5)).has_value());
}

TEST(WorkerProcessTest, EndsWithoutAPlanWhenItsAgentIsGone) {
  WorkerProcess worker(Program("loadstar-worker"));
  worker.CloseChannel();
  EXPECT_EQ(worker.Wait(seconds(10)), std::optional<int>(0));
}

TEST(WorkerProcessTest, SigtermStopsInOrderAndSigintIsIgnored) {
  EchoServer server(1);
  WorkerProcess worker(Program("loadstar-worker"));
  const pid_t pid = worker.pid();
  const Told told =
      RunPlan(&worker, PlanFor(server.endpoints()).Hold(60 * kS, 50).Open(2, v1::RATE_SCOPE_PER_CONNECTION).plan(),
              seconds(20), [&](int64_t start_ns) {
                kill(pid, SIGINT);
                while (net::Loop::ReadClock() < start_ns + 1500 * kMs) poll(nullptr, 0, 10);
                kill(pid, SIGTERM);
              });
  EXPECT_EQ(told.samples.size(), 2u);
  EXPECT_EQ(told.Sum().counters().connections_closed(), 50u);
}

TEST(WorkerProcessTest, PlanThatCannotBeCarriedOutIsRefusedWithTheReason) {
  const std::vector<std::pair<v1::WorkerPlan, std::string>> rows = {
      {PlanFor({"localhost:9100"}).Hold(kS, 1).plan(), "endpoints"},
      {PlanFor({"127.0.0.1:9100"}).Hold(kS, 500).plan(), "use more workers or raise the hard limit"},
  };
  for (const auto& [plan, reason] : rows) {
    WorkerProcess worker(Program("loadstar-worker"), 256);
    ASSERT_TRUE(worker.SendPlan(plan));
    const auto ready = worker.Next(seconds(10));
    ASSERT_TRUE(ready.has_value() && ready->has_ready());
    EXPECT_NE(ready->ready().error().find(reason), std::string::npos) << ready->ready().error();
    const auto status = worker.Wait(seconds(10));
    ASSERT_TRUE(status.has_value());
    EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) != 0);
  }
}

TEST(WorkerProcessTest, BytesThatAreNoMessagesEndIt) {
  for (const std::string& bytes : {std::string("\xff\xff\xff\xff", 4), std::string("\0\0\0\0", 4)}) {
    WorkerProcess worker(Program("loadstar-worker"));
    ASSERT_TRUE(worker.SendRaw(bytes));
    const auto status = worker.Wait(seconds(10));
    ASSERT_TRUE(status.has_value());
    EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) != 0);
  }
}

TEST(WorkerProcessTest, PortWhereNobodyListensIsReportedAsRefusing) {
  WorkerProcess worker(Program("loadstar-worker"));
  const Told told = RunPlan(&worker, PlanFor({"127.0.0.1:23999"}).Ramp(3 * kS, 300).plan(), seconds(20));
  EXPECT_EQ(told.EventsOf("target-refuses"), 1u);
  EXPECT_EQ(told.Errors(v1::ERROR_PHASE_CONNECT, v1::ERROR_KIND_REFUSED), told.Sum().counters().connects_attempted());
}

// The worker with each of the real loops.
class OnBackend : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Backends, OnBackend, testing::Values("io_uring", "epoll"),
                         [](const auto& which) { return std::string(which.param); });

// A listener whose connections end when the test says so.
class Acceptor {
 public:
  Acceptor() {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&address), length), 0);
    EXPECT_EQ(listen(fd_, 128), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
  }
  ~Acceptor() {
    for (const int fd : accepted_) close(fd);
    close(fd_);
  }
  std::string endpoint() const { return "127.0.0.1:" + std::to_string(port_); }
  void Accept(size_t count) {
    while (count-- > 0) accepted_.push_back(accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC));
  }
  void End(size_t count, bool reset) {
    while (count-- > 0) {
      const linger at_once{reset ? 1 : 0, 0};
      EXPECT_EQ(setsockopt(accepted_.back(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
      close(accepted_.back());
      accepted_.pop_back();
    }
  }

 private:
  int fd_ = -1;
  int port_ = 0;
  std::vector<int> accepted_;
};

void SleepUntil(int64_t until_ns) {
  while (net::Loop::ReadClock() < until_ns) poll(nullptr, 0, 1);
}

TEST_P(OnBackend, CloseAndResetOfIdleConnectionsCountInTheSecondInWhichTheyHappen) {
  Acceptor target;
  WorkerProcess worker(Program("loadstar-worker"), 0, GetParam());
  const Told told =
      RunPlan(&worker, PlanFor({target.endpoint()}).Hold(5 * kS, 30).plan(), seconds(20), [&](int64_t start_ns) {
        target.Accept(30);
        SleepUntil(start_ns + kS + 500 * kMs);
        target.End(10, /*reset=*/false);
        SleepUntil(start_ns + 3 * kS + 500 * kMs);
        target.End(7, /*reset=*/true);
      });
  ASSERT_GE(told.samples.size(), 5u);
  for (size_t second = 0; second < 5; ++second) {
    const v1::LoadFigures& figures = told.samples[second].figures();
    EXPECT_EQ(figures.counters().connections_lost(), second == 1 ? 10u : second == 3 ? 7u : 0u) << second;
    EXPECT_EQ(figures.gauges().connections_established(), second < 1 ? 30u : second < 3 ? 20u : 13u) << second;
  }
  EXPECT_EQ(told.Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_CLOSED_BY_PEER), 10u);
  EXPECT_EQ(told.Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_RESET), 7u);
  EXPECT_EQ(told.Sum().counters().connections_closed(), 13u);
}

TEST_P(OnBackend, HeartbeatsFindATargetThatStandsStillAndOthersStay) {
  EchoServer alive(1);
  EchoServer stalled(1);
  WorkerProcess worker(Program("loadstar-worker"), 0, GetParam());
  PlanBuilder plan = PlanFor({alive.endpoints()[0], stalled.endpoints()[0]});
  plan.Hold(4 * kS, 40).Heartbeat(200 * kMs, 500 * kMs);
  const Told told = RunPlan(&worker, plan.plan(), seconds(20),
                            [&](int64_t start_ns) { stalled.Stall(start_ns + kS + 200 * kMs, start_ns + 4 * kS); });
  // Asked again 0.2 s after the last answer at the latest, and lost 0.5 s later.
  ASSERT_GE(told.samples.size(), 4u);
  for (size_t second = 0; second < 4; ++second) {
    EXPECT_EQ(told.samples[second].figures().counters().connections_lost(), second == 1 ? 20u : 0u) << second;
  }
  EXPECT_EQ(told.Errors(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_HEARTBEAT_TIMEOUT), 20u);
  const v1::Counters sum = told.Sum().counters();
  EXPECT_EQ(sum.heartbeats_failed(), 20u);
  EXPECT_GT(sum.heartbeats_answered(), 20u * 15);
  EXPECT_EQ(sum.connections_closed(), 20u);
  EXPECT_EQ(sum.requests_due() + sum.requests_sent(), 0u);
}

std::string AddressOf(int port) { return "127.0.0.1:" + std::to_string(port); }

// The answer to a request of HTTP/1.0, head and body.
std::string FetchFrom(int port, const std::string& request) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      send(fd, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size())) {
    char bytes[4096];
    for (ssize_t n = recv(fd, bytes, sizeof(bytes), 0); n > 0; n = recv(fd, bytes, sizeof(bytes), 0)) {
      answer.append(bytes, static_cast<size_t>(n));
    }
  }
  close(fd);
  return answer;
}

void AwaitAnswer(int port, const std::string& request) {
  const auto until = std::chrono::steady_clock::now() + seconds(10);
  while (FetchFrom(port, request).find(" 200 ") == std::string::npos && std::chrono::steady_clock::now() < until) {
    poll(nullptr, 0, 20);
  }
}

void EndProgram(pid_t pid) {
  kill(pid, SIGTERM);
  if (WaitFor(pid, seconds(10)).has_value()) return;
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

// The number after `label` at the beginning of a line; UINT64_MAX when there is none.
uint64_t NumberAfter(const std::string& text, const std::string& label) {
  const size_t at = text.find("\n" + label);
  return at == std::string::npos ? UINT64_MAX : std::strtoull(text.c_str() + at + 1 + label.size(), nullptr, 10);
}

// loadstar-target with its API on the port after the listener's.
class RealTarget {
 public:
  explicit RealTarget(uint16_t port) : port_(port) {
    pid_ = StartProgram({Program("loadstar-target"), "--listen", AddressOf(port_), "--api", AddressOf(port_ + 1),
                         "--name", "node1", "--log-level", "warn"},
                        -1);
    AwaitAnswer(port_ + 1, "GET /health HTTP/1.0\r\n\r\n");
  }
  ~RealTarget() { EndProgram(pid_); }
  std::string endpoint() const { return AddressOf(port_); }
  pid_t pid() const { return pid_; }
  void Fault(const std::string& json) {
    const std::string answer =
        FetchFrom(port_ + 1, "POST /fault HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: " +
                                 std::to_string(json.size()) + "\r\n\r\n" + json);
    EXPECT_NE(answer.find(" 200 "), std::string::npos) << answer;
  }
  // What the node counted.
  uint64_t Total(const std::string& metric) const {
    return NumberAfter(FetchFrom(port_ + 1, "GET /metrics HTTP/1.0\r\n\r\n"),
                       "loadstar_target_" + metric + "{process=\"total\"} ");
  }

 private:
  const int port_;
  pid_t pid_ = -1;
};

class WithTarget : public testing::Test {
 protected:
  void SetUp() override {
    if (access(Program("loadstar-target").c_str(), X_OK) != 0) GTEST_SKIP() << "loadstar-target was not built";
  }
};

TEST_F(WithTarget, McpClosedModelIsAnsweredInFull) {
  RealTarget target(23'100);
  WorkerProcess worker(Program("loadstar-worker"));
  PlanBuilder plan = PlanFor({target.endpoint()});
  plan.Hold(2 * kS, 20).Mcp().Closed(5 * kMs).Pipeline(3);
  plan.plan().mutable_mcp()->set_method("tools/call");
  plan.plan().mutable_mcp()->set_tool("echo");
  plan.plan().mutable_mcp()->set_arguments_json(R"({"text": "hello"})");
  const Told told = RunPlan(&worker, plan.plan(), seconds(20));
  const v1::Counters sum = told.Sum().counters();
  EXPECT_EQ(sum.handshakes_done(), 20u);
  EXPECT_GT(sum.requests_answered(), 1000u);
  EXPECT_EQ(sum.requests_answered(), sum.requests_sent()) << told.Sum().DebugString();
}

PlanBuilder HttpPlanFor(const std::string& endpoint) {
  PlanBuilder plan = PlanFor({endpoint});
  plan.plan().set_protocol(v1::PROTOCOL_HTTP);
  plan.plan().mutable_http()->set_method("GET");
  plan.plan().mutable_http()->set_path("/");
  return plan;
}

// What the worker says of itself and what the node counted are the same.
void ExpectSameAs(const RealTarget& target, const v1::Counters& sum) {
  EXPECT_EQ(target.Total("accepted_total"), sum.connects_established());
  EXPECT_EQ(target.Total("requests_total"), sum.requests_sent());
  EXPECT_EQ(target.Total("handshakes_total"), sum.handshakes_done());
  EXPECT_EQ(target.Total("bytes_received_total"), sum.bytes_sent());
  EXPECT_EQ(target.Total("bytes_sent_total"), sum.bytes_received());
}

TEST_F(WithTarget, HttpKeepsConnectionsAndIsAnsweredInFull) {
  RealTarget target(23'140);
  WorkerProcess worker(Program("loadstar-worker"));
  PlanBuilder plan = HttpPlanFor(target.endpoint());
  plan.Hold(2 * kS, 20).Open(1000, v1::RATE_SCOPE_TOTAL).Pipeline(4);
  const v1::Counters sum = RunPlan(&worker, plan.plan(), seconds(20)).Sum().counters();
  EXPECT_EQ(sum.requests_answered(), 2000u);
  EXPECT_EQ(sum.connects_established(), 20u);
  EXPECT_EQ(sum.connections_lost(), 0u);
  ExpectSameAs(target, sum);
}

TEST_F(WithTarget, HttpWithCloseOpensAConnectionForEachRequest) {
  RealTarget target(23'150);
  WorkerProcess worker(Program("loadstar-worker"));
  PlanBuilder plan = HttpPlanFor(target.endpoint());
  plan.Hold(2 * kS, 20).Open(500, v1::RATE_SCOPE_TOTAL);
  v1::HttpHeader* header = plan.plan().mutable_http()->add_headers();
  header->set_name("Connection");
  header->set_value("close");
  const v1::Counters sum = RunPlan(&worker, plan.plan(), seconds(20)).Sum().counters();
  EXPECT_EQ(sum.requests_answered(), 1000u);
  EXPECT_GE(sum.connects_established(), 1000u);
  EXPECT_EQ(sum.connections_lost(), 0u);
  ExpectSameAs(target, sum);
}

TEST_F(WithTarget, McpOverHttpHasASessionForEachConnection) {
  RealTarget target(23'160);
  WorkerProcess worker(Program("loadstar-worker"));
  PlanBuilder plan = HttpPlanFor(target.endpoint());
  plan.plan().set_protocol(v1::PROTOCOL_MCP_HTTP);
  plan.plan().mutable_http()->set_path("/mcp");
  plan.plan().mutable_mcp()->set_tool("echo");
  plan.plan().mutable_mcp()->set_method("tools/call");
  plan.Hold(2 * kS, 20).Closed(5 * kMs).Pipeline(3);
  const v1::Counters sum = RunPlan(&worker, plan.plan(), seconds(20)).Sum().counters();
  EXPECT_EQ(sum.handshakes_done(), 20u);
  EXPECT_GT(sum.requests_answered(), 1000u);
  EXPECT_EQ(sum.requests_answered(), sum.requests_sent());
  ExpectSameAs(target, sum);
}

TEST_F(WithTarget, InjectedErrorsOfHttpAreCountedByStatus) {
  RealTarget target(23'170);
  target.Fault(R"({"error_ratio": 0.25})");
  WorkerProcess worker(Program("loadstar-worker"));
  const Told told = RunPlan(
      &worker, HttpPlanFor(target.endpoint()).Hold(2 * kS, 20).Open(400, v1::RATE_SCOPE_TOTAL).plan(), seconds(20));
  EXPECT_NEAR(static_cast<double>(told.Sum().counters().requests_failed()), 200, 25);
  EXPECT_EQ(told.Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_HTTP_STATUS, "503"),
            told.Sum().counters().requests_failed());
}

// nginx with a configuration of its own on a loopback port; it ends a connection after every 100 requests.
class Nginx {
 public:
  static constexpr const char* kProgram = "/usr/sbin/nginx";

  explicit Nginx(int port) : port_(port) {
    folder_ = testing::TempDir() + "/loadstar-nginx-" + std::to_string(getpid());
    std::filesystem::create_directory(folder_);
    std::ofstream(folder_ + "/nginx.conf") << R"(daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 100;
  server {
    listen )" << AddressOf(port) << R"(;
    location / { return 200 "ok"; }
    location = /status { stub_status; }
  }
}
)";
    pid_ = StartProgram({kProgram, "-p", folder_, "-e", "error.log", "-c", "nginx.conf"}, -1);
    AwaitAnswer(port_, kStatus);
  }
  ~Nginx() {
    EndProgram(pid_);
    std::filesystem::remove_all(folder_);
  }
  std::string endpoint() const { return AddressOf(port_); }
  // Connections accepted and requests served so far, this question included.
  std::pair<uint64_t, uint64_t> Counts() const {
    const std::string status = FetchFrom(port_, kStatus);
    const size_t at = status.find("server accepts handled requests");
    uint64_t accepts = 0;
    uint64_t handled = 0;
    uint64_t requests = 0;
    if (at != std::string::npos) {
      std::istringstream(status.substr(status.find('\n', at))) >> accepts >> handled >> requests;
    }
    return {accepts, requests};
  }

 private:
  static constexpr const char* kStatus = "GET /status HTTP/1.0\r\n\r\n";

  const int port_;
  std::string folder_;
  pid_t pid_ = -1;
};

TEST(WithNginxTest, KeptConnectionsEndByAgreementAndBothSidesCountTheSame) {
  if (access(Nginx::kProgram, X_OK) != 0) GTEST_SKIP() << "nginx is not installed";
  Nginx nginx(23'180);
  const auto before = nginx.Counts();
  WorkerProcess worker(Program("loadstar-worker"));
  const Told told = RunPlan(
      &worker, HttpPlanFor(nginx.endpoint()).Hold(3 * kS, 20).Open(2000, v1::RATE_SCOPE_TOTAL).plan(), seconds(20));
  const auto after = nginx.Counts();
  const v1::Counters sum = told.Sum().counters();
  EXPECT_EQ(sum.requests_answered(), 6000u) << told.Sum().DebugString();
  EXPECT_EQ(sum.connections_lost(), 0u);
  EXPECT_GE(sum.connects_established(), 60u);
  EXPECT_EQ(after.first - before.first, sum.connects_established() + 1);
  EXPECT_EQ(after.second - before.second, sum.requests_sent() + 1);
}

TEST_F(WithTarget, InjectedErrorsAreCountedByCode) {
  RealTarget target(23'110);
  target.Fault(R"({"error_ratio": 0.25})");
  WorkerProcess worker(Program("loadstar-worker"));
  const Told told = RunPlan(
      &worker, PlanFor({target.endpoint()}).Hold(2 * kS, 20).Mcp().Open(400, v1::RATE_SCOPE_TOTAL).plan(), seconds(20));
  const v1::Counters sum = told.Sum().counters();
  EXPECT_EQ(sum.requests_sent(), 800u);
  EXPECT_NEAR(static_cast<double>(sum.requests_failed()), 200, 25);
  EXPECT_EQ(told.Errors(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_RPC_ERROR), sum.requests_failed());
  EXPECT_EQ(sum.connections_lost(), 0u);
}

TEST_F(WithTarget, InjectedClosesAreLostConnectionsAndComeBack) {
  RealTarget target(23'120);
  target.Fault(R"({"close_ratio": 0.05})");
  WorkerProcess worker(Program("loadstar-worker"));
  const Told told =
      RunPlan(&worker, PlanFor({target.endpoint()}).Hold(2 * kS, 20).Reconnect().Open(400, v1::RATE_SCOPE_TOTAL).plan(),
              seconds(20));
  EXPECT_GT(told.Sum().counters().connections_lost(), 10u);
  EXPECT_GT(told.Sum().counters().connects_established(), 25u);
}

TEST_F(WithTarget, StoppedNodeShowsInLatency) {
  RealTarget target(23'130);
  WorkerProcess worker(Program("loadstar-worker"));
  const Told told =
      RunPlan(&worker, PlanFor({target.endpoint()}).Hold(3 * kS, 20).Open(200, v1::RATE_SCOPE_TOTAL).plan(),
              seconds(20), [&](int64_t start_ns) {
                while (net::Loop::ReadClock() < start_ns + kS) poll(nullptr, 0, 2);
                target.Fault(R"({"stall_ms": 600})");
              });
  EXPECT_EQ(told.Sum().counters().requests_answered(), 600u);
  EXPECT_NEAR(static_cast<double>(told.Latency().max_us()), 600'000, 60'000);
  // 120 of 600 requests were due in the stall: a fifth, evenly from 600 ms down.
  EXPECT_NEAR(static_cast<double>(told.Latency().ValueAtQuantile(0.9)), 300'000, 60'000);
}

// The issue's own figure, in real time: see EngineTest.StallOfTheTargetShowsInLatencyNotInServiceTime.
TEST(WorkerTruthTest, TwoSecondStallIsWithinFivePercentOfTheExactExpectation) {
  EchoServer server(1);
  WorkerProcess worker(Program("loadstar-worker"));
  const Told told =
      RunPlan(&worker, PlanFor(server.endpoints()).Hold(20 * kS, 50).Open(1000, v1::RATE_SCOPE_TOTAL).plan(),
              seconds(60), [&](int64_t start_ns) { server.Stall(start_ns + 9 * kS, start_ns + 11 * kS); });
  const metrics::Histogram latency = told.Latency();
  EXPECT_EQ(latency.count(), 20'000u);
  EXPECT_NEAR(static_cast<double>(latency.ValueAtQuantile(0.95)), 1'000'000, 50'000);
  EXPECT_NEAR(static_cast<double>(latency.ValueAtQuantile(0.99)), 1'800'000, 90'000);
  EXPECT_LT(told.ServiceTime().ValueAtQuantile(0.99), 200'000u);
  EXPECT_NEAR(static_cast<double>(told.ServiceTime().max_us()), 2'000'000, 50'000);
  RecordProperty("p95_us", std::to_string(latency.ValueAtQuantile(0.95)));
  RecordProperty("p99_us", std::to_string(latency.ValueAtQuantile(0.99)));
}

}  // namespace
}  // namespace loadstar::worker
