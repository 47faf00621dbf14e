// The real program, talked to over its sockets. Every test starts its own on ports that the kernel chooses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "tests/target/target_fixture.h"

namespace loadstar::target {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::Gt;
using ::testing::HasSubstr;

constexpr int64_t kMillisecond_ns = 1'000'000;

std::string Ping(int id) { return R"({"jsonrpc":"2.0","id":)" + std::to_string(id) + R"(,"method":"ping"})" + "\n"; }

std::string Pong(int id) { return R"({"jsonrpc":"2.0","id":)" + std::to_string(id) + R"(,"result":{}})"; }

int64_t Elapsed_ms(int64_t since_ns) { return (net::Loop::ReadClock() - since_ns) / kMillisecond_ns; }

TEST(TargetTest, OneListenerServesEchoAndMcpByTheFirstByte) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  Client echo(target->listen());
  ASSERT_TRUE(echo.Send("hello { world"));
  EXPECT_EQ(echo.Read(13), "hello { world");
  Client mcp(target->listen());
  ASSERT_TRUE(mcp.Send(R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}})"
                       "\n"
                       R"({"jsonrpc":"2.0","method":"notifications/initialized"})"
                       "\n" +
                       Ping(2)));
  const json first = json::parse(mcp.ReadLine().value_or("null"));
  EXPECT_EQ(first.at("result").at("protocolVersion"), "2025-06-18");
  EXPECT_EQ(mcp.ReadLine(), Pong(2)) << "the notification is not answered";
}

constexpr char kGet[] = "GET /any HTTP/1.1\r\nHost: node\r\n\r\n";

std::string PlainAnswer(size_t bytes) {
  return "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(bytes) + "\r\n\r\n" +
         std::string(bytes, 'x');
}

TEST(TargetTest, HttpIsServedOnTheListenerToo) {
  const auto target = Target::Start({"--http-body", "20"});
  ASSERT_TRUE(target);
  Client client(target->listen());
  ASSERT_TRUE(client.Send(std::string(kGet) + kGet));
  EXPECT_EQ(client.Read(2 * PlainAnswer(20).size()), PlainAnswer(20) + PlainAnswer(20));
  EXPECT_EQ(target->Total("loadstar_target_requests_total"), 2);
  ASSERT_TRUE(client.Send("GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"));
  EXPECT_THAT(client.Read(1000), HasSubstr("Connection: close"));
  EXPECT_TRUE(client.Ended());
  client.Close();
  EXPECT_TRUE(Eventually([&] { return target->Total("loadstar_target_connections") == 0; }));
  Client bad(target->listen());
  ASSERT_TRUE(bad.Send("GET /\r\n\r\n"));
  EXPECT_THAT(bad.Read(1000), HasSubstr("HTTP/1.1 400 "));
  EXPECT_TRUE(bad.Ended());
  EXPECT_EQ(target->Errors("bad_http"), 1);
}

