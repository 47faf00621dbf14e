// Unary calls answered later and streams that pull, over the real gRPC stack on a port of the kernel's choice.
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "lib/rpc/pull_writer.h"
#include "lib/rpc/rpc.h"
#include "lib/rpc/unary_call.h"
#include "loadstar/v1/coordinator_service.grpc.pb.h"
#include "tests/rpc/server_fixture.h"

namespace loadstar::rpc {
namespace {

using Writer = PullWriter<v1::StreamMetricsResponse>;
using Call = UnaryCall<v1::GetRunResponse>;

class Service final : public v1::CoordinatorService::CallbackService {
 public:
  std::function<void(std::shared_ptr<Call>)> on_get = [](const std::shared_ptr<Call>&) {};
  Writer::Source source;
  Writer::Executor executor = [](const std::function<void()>& task) {
    task();
    return true;
  };
  absl::Notification stream_done;
  absl::Notification started;
  std::shared_ptr<Writer> writer;

  grpc::ServerUnaryReactor* GetRun(grpc::CallbackServerContext*, const v1::GetRunRequest*,
                                   v1::GetRunResponse* response) override {
    auto call = Call::Start(response);
    on_get(call);
    return call->reactor();
  }
  grpc::ServerWriteReactor<v1::StreamMetricsResponse>* StreamMetrics(grpc::CallbackServerContext* context,
                                                                     const v1::StreamMetricsRequest*) override {
    writer = Writer::Start(context, executor, source, [this] { stream_done.Notify(); });
    started.Notify();
    return writer->reactor();
  }
};

class CallsTest : public ServerFixture<v1::CoordinatorService, Service> {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  }
  void TearDown() override {
    ServerFixture::TearDown();
    for (std::thread& thread : threads_) thread.join();
  }

