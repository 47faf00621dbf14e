// The whole coordinator in this process, over the real gRPC stack on a port of the kernel's choice, with an agent
// played by the test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "lib/metrics/histogram.h"
#include "lib/rpc/bidi_client.h"
#include "lib/rpc/rpc.h"
#include "loadstar/v1/agent_service.grpc.pb.h"
#include "loadstar/v1/coordinator_service.grpc.pb.h"
#include "server/coordinator.h"
#include "tests/server/temporary_folder.h"

namespace loadstar::server {
namespace {

using ::testing::HasSubstr;
using SessionClient = rpc::BidiClient<v1::SessionRequest, v1::SessionResponse>;
constexpr absl::Duration kSoon = absl::Seconds(30);

constexpr char kTest[] = R"yaml(
apiVersion: loadstar/v1
kind: Test
name: tiny
target:
  endpoints: [127.0.0.1:25001]
  protocol: tcp
load:
  connections:
    - {ramp: 1s, to: 10}
    - {hold: 1s}
  requests:
    model: open
    rate: 10/s per connection
)yaml";

// An agent that does everything it is told at once and reports made-up seconds.
class FakeAgent {
 public:
  FakeAgent(const std::string& address, const std::string& name, uint64_t answered_per_s)
      : answered_per_s_(answered_per_s), stub_(v1::AgentService::NewStub(rpc::MakeChannel(address))) {
    v1::SessionRequest hello;
    hello.mutable_hello()->set_name(name);
    hello.mutable_hello()->set_instance_id("instance-1");
    hello.mutable_hello()->mutable_host()->set_cores(2);
    v1::Capacity* capacity = hello.mutable_hello()->mutable_capacity();
    capacity->set_per_address_pair(14'000);
    capacity->set_per_worker(14'000);
    capacity->set_connections(100'000);
    capacity->set_binding_limit("memory");
    stream_ = SessionClient::Start([this](auto* context, auto* reactor) { stub_->async()->Session(context, reactor); },
                                   {[this](const v1::SessionResponse& response) { OnMessage(response); },
                                    [this](const grpc::Status& s) { status_ = s; }});
    stream_->Send(hello);
  }
  ~FakeAgent() {
    stream_->Cancel();
    stream_->Wait(kSoon);
    for (std::thread& thread : threads_) thread.join();
  }
  bool WaitForWelcome() { return welcomed_.WaitForNotificationWithTimeout(kSoon); }
  bool WaitForEnd() { return stream_->Wait(kSoon); }
  grpc::Status status() const { return status_; }
  SessionClient* stream() { return stream_.get(); }
  uint64_t acknowledged() const { return acknowledged_; }

 private:
  void OnMessage(const v1::SessionResponse& response) {
    if (response.has_welcome()) welcomed_.Notify();
    if (response.has_ack()) acknowledged_ = response.ack().sequence();
    if (!response.has_command()) return;
    const v1::Command& command = response.command();
    v1::Report done;
    done.mutable_command_result()->set_command_id(command.command_id());
    done.mutable_command_result()->mutable_status();
    Say(done);
    if (!command.has_start_run()) return;
    threads_.emplace_back([this, start = command.start_run()] { Run(start); });
  }
  void Run(const v1::StartRun& start) {
    const absl::Time begin = absl::FromUnixNanos(start.start_unix_ns());
    absl::SleepFor(begin - absl::Now());
    v1::Report started;
    started.mutable_run_started()->set_run_id(start.run_id());
    started.mutable_run_started()->mutable_started_at()->set_seconds(absl::ToUnixSeconds(begin));
    Say(started);
    for (uint32_t second = 0; second < 2; ++second) {
      absl::SleepFor(begin + absl::Seconds(second + 1) - absl::Now());
      v1::Report report;
      v1::AgentSample* sample = report.mutable_sample();
      sample->set_run_id(start.run_id());
      sample->set_elapsed_s(second);
      sample->set_workers_merged(1);
      sample->set_workers_expected(1);
      v1::Counters* counters = sample->mutable_figures()->mutable_counters();
      counters->set_connects_attempted(second == 0 ? 10 : 0);
      counters->set_connects_established(second == 0 ? 10 : 0);
      counters->set_connections_closed(second == 0 ? 0 : 10);
      counters->set_requests_due(answered_per_s_);
      counters->set_requests_sent(answered_per_s_);
      counters->set_requests_answered(answered_per_s_);
      sample->mutable_figures()->mutable_gauges()->set_connections_established(second == 0 ? 10 : 0);
      metrics::Histogram histogram;
      histogram.Record(1000 * (second + 1), answered_per_s_);
      histogram.ToProto(sample->mutable_figures()->mutable_latency());
      histogram.ToProto(sample->mutable_figures()->mutable_service_time());
      Say(report);
    }
    v1::Report finished;
    finished.mutable_run_finished()->set_run_id(start.run_id());
    Say(finished);
  }
  void Say(v1::Report report) {
    absl::MutexLock lock(&mutex_);
    report.set_sequence(++sequence_);
    v1::SessionRequest request;
    *request.mutable_report() = std::move(report);
    stream_->Send(std::move(request));
  }

  const uint64_t answered_per_s_;
  std::unique_ptr<v1::AgentService::Stub> stub_;
  absl::Notification welcomed_;
  grpc::Status status_;
  std::atomic<uint64_t> acknowledged_{0};
  absl::Mutex mutex_;
  uint64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::thread> threads_;
  std::shared_ptr<SessionClient> stream_;
};

class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override { StartCoordinator(); }
  void StartCoordinator() {
    Coordinator::Options options;
    options.listen = "127.0.0.1:0";
    options.state_folder = folder_.path();
    options.core.start_delay = absl::Milliseconds(200);
    options.core.seed = 1;
    options.limits.hello_within = absl::Milliseconds(300);
    options.listener.shutdown_within = absl::Milliseconds(200);
    auto coordinator = Coordinator::Start(options);
    ASSERT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = std::move(*coordinator);
    address_ = coordinator_->listener().address();
    stub_ = v1::CoordinatorService::NewStub(rpc::MakeChannel(address_));
  }
  template <class Method, class Request, class Response>
  absl::Status Call(Method method, const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    return rpc::FromGrpc((stub_.get()->*method)(&context, request, response));
  }
  absl::StatusOr<v1::Run> StartTest(const std::string& yaml, const std::string& request_id = "", double scale = 0) {
    v1::StartTestRequest request;
    request.mutable_document()->set_file_name("tiny.yaml");
    request.mutable_document()->set_yaml(yaml);
    request.set_request_id(request_id);
    request.set_scale(scale);
    v1::StartTestResponse response;
    absl::Status status = Call(&v1::CoordinatorService::Stub::StartTest, request, &response);
    if (!status.ok()) return status;
    return response.run();
  }
  // Everything a subscriber is given until the end.
  std::vector<v1::StreamMetricsResponse> Watch(const std::string& run_id, absl::Status* end) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    v1::StreamMetricsRequest request;
    request.set_run_id(run_id);
    auto reader = stub_->StreamMetrics(&context, request);
    std::vector<v1::StreamMetricsResponse> messages;
    v1::StreamMetricsResponse message;
    while (reader->Read(&message)) messages.push_back(message);
    *end = rpc::FromGrpc(reader->Finish());
    return messages;
  }
  std::map<std::string, std::string> Export(const std::string& run_id, absl::Status* end) {
    grpc::ClientContext context;
    v1::ExportRunRequest request;
    request.set_run_id(run_id);
    auto reader = stub_->ExportRun(&context, request);
    std::map<std::string, std::string> files;
    v1::ExportRunResponse piece;
    while (reader->Read(&piece)) files[piece.file_name()] += piece.content();
    *end = rpc::FromGrpc(reader->Finish());
    return files;
  }

  TemporaryFolder folder_;
  std::unique_ptr<Coordinator> coordinator_;
  std::string address_;
  std::unique_ptr<v1::CoordinatorService::Stub> stub_;
};

TEST_F(ServiceTest, ARunIsPlannedRunStreamedAndExportedAndOutlivesTheCoordinator) {
  std::string run_id;
  {
    FakeAgent agent(address_, "host1", 100);
    ASSERT_TRUE(agent.WaitForWelcome());
    const auto run = StartTest(kTest, "request-1");
    ASSERT_TRUE(run.ok()) << run.status();
    run_id = run->run_id();
    const auto again = StartTest(kTest, "request-1");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->run_id(), run_id) << "the same request is the same run";

    absl::Status end;
    const auto messages = Watch(run_id, &end);
    EXPECT_TRUE(end.ok()) << end;
    ASSERT_GE(messages.size(), 4u);
    EXPECT_TRUE(messages.front().has_run());
    ASSERT_TRUE(messages.back().has_run());
    EXPECT_EQ(messages.back().run().state(), v1::RUN_STATE_FINISHED);
    EXPECT_EQ(messages.back().run().totals().counters().requests_answered(), 200u);
    uint64_t answered = 0;
    for (const auto& message : messages) {
      if (message.has_snapshot()) answered += message.snapshot().figures().counters().requests_answered();
    }
    EXPECT_EQ(answered, 200u);
    EXPECT_GT(agent.acknowledged(), 0u);
  }
  absl::Status end;
  const auto files = Export(run_id, &end);
  EXPECT_TRUE(end.ok()) << end;
  ASSERT_EQ(files.size(), 6u);
  EXPECT_THAT(files.at("host-metrics.txt"), HasSubstr("second"));
  EXPECT_THAT(files.at("run.json"), HasSubstr("\"requests_answered\": \"200\""));
  EXPECT_THAT(files.at("summary.txt"), HasSubstr(run_id));
  EXPECT_EQ(std::vector<std::string>(absl::StrSplit(files.at("latency.csv"), '\n', absl::SkipEmpty())).size(), 3u);