// More answers than may wait: requests are read on as the client takes them, with and without the delay fault.
TEST(TargetTest, ManyPipelinedHttpRequestsAreAllAnsweredInTheirTurn) {
  const auto target = Target::Start({"--protocol", "http", "--http-body", "10000"});
  ASSERT_TRUE(target);
  std::string requests;
  constexpr size_t kRequests = 1000;
  for (size_t i = 1; i < kRequests; ++i) requests += kGet;
  requests += "GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
  for (const char* faults : {"{}", R"({"delay_ms": 5})"}) {
    target->Fault(faults);
    Client client(target->listen());
    ASSERT_TRUE(client.Send(requests));
    const size_t expected = kRequests * PlainAnswer(10'000).size() + strlen("Connection: close\r\n");
    EXPECT_EQ(client.Read(expected + 1).size(), expected);
    EXPECT_TRUE(client.Ended());
  }
  EXPECT_EQ(target->Total("loadstar_target_requests_total"), 2 * kRequests);
  EXPECT_EQ(target->Errors("overload"), 0);
}

TEST(TargetTest, ForcedProtocolDoesNotLookAtTheFirstByte) {
  const auto target = Target::Start({"--protocol", "tcp"});
  ASSERT_TRUE(target);
  Client client(target->listen());
  ASSERT_TRUE(client.Send(Ping(1)));
  EXPECT_EQ(client.Read(Ping(1).size()), Ping(1));
}

TEST(TargetTest, MegabytesAreEchoed) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  Client client(target->listen());
  std::string payload(3'000'000, 'x');
  std::iota(payload.begin(), payload.end(), '\1');
  // Sent in pieces that the buffers between both ends can hold, as this client cannot read and write at once.
  for (size_t at = 0; at < payload.size(); at += 100'000) {
    const std::string piece = payload.substr(at, 100'000);
    ASSERT_TRUE(client.Send(piece));
    ASSERT_EQ(client.Read(piece.size()), piece);
  }
}

TEST(TargetTest, HealthNamesTheNodeAndItsProcesses) {
  const auto target = Target::Start({"--processes", "3", "--name", "node7", "--role", "coordinator"});
  ASSERT_TRUE(target);
  Client client(target->listen());
  ASSERT_TRUE(client.Send(Ping(1)));
  ASSERT_TRUE(client.ReadLine());
  const HttpAnswer answer = target->Get("/health");
  EXPECT_EQ(answer.status, 200);
  const json health = json::parse(answer.body);
  EXPECT_EQ(health.at("status"), "ok");
  EXPECT_EQ(health.at("name"), "node7");
  EXPECT_EQ(health.at("role"), "coordinator");
  EXPECT_EQ(health.at("pid"), target->pid());
  EXPECT_EQ(health.at("processes"), 3);
  EXPECT_EQ(health.at("connections"), 1);
  EXPECT_GE(health.at("uptime_s").get<double>(), 0);
  EXPECT_THAT(target->Pids(), AllOf(::testing::SizeIs(3), Each(Gt(0))));
}

TEST(TargetTest, MetricsCountWhatHappened) {
  const auto target = Target::Start({"--processes", "2", "--tcp-payload", "8"});
  ASSERT_TRUE(target);
  {
    std::vector<Client> clients;
    for (int i = 0; i < 20; ++i) {
      clients.emplace_back(target->listen());
      ASSERT_TRUE(clients.back().Send(Ping(i) + Ping(i)));
      ASSERT_EQ(clients.back().ReadLine(), Pong(i));
      ASSERT_EQ(clients.back().ReadLine(), Pong(i));
    }
    Client echo(target->listen());
    ASSERT_TRUE(
        echo.Send("12345678"
                  "abcdefgh"
                  "half"));
    ASSERT_EQ(echo.Read(20).size(), 20U);
    EXPECT_EQ(target->Total("loadstar_target_connections"), 21);
    EXPECT_EQ(target->Sample("loadstar_target_connections{process=\"0\"}") +
                  target->Sample("loadstar_target_connections{process=\"1\"}"),
              21);
  }
  ASSERT_TRUE(Eventually([&] { return target->Total("loadstar_target_connections") == 0; }));
  EXPECT_EQ(target->Total("loadstar_target_accepted_total"), 21);
  EXPECT_EQ(target->Total("loadstar_target_requests_total"), 42) << "40 pings and two whole payloads";
  double sent = 20;
  double received = 20;
  for (int i = 0; i < 20; ++i) {
    sent += 2.0 * static_cast<double>(Pong(i).size() + 1);
    received += 2.0 * static_cast<double>(Ping(i).size());
  }
  EXPECT_EQ(target->Total("loadstar_target_bytes_sent_total"), sent);
  EXPECT_EQ(target->Total("loadstar_target_bytes_received_total"), received);
  EXPECT_GE(target->Total("process_cpu_seconds_total"), 0);
  EXPECT_GT(target->Sample("process_resident_memory_bytes{process=\"1\"}"), 100'000);
}

TEST(TargetTest, BrokenJsonIsAnsweredAndTheConnectionLivesOn) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  Client client(target->listen());
  ASSERT_TRUE(client.Send("{broken\n\n" + Ping(1)));
  EXPECT_EQ(json::parse(client.ReadLine().value_or("null")).at("error").at("code"), -32700);
  EXPECT_EQ(client.ReadLine(), Pong(1));
  EXPECT_EQ(target->Errors("parse"), 1);
}

TEST(TargetTest, LineBeyondOneMebibyteClosesTheConnectionAndCounts) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  Client client(target->listen());
  client.Send("{" + std::string(1'100'000, ' '));
  EXPECT_TRUE(client.Ended());
  EXPECT_EQ(target->Errors("line_too_long"), 1);
}

