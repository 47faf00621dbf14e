// The session against a real gRPC server in this process.
#include "agent/session/session.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lib/os/clock.h"
#include "lib/rpc/rpc.h"
#include "loadstar/v1/agent_service.grpc.pb.h"

namespace loadstar::agent {
namespace {

// A coordinator that answers what it is told to, with gRPC's blocking API: simple, and unlike the code under test.
class FakeCoordinator final : public v1::AgentService::Service {
 public:
  explicit FakeCoordinator(const std::string& address) {
    grpc::ServerBuilder builder;
    rpc::ConfigureServer(&builder);
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr);
  }
  ~FakeCoordinator() override {
    {
      const std::lock_guard lock(mutex_);
      mute_ = false;
      changed_.notify_all();
    }
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  grpc::Status Session(grpc::ServerContext*,
                       grpc::ServerReaderWriter<v1::SessionResponse, v1::SessionRequest>* stream) override {
    v1::SessionRequest request;
    while (stream->Read(&request)) {
      std::unique_lock lock(mutex_);
      requests_.push_back(request);
      changed_.notify_all();
      if (refuse_) return grpc::Status(grpc::StatusCode::ALREADY_EXISTS, "another instance is connected");
      changed_.wait(lock, [&] { return !mute_; });
      lock.unlock();
      v1::SessionResponse response;
      if (request.has_hello()) response.mutable_welcome()->set_acknowledged_sequence(42);
      if (request.has_report()) response.mutable_ack()->set_sequence(request.report().sequence());
      if (!stream->Write(response)) break;
    }
    return grpc::Status::OK;
  }

  void set_mute(bool mute) {
    const std::lock_guard lock(mutex_);
    mute_ = mute;
    changed_.notify_all();
  }
  void set_refuse(bool refuse) {
    const std::lock_guard lock(mutex_);
    refuse_ = refuse;
  }
  std::vector<v1::SessionRequest> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<v1::SessionRequest> requests_;
  bool mute_ = false;
  bool refuse_ = false;
  std::unique_ptr<grpc::Server> server_;
};

class SessionTest : public testing::Test {
 protected:
  void Connect(const std::string& address) {
    Session::Options options{.coordinator = address};
    options.backoff_first_ns = 20'000'000;
    options.backoff_max_ns = 100'000'000;
    options.silence_ns = 1'500'000'000;
    session_ = std::make_unique<Session>(options, &inbox_);
  }
  template <typename Kind>
  bool Expect(Kind* out = nullptr) {
    const int64_t until = os::MonotonicNs() + 15'000'000'000;
    while (pending_.empty() && os::MonotonicNs() < until) inbox_.Take(until, &pending_);
    if (pending_.empty() || !std::holds_alternative<Kind>(pending_.front())) return false;
    if (out != nullptr) *out = std::get<Kind>(std::move(pending_.front()));
    pending_.erase(pending_.begin());
    return true;
  }
  void SayHello() {
    v1::SessionRequest hello;
    hello.mutable_hello()->set_name("agent1");
    session_->Send(std::move(hello));
  }
  void SendReport(uint64_t sequence) {
    v1::SessionRequest report;
    report.mutable_report()->set_sequence(sequence);
    session_->Send(std::move(report));
  }