  grpc::ClientContext context_;
  std::vector<std::thread> threads_;
};

TEST_F(CallsTest, AnAnswerMayComeFromAnotherThreadAndTheFirstCounts) {
  service_.on_get = [this](const std::shared_ptr<Call>& call) {
    threads_.emplace_back([call] {
      absl::SleepFor(absl::Milliseconds(5));
      v1::GetRunResponse response;
      response.mutable_run()->set_run_id("first");
      call->Answer(response);
      EXPECT_TRUE(call->finished());
      call->Fail(absl::InternalError("second"));
    });
  };
  v1::GetRunResponse response;
  const grpc::Status status = stub_->GetRun(&context_, {}, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.run().run_id(), "first");
}

TEST_F(CallsTest, AFailureCarriesItsDetails) {
  service_.on_get = [](const std::shared_ptr<Call>& call) { call->Fail(Precondition("r", "s", "d")); };
  v1::GetRunResponse response;
  EXPECT_EQ(FromGrpc(stub_->GetRun(&context_, {}, &response)), Precondition("r", "s", "d"));
}

TEST_F(CallsTest, AnAnswerAfterTheClientGaveUpIsDropped) {
  std::shared_ptr<Call> kept;
  absl::Notification have;
  service_.on_get = [&](const std::shared_ptr<Call>& call) {
    kept = call;
    have.Notify();
  };
  grpc::ClientContext impatient;
  impatient.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  v1::GetRunResponse response;
  EXPECT_EQ(stub_->GetRun(&impatient, {}, &response).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  have.WaitForNotification();
  while (!kept->finished()) absl::SleepFor(absl::Milliseconds(1));
  kept->Answer({});
}

TEST_F(CallsTest, AStreamDeliversWhatIsThereThenWaitsToBeWokenThenEnds) {
  std::atomic<int> available{3};
  std::atomic<int> given{0};
  service_.source = [&](v1::StreamMetricsResponse* message, absl::Status* end) {
    if (given == 10) {
      *end = absl::OkStatus();
      return Pulled::kEnd;
    }
    if (given == available) return Pulled::kNothing;
    message->mutable_run()->set_run_id(std::to_string(given++));
    return Pulled::kMessage;
  };
  auto reader = stub_->StreamMetrics(&context_, {});
  v1::StreamMetricsResponse message;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(reader->Read(&message));
    EXPECT_EQ(message.run().run_id(), std::to_string(i));
  }
  available = 10;
  service_.writer->Wake();
  for (int i = 3; i < 10; ++i) ASSERT_TRUE(reader->Read(&message));
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(service_.stream_done.WaitForNotificationWithTimeout(kSoon));
  service_.writer->Wake();
  service_.writer->Cancel();
}

// No wake-up is lost: a producer and a stream race, and every message arrives.
TEST_F(CallsTest, AWakeUpDuringAPullIsNotLost) {
  constexpr int kMessages = 2000;
  std::atomic<int> available{0};
  std::atomic<int> given{0};
  service_.source = [&](v1::StreamMetricsResponse* message, absl::Status*) {
    if (given == kMessages) return Pulled::kEnd;
    if (given == available) return Pulled::kNothing;
    message->mutable_run()->set_run_id(std::to_string(given++));
    return Pulled::kMessage;
  };
  auto reader = stub_->StreamMetrics(&context_, {});
  ASSERT_TRUE(service_.started.WaitForNotificationWithTimeout(kSoon));
  threads_.emplace_back([&] {
    for (int i = 0; i < kMessages; ++i) {
      ++available;
      service_.writer->Wake();
    }
  });
  v1::StreamMetricsResponse message;
  int read = 0;
  while (reader->Read(&message)) ++read;
  EXPECT_EQ(read, kMessages);
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(CallsTest, AReaderThatDoesNotReadStopsThePullingAndIsSeenByThePendingWrite) {
  std::atomic<int> pulls{0};
  service_.source = [&](v1::StreamMetricsResponse* message, absl::Status*) {
    ++pulls;
    message->mutable_run()->set_run_id(std::string(100'000, 'x'));
    return Pulled::kMessage;
  };
  auto reader = stub_->StreamMetrics(&context_, {});
  ASSERT_TRUE(service_.started.WaitForNotificationWithTimeout(kSoon));
  while (service_.writer->WritePendingFor() < absl::Milliseconds(300)) absl::SleepFor(absl::Milliseconds(10));
  const int settled = pulls;
  EXPECT_LT(settled, 100) << "10 MB were taken for a reader that reads nothing";
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(pulls, settled);
  service_.writer->Cancel();
  EXPECT_TRUE(service_.stream_done.WaitForNotificationWithTimeout(kSoon));
  context_.TryCancel();
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(CallsTest, CancellingWhileAPullRunsWaitsForThePull) {
  absl::Notification in_pull, release;
  std::atomic<bool> pull_over{false};
  service_.executor = [this](std::function<void()> task) {
    threads_.emplace_back(std::move(task));
    return true;
  };
  service_.source = [&](v1::StreamMetricsResponse*, absl::Status*) {
    in_pull.Notify();
    release.WaitForNotification();
    pull_over = true;
    return Pulled::kMessage;
  };
  auto reader = stub_->StreamMetrics(&context_, {});
  in_pull.WaitForNotification();
  context_.TryCancel();
  EXPECT_FALSE(reader->Finish().ok());
  EXPECT_FALSE(service_.stream_done.WaitForNotificationWithTimeout(absl::Milliseconds(50)));
  release.Notify();
  EXPECT_TRUE(service_.stream_done.WaitForNotificationWithTimeout(kSoon));
  EXPECT_TRUE(pull_over);
}

TEST_F(CallsTest, AFullExecutorEndsTheStreamAsExhausted) {
  service_.executor = [](const std::function<void()>&) { return false; };
  auto reader = stub_->StreamMetrics(&context_, {});
  v1::StreamMetricsResponse message;
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace loadstar::rpc