TEST(TargetTest, ClientThatDoesNotReadIsNotReadEither) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  Client client(target->listen());
  std::string request = R"({"jsonrpc":"2.0","id":1,"method":"tools/list"})"
                        "\n";
  std::string block;
  while (block.size() < 60'000) {
    block += request;
  }
  // Pushes until nothing moves for a while: some buffer was full and stayed so.
  size_t sent = 0;
  int64_t last_progress_ns = net::Loop::ReadClock();
  while (Elapsed_ms(last_progress_ns) < 300 && sent < size_t{200} * 1024 * 1024) {
    const size_t at = sent % block.size();
    const ssize_t n = send(client.fd(), block.data() + at, block.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      sent += static_cast<size_t>(n);
      last_progress_ns = net::Loop::ReadClock();
    }
  }
  ASSERT_LT(sent, size_t{200} * 1024 * 1024);
  EXPECT_LT(target->Sample("process_resident_memory_bytes{process=\"0\"}"), 600e6);
  EXPECT_EQ(target->Errors("overload"), 0);
  for (size_t i = 0; i < sent / request.size(); ++i) {
    ASSERT_TRUE(client.ReadLine()) << "answer " << i;
  }
}

TEST(TargetTest, JsonRpcIsAnsweredOverHttp) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  const HttpAnswer sum = target->Post(
      "/", R"({"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"add","arguments":{"a":2,"b":3}}})");
  EXPECT_EQ(sum.status, 200);
  EXPECT_EQ(json::parse(sum.body).at("result").at("content").at(0).at("text"), "5");
  EXPECT_EQ(target->Post("/", R"({"jsonrpc":"2.0","method":"notifications/initialized"})").status, 202);
  EXPECT_EQ(target->Get("/nope").status, 404);
}

// --- faults ---

TEST(TargetTest, DelayHoldsAnswersBackInOrderAndClearingLetsTheNextOnesQueue) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  Client client(target->listen());
  target->Fault(R"({"delay_ms":200})");
  EXPECT_EQ(json::parse(target->Get("/fault").body).at("delay_ms"), 200);
  const int64_t sent_ns = net::Loop::ReadClock();
  ASSERT_TRUE(client.Send(Ping(1) + Ping(2)));
  ASSERT_TRUE(Eventually([&] { return target->Total("loadstar_target_requests_total") == 2; }));
  target->Fault("{}");
  ASSERT_TRUE(client.Send(Ping(3)));
  EXPECT_EQ(client.ReadLine(), Pong(1));
  EXPECT_GE(Elapsed_ms(sent_ns), 199);
  EXPECT_EQ(client.ReadLine(), Pong(2));
  EXPECT_EQ(client.ReadLine(), Pong(3));
  Client other(target->listen());
  ASSERT_TRUE(other.Send(Ping(4)));
  EXPECT_EQ(other.ReadLine(), Pong(4));
}

