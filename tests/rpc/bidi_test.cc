// The two ends of a two-way stream against each other, over the real gRPC stack on a port of the kernel's choice.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "lib/rpc/bidi_client.h"
#include "lib/rpc/bidi_server.h"
#include "loadstar/v1/agent_service.grpc.pb.h"
#include "tests/rpc/server_fixture.h"

namespace loadstar::rpc {
namespace {

using Server = BidiServer<v1::SessionRequest, v1::SessionResponse>;
using Client = BidiClient<v1::SessionRequest, v1::SessionResponse>;

v1::SessionRequest Beat(int64_t number, size_t padding = 0) {
  v1::SessionRequest request;
  request.mutable_heartbeat()->set_sent_monotonic_ns(number);
  if (padding > 0) request.mutable_heartbeat()->mutable_host()->set_hostname(std::string(padding, 'x'));
  return request;
}
v1::SessionResponse Reply(int64_t number, size_t padding = 0) {
  v1::SessionResponse response;
  response.mutable_heartbeat_reply()->set_agent_monotonic_ns(number);
  if (padding > 0) response.mutable_command()->set_command_id(std::string(padding, 'x'));
  return response;
}

class Service final : public v1::AgentService::CallbackService {
 public:
  std::function<bool(Server*, const v1::SessionRequest&)> on_message = [](Server*, const v1::SessionRequest&) {
    return true;
  };
  std::atomic<int> done{0};
  size_t queue_max = 64;

  grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>* Session(
      grpc::CallbackServerContext* context) override {
    auto stream =
        Server::Start(context,
                      {[this](Server& self, const v1::SessionRequest& request) { return on_message(&self, request); },
                       [this] {
                         absl::MutexLock lock(&mutex_);
                         ++done;
                       }},
                      queue_max);
    absl::MutexLock lock(&mutex_);
    streams_.push_back(stream);
    return stream->reactor();
  }

  std::shared_ptr<Server> WaitForStream() {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &Service::HasStream), kSoon);
    return streams_.empty() ? nullptr : streams_.front();
  }
  bool WaitForDone(int count) {
    const auto reached = [this, count] { return done.load() >= count; };
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&reached), kSoon);
  }

 private:
  bool HasStream() const { return !streams_.empty(); }
  absl::Mutex mutex_;
  std::vector<std::shared_ptr<Server>> streams_;
};

class BidiTest : public ServerFixture<v1::AgentService, Service> {
 protected:
  std::shared_ptr<Client> Dial(Client::Callbacks callbacks, size_t queue_max = 1024) {
    return Client::Start([this](auto* context, auto* reactor) { stub_->async()->Session(context, reactor); },
                         std::move(callbacks), queue_max);
  }
};

TEST_F(BidiTest, MessagesArriveInOrderBothWaysAndAnOrderlyCloseIsOk) {
  service_.queue_max = 2000;
  service_.on_message = [](Server* server, const v1::SessionRequest& request) {
    server->Send(Reply(request.heartbeat().sent_monotonic_ns()));
    return true;
  };
  std::vector<int64_t> got;
  grpc::Status status(grpc::StatusCode::UNKNOWN, "not done");
  absl::Notification all;
  auto client = Dial({[&](const v1::SessionResponse& response) {
                        got.push_back(response.heartbeat_reply().agent_monotonic_ns());
                        if (got.size() == 1000) all.Notify();
                      },
                      [&](const grpc::Status& s) { status = s; }},
                     2000);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(client->Send(Beat(i)));
  ASSERT_TRUE(all.WaitForNotificationWithTimeout(kSoon));
  client->Close();
  ASSERT_TRUE(client->Wait(kSoon));
  EXPECT_TRUE(status.ok()) << status.error_message();
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(got[i], i);
  EXPECT_TRUE(service_.WaitForDone(1));
  EXPECT_FALSE(client->Send(Beat(1)));
  client->Cancel();
  client->Close();
}