  Inbox inbox_{1000};
  std::vector<Input> pending_;
  std::unique_ptr<Session> session_;
};

TEST_F(SessionTest, SpeaksInOrder) {
  FakeCoordinator coordinator("127.0.0.1:26301");
  Connect("127.0.0.1:26301");
  ASSERT_TRUE(Expect<SessionUp>());
  SayHello();
  for (uint64_t i = 1; i <= 50; ++i) SendReport(i);
  CoordinatorSaid said;
  ASSERT_TRUE(Expect(&said));
  EXPECT_EQ(said.message.welcome().acknowledged_sequence(), 42u);
  for (uint64_t i = 1; i <= 50; ++i) {
    ASSERT_TRUE(Expect(&said));
    EXPECT_EQ(said.message.ack().sequence(), i);
  }
  session_.reset();
}

TEST_F(SessionTest, ComesBackAfterTheCoordinatorWasAway) {
  Connect("127.0.0.1:26302");  // nobody is there yet
  {
    FakeCoordinator coordinator("127.0.0.1:26302");
    ASSERT_TRUE(Expect<SessionUp>());
    SayHello();
    ASSERT_TRUE(Expect<CoordinatorSaid>());
  }
  ASSERT_TRUE(Expect<SessionDown>());
  SendReport(1);  // dropped: the core sends it again
  FakeCoordinator coordinator("127.0.0.1:26302");
  ASSERT_TRUE(Expect<SessionUp>());
  SendReport(2);  // meant for the stream before: must not precede hello
  SayHello();
  SendReport(3);
  ASSERT_TRUE(Expect<CoordinatorSaid>());
  ASSERT_TRUE(Expect<CoordinatorSaid>());
  const std::vector<v1::SessionRequest> requests = coordinator.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_TRUE(requests[0].has_hello());
  EXPECT_EQ(requests[1].report().sequence(), 3u);
}

TEST_F(SessionTest, SilentCoordinatorIsLeft) {
  FakeCoordinator coordinator("127.0.0.1:26303");
  coordinator.set_mute(true);
  Connect("127.0.0.1:26303");
  ASSERT_TRUE(Expect<SessionUp>());
  SayHello();
  ASSERT_TRUE(Expect<SessionDown>());
  coordinator.set_mute(false);
  ASSERT_TRUE(Expect<SessionUp>());
  SayHello();
  EXPECT_TRUE(Expect<CoordinatorSaid>());
}

TEST_F(SessionTest, RefusedSessionIsTriedAgain) {
  FakeCoordinator coordinator("127.0.0.1:26304");
  coordinator.set_refuse(true);
  Connect("127.0.0.1:26304");
  ASSERT_TRUE(Expect<SessionUp>());
  SayHello();
  ASSERT_TRUE(Expect<SessionDown>());
  ASSERT_TRUE(Expect<SessionUp>());
  coordinator.set_refuse(false);
  SayHello();
  EXPECT_TRUE(Expect<CoordinatorSaid>());
}

TEST_F(SessionTest, FullInboxEndsTheStreamInsteadOfLosingAMessage) {
  Inbox small(2);
  FakeCoordinator coordinator("127.0.0.1:26305");
  Session session({.coordinator = "127.0.0.1:26305", .backoff_first_ns = 20'000'000}, &small);
  std::vector<Input> inputs;
  ASSERT_TRUE(small.Take(os::MonotonicNs() + 10'000'000'000, &inputs));
  ASSERT_EQ(inputs.size(), 1u);
  v1::SessionRequest hello;
  hello.mutable_hello();
  session.Send(hello);
  v1::SessionRequest report;
  report.mutable_report()->set_sequence(1);
  for (int i = 0; i < 20; ++i) session.Send(report);
  // Wait until the inbox is full, then take: two messages, then the end, and nothing of what was lost in between.
  std::vector<Input> all;
  const int64_t until = os::MonotonicNs() + 10'000'000'000;
  usleep(300'000);
  while (os::MonotonicNs() < until && (all.empty() || !std::holds_alternative<SessionDown>(all.back()))) {
    small.Take(until, &inputs);
    std::move(inputs.begin(), inputs.end(), std::back_inserter(all));
    usleep(200'000);
  }
  ASSERT_FALSE(all.empty());
  EXPECT_TRUE(std::holds_alternative<SessionDown>(all.back()));
}

TEST_F(SessionTest, EndsWhileConnecting) {
  Connect("127.0.0.1:26306");
  usleep(50'000);
  session_.reset();
}

}  // namespace
}  // namespace loadstar::agent