// The delays are nothing and more than the test lasts, so that no clock is needed to tell them apart.
TEST(TargetTest, DelaysHoldTheirShareOfTheRequestsBackAndNoHandshake) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  const json delays = json::parse(R"([{"ms":60000,"share":0.3},{"ms":0,"share":0.7}])");
  target->Fault(json{{"delays", delays}}.dump());
  EXPECT_EQ(json::parse(target->Get("/fault").body).at("delays"), delays);
  constexpr size_t kRequests = 20;
  const std::string handshake =
      R"({"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}})"
      "\n";
  std::vector<Client> clients;
  for (size_t i = 0; i < kRequests; ++i) {
    clients.emplace_back(target->listen());
    ASSERT_TRUE(clients.back().Send(handshake));
    ASSERT_TRUE(clients.back().ReadLine());
  }
  const double before = target->Total("loadstar_target_bytes_sent_total");
  for (Client& client : clients) ASSERT_TRUE(client.Send(Ping(1)));
  ASSERT_TRUE(Eventually([&] { return target->Total("loadstar_target_requests_total") == kRequests; }));
  // One more turn of its loop, after which all that is not held back has been sent.
  Client last(target->listen());
  ASSERT_TRUE(last.Send(handshake));
  const size_t answer = last.ReadLine().value_or("").size() + 1;
  EXPECT_TRUE(Eventually([&] {
    return target->Total("loadstar_target_bytes_sent_total") - before ==
           static_cast<double>(14 * (Pong(1).size() + 1) + answer);
  }));
}

TEST(TargetTest, StallStopsServingAndTheApiStillAnswers) {
  const auto target = Target::Start({"--processes", "2"});
  ASSERT_TRUE(target);
  Client client(target->listen());
  ASSERT_TRUE(client.Send(Ping(1)));
  ASSERT_EQ(client.ReadLine(), Pong(1));
  const int64_t stalled_ns = net::Loop::ReadClock();
  target->Fault(R"({"stall_ms":500})");
  usleep(20'000);  // the announcement reaches the processes; what was sent before it may still be served
  ASSERT_TRUE(client.Send(Ping(2)));
  Client late(target->listen());  // the kernel's backlog takes it
  EXPECT_EQ(late.connect_error(), 0);
  EXPECT_EQ(target->Get("/health").status, 200);
  EXPECT_EQ(target->Total("loadstar_target_accepted_total"), 1);
  ASSERT_TRUE(late.Send(Ping(3)));
  EXPECT_EQ(client.ReadLine(), Pong(2));
  EXPECT_GE(Elapsed_ms(stalled_ns), 500);
  EXPECT_EQ(late.ReadLine(), Pong(3));
}

TEST(TargetTest, ClearingEndsAStallEarly) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  Client client(target->listen());
  target->Fault(R"({"stall_ms":600000})");
  ASSERT_TRUE(client.Send(Ping(1)));
  target->Fault("clear");
  EXPECT_EQ(client.ReadLine(), Pong(1));
}

TEST(TargetTest, ErrorRatioFailsExactlyThatShare) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  target->Fault(R"({"error_ratio":0.2})");
  Client client(target->listen());
  int failed = 0;
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(client.Send(Ping(i)));
    failed += json::parse(client.ReadLine().value_or("{}")).contains("error") ? 1 : 0;
  }
  EXPECT_EQ(failed, 10);
  EXPECT_EQ(target->Errors("injected_error"), 10);
  Client echo(target->listen());
  target->Fault(R"({"error_ratio":1})");
  ASSERT_TRUE(echo.Send("abc"));
  EXPECT_EQ(echo.Read(3),
            "\x9e"
            "bc")
      << "the first byte inverted";
}

TEST(TargetTest, CloseRatioClosesInsteadOfAnswering) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  target->Fault(R"({"close_ratio":1})");
  Client mcp(target->listen());
  ASSERT_TRUE(mcp.Send(Ping(1)));
  EXPECT_TRUE(mcp.Ended());
  Client echo(target->listen());
  ASSERT_TRUE(echo.Send("abc"));
  EXPECT_TRUE(echo.Ended());
  EXPECT_EQ(target->Errors("injected_close"), 2);
  // The client may see the end before the process has counted it.
  EXPECT_TRUE(Eventually([&] { return target->Total("loadstar_target_connections") == 0; }));
}