  stub_.reset();
  coordinator_.reset();
  StartCoordinator();
  v1::GetRunRequest get;
  get.set_run_id(run_id);
  v1::GetRunResponse got;
  ASSERT_TRUE(Call(&v1::CoordinatorService::Stub::GetRun, get, &got).ok());
  EXPECT_EQ(got.run().state(), v1::RUN_STATE_FINISHED);
  v1::ListRunsResponse list;
  ASSERT_TRUE(Call(&v1::CoordinatorService::Stub::ListRuns, v1::ListRunsRequest(), &list).ok());
  ASSERT_EQ(list.runs_size(), 1);
  EXPECT_EQ(list.runs(0).run_id(), run_id);
  v1::StopTestRequest stop;
  stop.set_run_id(run_id);
  v1::StopTestResponse stopped;
  EXPECT_TRUE(Call(&v1::CoordinatorService::Stub::StopTest, stop, &stopped).ok())
      << "stopping what is over is no error";
  v1::UpdateLoadRequest update;
  update.set_run_id(run_id);
  update.mutable_update()->set_connections(5);
  v1::UpdateLoadResponse updated;
  EXPECT_EQ(Call(&v1::CoordinatorService::Stub::UpdateLoad, update, &updated).code(),
            absl::StatusCode::kFailedPrecondition);
  const auto replay = Watch(run_id, &end);
  EXPECT_TRUE(end.ok()) << end;
  EXPECT_EQ(replay.size(), 4u) << "the run, two seconds, the finished run";
}

TEST_F(ServiceTest, WithoutAnAgentStartTestSaysWhatToDo) {
  const auto run = StartTest(kTest);
  EXPECT_EQ(run.status().code(), absl::StatusCode::kFailedPrecondition) << run.status();
  EXPECT_THAT(std::string(run.status().message()), HasSubstr("loadstar-agent"));
  EXPECT_TRUE(run.status().GetPayload("type.googleapis.com/google.rpc.ErrorInfo").has_value());
}

TEST_F(ServiceTest, AnInvalidDocumentIsRefusedWithEveryField) {
  const auto run = StartTest("apiVersion: loadstar/v1\nkind: Test\nname: x\nlaod: {}\n");
  EXPECT_EQ(run.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(run.status().GetPayload("type.googleapis.com/google.rpc.BadRequest").has_value());
  EXPECT_THAT(std::string(run.status().message()), HasSubstr("tiny.yaml:4"));
}

TEST_F(ServiceTest, BadArgumentsAreRefusedWithTheField) {
  EXPECT_THAT(std::string(StartTest(kTest, std::string(200, 'x')).status().message()), HasSubstr("request_id"));
  EXPECT_THAT(std::string(StartTest(kTest, "", 1.5).status().message()), HasSubstr("scale"));
  v1::StartTestResponse started;
  EXPECT_THAT(std::string(Call(&v1::CoordinatorService::Stub::StartTest, v1::StartTestRequest(), &started).message()),
              HasSubstr("source"));
  v1::GetRunRequest get;
  get.set_run_id("../../etc/passwd");
  v1::GetRunResponse got;
  EXPECT_EQ(Call(&v1::CoordinatorService::Stub::GetRun, get, &got).code(), absl::StatusCode::kInvalidArgument);
  get.set_run_id("no-such-run");
  EXPECT_EQ(Call(&v1::CoordinatorService::Stub::GetRun, get, &got).code(), absl::StatusCode::kNotFound);
  v1::ListRunsRequest list;
  list.set_page_size(5000);
  v1::ListRunsResponse listed;
  EXPECT_EQ(Call(&v1::CoordinatorService::Stub::ListRuns, list, &listed).code(), absl::StatusCode::kInvalidArgument);
  absl::Status end;
  Watch("no-such-run", &end);
  EXPECT_EQ(end.code(), absl::StatusCode::kNotFound);
  Watch("NOT A RUN", &end);
  EXPECT_EQ(end.code(), absl::StatusCode::kInvalidArgument);
  Export("no-such-run", &end);
  EXPECT_EQ(end.code(), absl::StatusCode::kNotFound);
}

TEST_F(ServiceTest, ValidateTellsStaticProblemsAndThoseOfTheAgents) {
  v1::ValidateRequest request;
  request.mutable_document()->set_file_name("a.yaml");
  request.mutable_document()->set_yaml("kind: Nothing\n");
  v1::ValidateResponse response;
  ASSERT_TRUE(Call(&v1::CoordinatorService::Stub::Validate, request, &response).ok());
  EXPECT_GT(response.problems_size(), 0);
  request.mutable_document()->set_yaml(kTest);
  response.Clear();
  ASSERT_TRUE(Call(&v1::CoordinatorService::Stub::Validate, request, &response).ok());
  ASSERT_GT(response.problems_size(), 0) << "no agent is connected";
  FakeAgent agent(address_, "host1", 1);
  ASSERT_TRUE(agent.WaitForWelcome());
  response.Clear();
  ASSERT_TRUE(Call(&v1::CoordinatorService::Stub::Validate, request, &response).ok());
  EXPECT_EQ(response.problems_size(), 0) << response.ShortDebugString();
}

TEST_F(ServiceTest, AgentsAreListedAndTheirAbsenceIsSeen) {
  {
    FakeAgent agent(address_, "host1", 1);
    ASSERT_TRUE(agent.WaitForWelcome());
    v1::ListAgentsResponse response;
    ASSERT_TRUE(Call(&v1::CoordinatorService::Stub::ListAgents, v1::ListAgentsRequest(), &response).ok());
    ASSERT_EQ(response.agents_size(), 1);
    EXPECT_TRUE(response.agents(0).connected());
  }
  const absl::Time deadline = absl::Now() + kSoon;
  bool connected = true;
  while (connected && absl::Now() < deadline) {
    v1::ListAgentsResponse response;
    ASSERT_TRUE(Call(&v1::CoordinatorService::Stub::ListAgents, v1::ListAgentsRequest(), &response).ok());
    ASSERT_EQ(response.agents_size(), 1);
    connected = response.agents(0).connected();
  }
  EXPECT_FALSE(connected);
}

TEST_F(ServiceTest, ASessionWithoutAProperHelloIsEnded) {
  {
    FakeAgent agent(address_, "Not A Name", 1);
    ASSERT_TRUE(agent.WaitForEnd());
    EXPECT_EQ(agent.status().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  auto stub = v1::AgentService::NewStub(rpc::MakeChannel(address_));
  const auto dial = [&](grpc::Status* status) {
    return SessionClient::Start([&](auto* context, auto* reactor) { stub->async()->Session(context, reactor); },
                                {[](const v1::SessionResponse&) {}, [status](const grpc::Status& s) { *status = s; }});
  };
  grpc::Status status;
  auto rude = dial(&status);
  v1::SessionRequest heartbeat;
  heartbeat.mutable_heartbeat();
  rude->Send(heartbeat);
  ASSERT_TRUE(rude->Wait(kSoon));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  auto silent = dial(&status);
  ASSERT_TRUE(silent->Wait(kSoon));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(ServiceTest, TeardownOfNothingIsNotFound) {
  grpc::ClientContext context;
  v1::TeardownRequest request;
  request.set_name("nothing");
  auto reader = stub_->Teardown(&context, request);
  v1::TeardownResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServiceTest, ATestIsNoStack) {
  grpc::ClientContext context;
  v1::DeployRequest request;
  request.mutable_document()->set_file_name("tiny.yaml");
  request.mutable_document()->set_yaml(kTest);
  auto reader = stub_->Deploy(&context, request);
  v1::DeployResponse response;
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("no Stack"));
}

TEST_F(ServiceTest, StopIsBoundedWithSessionsAndSubscribersOpen) {
  FakeAgent agent(address_, "host1", 1);
  ASSERT_TRUE(agent.WaitForWelcome());
  const absl::Time begin = absl::Now();
  coordinator_->Stop();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  EXPECT_TRUE(agent.WaitForEnd());
}

}  // namespace
}  // namespace loadstar::server