TEST_F(BidiTest, ServerClosesWithItsStatusAfterWhatIsQueued) {
  service_.on_message = [](Server* server, const v1::SessionRequest&) {
    for (int i = 0; i < 10; ++i) server->Send(Reply(i));
    server->Close(ToGrpc(absl::AlreadyExistsError("another instance is connected")));
    EXPECT_FALSE(server->Send(Reply(99)));
    return true;
  };
  int got = 0;
  grpc::Status status;
  auto client = Dial({[&](const v1::SessionResponse&) { ++got; }, [&](const grpc::Status& s) { status = s; }});
  client->Send(Beat(1));
  ASSERT_TRUE(client->Wait(kSoon));
  EXPECT_EQ(got, 10);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

// Whoever waited may end the channel, which must not happen on a thread of gRPC's.
TEST_F(BidiTest, AfterTheWaitNothingElseHoldsTheStreamOrItsChannel) {
  for (int i = 0; i < 50; ++i) {
    std::shared_ptr<grpc::Channel> channel = MakeChannel("127.0.0.1:" + std::to_string(port_));
    auto stub = v1::AgentService::NewStub(channel);
    absl::Notification done;
    // gRPC's thread is still inside of on_done when the waiter begins to wait.
    auto client = Client::Start([&](auto* context, auto* reactor) { stub->async()->Session(context, reactor); },
                                {[](const v1::SessionResponse&) {}, [&](const grpc::Status&) { done.Notify(); }});
    client->Send(Beat(1));
    client->Cancel();
    ASSERT_TRUE(done.WaitForNotificationWithTimeout(kSoon));
    ASSERT_TRUE(client->Wait(kSoon));
    ASSERT_EQ(client.use_count(), 1);
    client.reset();
    stub.reset();
    ASSERT_EQ(channel.use_count(), 1);
  }
}

TEST_F(BidiTest, ClientCancelEndsBothEnds) {
  grpc::Status status;
  auto client = Dial({[](const v1::SessionResponse&) {}, [&](const grpc::Status& s) { status = s; }});
  client->Send(Beat(1));
  auto server = service_.WaitForStream();
  ASSERT_NE(server, nullptr);
  client->Cancel();
  EXPECT_TRUE(client->Wait(kSoon));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(service_.WaitForDone(1));
  EXPECT_FALSE(server->Send(Reply(1)));
  server->Cancel();
  server->Resume();
  server->Close(grpc::Status::OK);
}

// A peer that does not read leaves a write pending for ever: the bounded queue ends the call.
TEST_F(BidiTest, AServerThatDoesNotReadFillsTheClientsQueueWhichEndsTheCall) {
  service_.on_message = [](Server*, const v1::SessionRequest&) { return false; };
  grpc::Status status;
  auto client = Dial({[](const v1::SessionResponse&) {}, [&](const grpc::Status& s) { status = s; }}, 16);
  // A queue that fills before the call has reached the server ends a call that the server never sees.
  ASSERT_TRUE(client->Send(Beat(0)));
  ASSERT_NE(service_.WaitForStream(), nullptr);
  int sent = 1;
  const absl::Time deadline = absl::Now() + kSoon;
  while (client->Send(Beat(sent, 64 << 10)) && absl::Now() < deadline) {
    ++sent;
    if (sent > 200) absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_GE(sent, 16);
  EXPECT_TRUE(client->Wait(kSoon));
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(service_.WaitForDone(1));
}

TEST_F(BidiTest, AClientThatDoesNotReadIsSeenByThePendingWriteAndCanBeCancelled) {
  absl::Notification hold;
  auto client = Dial({[&](const v1::SessionResponse&) { hold.WaitForNotification(); }, [](const grpc::Status&) {}});
  client->Send(Beat(1));
  auto server = service_.WaitForStream();
  ASSERT_NE(server, nullptr);
  for (int i = 0; i < 60; ++i) ASSERT_TRUE(server->Send(Reply(i, 1 << 20)));
  const absl::Time deadline = absl::Now() + kSoon;
  while (server->WritePendingFor() < absl::Milliseconds(300)) {
    if (absl::Now() > deadline) {
      hold.Notify();
      FAIL() << "no write stayed pending";
    }
    absl::SleepFor(absl::Milliseconds(10));
  }
  server->Cancel();
  EXPECT_TRUE(service_.WaitForDone(1));
  EXPECT_EQ(server->WritePendingFor(), absl::ZeroDuration());
  hold.Notify();
  EXPECT_TRUE(client->Wait(kSoon));
}

TEST_F(BidiTest, PausedReadingGoesOnAfterResume) {
  std::atomic<int> got{0};
  service_.on_message = [&](Server* server, const v1::SessionRequest&) {
    if (++got == 3) server->Send(Reply(3));
    return false;
  };
  absl::Notification third;
  auto client = Dial({[&](const v1::SessionResponse&) { third.Notify(); }, [](const grpc::Status&) {}});
  for (int i = 0; i < 3; ++i) client->Send(Beat(i));
  auto server = service_.WaitForStream();
  ASSERT_NE(server, nullptr);
  while (!third.WaitForNotificationWithTimeout(absl::Milliseconds(5))) server->Resume();
  EXPECT_EQ(got, 3);
  client->Cancel();
  EXPECT_TRUE(client->Wait(kSoon));
}

TEST_F(BidiTest, ServerShutdownIsBoundedWhileStreamsAreOpen) {
  std::vector<std::shared_ptr<Client>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(Dial({[](const v1::SessionResponse&) {}, [](const grpc::Status&) {}}));
    clients.back()->Send(Beat(1));
  }
  ASSERT_NE(service_.WaitForStream(), nullptr);
  ShutDown();
  for (auto& client : clients) EXPECT_TRUE(client->Wait(kSoon));
}

TEST_F(BidiTest, NobodyListeningEndsTheCallAsUnavailable) {
  server_->Shutdown();
  server_.reset();
  grpc::Status status;
  auto client = Dial({[](const v1::SessionResponse&) {}, [&](const grpc::Status& s) { status = s; }});
  client->Send(Beat(1));
  ASSERT_TRUE(client->Wait(kSoon));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace loadstar::rpc