TEST(TargetTest, RefuseTurnsNewConnectionsAwayAndKeepsOpenOnes) {
  const auto target = Target::Start({"--processes", "2"});
  ASSERT_TRUE(target);
  Client open(target->listen());
  ASSERT_TRUE(open.Send(Ping(1)));
  ASSERT_EQ(open.ReadLine(), Pong(1));
  target->Fault(R"({"refuse":true})");
  ASSERT_TRUE(Eventually([&] { return Client(target->listen()).connect_error() == ECONNREFUSED; }));
  ASSERT_TRUE(open.Send(Ping(2)));
  EXPECT_EQ(open.ReadLine(), Pong(2));
  target->Fault("{}");
  ASSERT_TRUE(Eventually([&] { return Client(target->listen()).connect_error() == 0; }));
}

TEST(TargetTest, BadFaultsAreRefusedWithReasonsAndChangeNothing) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  target->Fault(R"({"delay_ms":5})");
  const HttpAnswer refused = target->Post("/fault", R"({"delay_ms":-1,"close_ratio":"x"})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(json::parse(refused.body).at("errors").size(), 2U);
  EXPECT_EQ(target->Post("/fault", "no json").status, 400);
  EXPECT_EQ(target->Post("/fault", R"({"delays":[{"ms":1,"share":0.5}]})").status, 400);
  EXPECT_EQ(json::parse(target->Get("/fault").body).at("delay_ms"), 5);
}

// --- limits and ends ---

TEST(TargetTest, AtItsDescriptorLimitANodeTurnsAwayWithoutSpinningAndRecovers) {
  const auto target = Target::Start({}, 32);
  ASSERT_TRUE(target);
  std::vector<Client> clients;
  for (int i = 0; i < 60; ++i) {
    clients.emplace_back(target->listen());
    ASSERT_EQ(clients.back().connect_error(), 0);
  }
  int answered = 0;
  int ended = 0;
  for (Client& client : clients) {
    client.Send(Ping(1));
    if (client.ReadLine() == Pong(1)) {
      ++answered;
    } else {
      ++ended;
    }
  }
  EXPECT_EQ(answered + ended, 60);
  EXPECT_GT(answered, 10);
  EXPECT_GT(ended, 10);
  EXPECT_EQ(target->Total("loadstar_target_connections"), answered);
  EXPECT_EQ(target->Total("loadstar_target_accept_failures_total"), ended);
  const double before_s = target->Sample("process_cpu_seconds_total{process=\"0\"}");
  Client waiting(target->listen());
  usleep(500'000);
  EXPECT_LT(target->Sample("process_cpu_seconds_total{process=\"0\"}") - before_s, 0.2) << "it spins";
  clients.clear();
  ASSERT_TRUE(Eventually([&] {
    Client again(target->listen());
    return again.Send(Ping(2)) && again.ReadLine() == Pong(2);
  }));
  EXPECT_EQ(target->Total("loadstar_target_process_restarts_total"), 0);
}

TEST(TargetTest, PortTakenNamesItsHolderAndExitsWithFour) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  const Ended listener = Target::RunToEnd({"--listen", target->listen(), "--api", "127.0.0.1:0"});
  EXPECT_EQ(listener.exit.number, 4);
  EXPECT_THAT(listener.log, HasSubstr(target->listen()));
  EXPECT_THAT(listener.log, HasSubstr(std::to_string(target->Pids().at(0)) + " (loadstar-target)"));
  const Ended api = Target::RunToEnd({"--listen", "127.0.0.1:0", "--api", target->api()});
  EXPECT_EQ(api.exit.number, 4);
  EXPECT_THAT(api.log, HasSubstr(std::to_string(target->pid()) + " (loadstar-target)"));
  EXPECT_EQ(target->Get("/health").status, 200) << "the first one is not disturbed";
}

TEST(TargetTest, BeyondLoopbackIsRefusedUnlessInsecure) {
  const Ended refused = Target::RunToEnd({"--listen", "0.0.0.0:0", "--api", "127.0.0.1:0"});
  EXPECT_EQ(refused.exit.number, 2);
  EXPECT_THAT(refused.log, HasSubstr("--insecure"));
  EXPECT_TRUE(Target::Start({"--listen", "0.0.0.0:0", "--insecure"}));
}

TEST(TargetTest, SigtermEndsEverythingWithinASecondEvenAStoppedProcess) {
  const auto target = Target::Start({"--processes", "3"});
  ASSERT_TRUE(target);
  Client client(target->listen());
  const std::vector<pid_t> pids = target->Pids();
  ASSERT_EQ(pids.size(), 3U);
  kill(pids[0], SIGSTOP);
  const int64_t asked_ns = net::Loop::ReadClock();
  target->Signal(SIGTERM);
  const std::optional<os::Exit> exit = target->WaitForEnd();
  ASSERT_TRUE(exit);
  EXPECT_TRUE(exit->clean()) << os::ToString(*exit);
  const int64_t stopped_ms = Elapsed_ms(asked_ns);
  EXPECT_LT(stopped_ms, 1000);
  for (const pid_t pid : pids) {
    EXPECT_TRUE(Gone(pid)) << pid;
  }
  EXPECT_TRUE(client.Ended());
  // At once, for the next node on this address must come up. Unless they had to be killed, after 600 ms: then the
  // kernel takes back what they had asked of io_uring, such as accepts, when they are gone.
  const auto refused = [&] { return Client(target->listen()).connect_error() == ECONNREFUSED; };
  EXPECT_TRUE(stopped_ms < 500 ? refused() : Eventually(refused));
}

TEST(TargetTest, KillOfTheParentEndsItsProcesses) {
  const auto target = Target::Start({"--processes", "2"});
  ASSERT_TRUE(target);
  const std::vector<pid_t> pids = target->Pids();
  ASSERT_EQ(pids.size(), 2U);
  kill(pids[1], SIGSTOP);
  target->Signal(SIGKILL);
  ASSERT_TRUE(target->WaitForEnd());
  EXPECT_TRUE(Eventually([&] { return Gone(pids[0]) && Gone(pids[1]); }));
}

TEST(TargetTest, DeadProcessIsReplacedAndItsCountersGoOn) {
  const auto target = Target::Start();
  ASSERT_TRUE(target);
  Client client(target->listen());
  ASSERT_TRUE(client.Send(Ping(1)));
  ASSERT_EQ(client.ReadLine(), Pong(1));
  const pid_t first = target->Pids().at(0);
  // Each death doubles the pause before the next start, so sooner or later the gap is seen.
  ASSERT_TRUE(Eventually([&] {
    if (target->Get("/health").status == 503) {
      return true;
    }
    for (const pid_t pid : target->Pids()) {
      if (pid > 0) {
        kill(pid, SIGKILL);
      }
    }
    return false;
  })) << "a node with a process down is not well";
  ASSERT_TRUE(Eventually([&] { return target->Get("/health").status == 200; }));
  EXPECT_NE(target->Pids().at(0), first);
  EXPECT_GE(target->Total("loadstar_target_process_restarts_total"), 1);
  EXPECT_EQ(target->Total("loadstar_target_requests_total"), 1);
  EXPECT_EQ(target->Total("loadstar_target_connections"), 0);
  Client again(target->listen());
  ASSERT_TRUE(again.Send(Ping(2)));
  EXPECT_EQ(again.ReadLine(), Pong(2));
  EXPECT_EQ(target->Total("loadstar_target_requests_total"), 2);
}

}  // namespace
}  // namespace loadstar::target
