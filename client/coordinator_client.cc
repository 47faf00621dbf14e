#include "client/coordinator_client.h"

#include <grpcpp/grpcpp.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "lib/rpc/rpc.h"
#include "loadstar/v1/coordinator_service.grpc.pb.h"

namespace loadstar::client {
namespace {

using Stub = v1::CoordinatorService::Stub;

// Answers of calls that decide or read come at once; ten seconds cover a far and busy coordinator.
constexpr absl::Duration kCallDeadline = absl::Seconds(10);
// Starting a test resolves names and plans.
constexpr absl::Duration kStartDeadline = absl::Seconds(30);
// A deployment's own limits (start_timeout, stop_timeout) are shorter than this; it ends a call that nobody else ends.
constexpr absl::Duration kDeployDeadline = absl::Minutes(60);
constexpr absl::Duration kExportDeadline = absl::Minutes(10);
// A watcher goes on where it was when this ends the stream.
constexpr absl::Duration kStreamDeadline = absl::Hours(24);
// Read ahead of the terminal.
constexpr size_t kMessagesAhead = 16;

void SetDeadline(absl::Duration limit, grpc::ClientContext* context) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + limit));
}

// An event descriptor that is readable while it holds a one.
class Flag {
 public:
  Flag() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~Flag() {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  Flag(const Flag&) = delete;
  Flag& operator=(const Flag&) = delete;
  int fd() const { return fd_; }
  void Set() { eventfd_write(fd_, 1); }
  void Clear() {
    eventfd_t value;
    eventfd_read(fd_, &value);
  }

 private:
  const int fd_;
};

using Convert = std::function<absl::Status(const grpc::Status&)>;

template <typename Message>
class Stream : public MessageStream<Message> {
 public:
  using Reader = std::unique_ptr<grpc::ClientReader<Message>>;

  Stream(absl::Duration limit, const std::function<Reader(grpc::ClientContext*)>& open, Convert convert)
      : convert_(std::move(convert)) {
    SetDeadline(limit, &context_);
    reader_ = open(&context_);
    thread_ = std::thread([this] { ReadAll(); });
  }
  ~Stream() override {
    context_.TryCancel();
    {
      const std::lock_guard lock(mutex_);
      abandoned_ = true;
    }
    room_.notify_all();
    thread_.join();
  }

  int fd() const override { return flag_.fd(); }

  std::optional<Message> Next() override {
    const std::lock_guard lock(mutex_);
    if (messages_.empty()) {
      return std::nullopt;
    }
    Message message = std::move(messages_.front());
    messages_.pop_front();
    if (messages_.empty() && !end_) {
      flag_.Clear();
    }
    room_.notify_all();
    return message;
  }

  std::optional<absl::Status> End() override {
    const std::lock_guard lock(mutex_);
    return messages_.empty() ? end_ : std::nullopt;
  }

 private:
  void ReadAll() {
    Message message;
    while (reader_->Read(&message)) {
      std::unique_lock lock(mutex_);
      room_.wait(lock, [this] { return abandoned_ || messages_.size() < kMessagesAhead; });
      if (abandoned_) {
        break;
      }
      messages_.push_back(std::move(message));
      flag_.Set();
    }
    absl::Status end = convert_(reader_->Finish());
    const std::lock_guard lock(mutex_);
    end_ = std::move(end);
    flag_.Set();
  }

  const Convert convert_;
  grpc::ClientContext context_;
  Reader reader_;
  Flag flag_;
  std::mutex mutex_;
  std::condition_variable room_;
  // Guarded by mutex_.
  std::deque<Message> messages_;
  std::optional<absl::Status> end_;
  bool abandoned_ = false;
  std::thread thread_;
};

template <typename Response>
class Pending : public PendingCall<Response> {
 public:
  Pending(absl::Duration limit, std::function<grpc::Status(grpc::ClientContext*, Response*)> call,
          std::function<void()> done, Convert convert) {
    SetDeadline(limit, &context_);
    thread_ = std::thread([this, call = std::move(call), done = std::move(done), convert = std::move(convert)] {
      Response response;
      const absl::Status status = convert(call(&context_, &response));
      {
        const std::lock_guard lock(mutex_);
        if (status.ok()) {
          end_ = std::move(response);
        } else {
          end_ = status;
        }
      }
      done();
    });
  }
  ~Pending() override {
    context_.TryCancel();
    thread_.join();
  }
  std::optional<absl::StatusOr<Response>> End() override {
    const std::lock_guard lock(mutex_);
    return end_;
  }

 private:
  grpc::ClientContext context_;
  std::mutex mutex_;
  std::optional<absl::StatusOr<Response>> end_;  // guarded by mutex_
  std::thread thread_;
};

class GrpcClient : public CoordinatorClient {
 public:
  explicit GrpcClient(std::string address)
      : address_(std::move(address)),
        channel_(rpc::MakeChannel(address_)),
        stub_(v1::CoordinatorService::NewStub(channel_)) {}

  absl::StatusOr<v1::ListAgentsResponse> ListAgents(const v1::ListAgentsRequest& request) override {
    return Call<v1::ListAgentsResponse>(&Stub::ListAgents, request, kCallDeadline);
  }
  absl::StatusOr<v1::ListDeploymentsResponse> ListDeployments(const v1::ListDeploymentsRequest& request) override {
    return Call<v1::ListDeploymentsResponse>(&Stub::ListDeployments, request, kCallDeadline);
  }
  absl::StatusOr<v1::UpdateLoadResponse> UpdateLoad(const v1::UpdateLoadRequest& request) override {
    return Call<v1::UpdateLoadResponse>(&Stub::UpdateLoad, request, kCallDeadline);
  }
  absl::StatusOr<v1::StopTestResponse> StopTest(const v1::StopTestRequest& request) override {
    return Call<v1::StopTestResponse>(&Stub::StopTest, request, kCallDeadline);
  }
  absl::StatusOr<v1::GetRunResponse> GetRun(const v1::GetRunRequest& request) override {
    return Call<v1::GetRunResponse>(&Stub::GetRun, request, kCallDeadline);
  }
  absl::StatusOr<v1::ListRunsResponse> ListRuns(const v1::ListRunsRequest& request) override {
    return Call<v1::ListRunsResponse>(&Stub::ListRuns, request, kCallDeadline);
  }

  absl::Status Deploy(const v1::DeployRequest& request,
                      const std::function<void(const v1::DeployResponse&)>& take) override {
    grpc::ClientContext context;
    SetDeadline(kDeployDeadline, &context);
    return ReadAll(stub_->Deploy(&context, request), take);
  }
  absl::Status Teardown(const v1::TeardownRequest& request,
                        const std::function<void(const v1::TeardownResponse&)>& take) override {
    grpc::ClientContext context;
    SetDeadline(kDeployDeadline, &context);
    return ReadAll(stub_->Teardown(&context, request), take);
  }

  absl::Status Tune(const v1::TuneRequest& request, const std::function<void(const v1::TuneResponse&)>& take) override {
    grpc::ClientContext context;
    SetDeadline(kDeployDeadline, &context);
    return ReadAll(stub_->Tune(&context, request), take);
  }

  std::unique_ptr<MetricsStream> StreamMetrics(const v1::StreamMetricsRequest& request) override {
    ForgetBackoff();
    return std::make_unique<Stream<v1::StreamMetricsResponse>>(
        kStreamDeadline, [&](grpc::ClientContext* context) { return stub_->StreamMetrics(context, request); },
        Converter());
  }
  std::unique_ptr<ExportStream> ExportRun(const v1::ExportRunRequest& request) override {
    return std::make_unique<Stream<v1::ExportRunResponse>>(
        kExportDeadline, [&](grpc::ClientContext* context) { return stub_->ExportRun(context, request); }, Converter());
  }
  std::unique_ptr<PendingStart> StartTestAsync(const v1::StartTestRequest& request,
                                               std::function<void()> done) override {
    ForgetBackoff();
    return std::make_unique<Pending<v1::StartTestResponse>>(
        kStartDeadline,
        [stub = stub_.get(), request](grpc::ClientContext* context, v1::StartTestResponse* response) {
          return stub->StartTest(context, request, response);
        },
        std::move(done), Converter());
  }
  std::unique_ptr<PendingStop> StopTestAsync(const v1::StopTestRequest& request, std::function<void()> done) override {
    return std::make_unique<Pending<v1::StopTestResponse>>(
        kCallDeadline,
        [stub = stub_.get(), request](grpc::ClientContext* context, v1::StopTestResponse* response) {
          return stub->StopTest(context, request, response);
        },
        std::move(done), Converter());
  }

 private:
  template <typename Response, typename Request>
  absl::StatusOr<Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request, absl::Duration limit) {
    grpc::ClientContext context;
    SetDeadline(limit, &context);
    Response response;
    const absl::Status status = ConvertStatus((stub_.get()->*method)(&context, request, &response));
    if (!status.ok()) {
      return status;
    }
    return response;
  }

  template <typename Message>
  absl::Status ReadAll(std::unique_ptr<grpc::ClientReader<Message>> reader,
                       const std::function<void(const Message&)>& take) {
    Message message;
    while (reader->Read(&message)) {
      take(message);
    }
    return ConvertStatus(reader->Finish());
  }

  // Whoever tries again has a backoff of its own; the channel's, which grows to minutes, must not be added to it.
  void ForgetBackoff() { grpc::experimental::ChannelResetConnectionBackoff(channel_.get()); }

  Convert Converter() const {
    return [this](const grpc::Status& status) { return ConvertStatus(status); };
  }

  // Says where and what to do when it was the link and not the coordinator that failed.
  absl::Status ConvertStatus(const grpc::Status& status) const {
    absl::Status converted = rpc::FromGrpc(status);
    switch (converted.code()) {
      case absl::StatusCode::kUnavailable:
        return absl::UnavailableError(
            absl::StrCat("no coordinator in reach at ", address_, " (", converted.message(),
                         "). Start one with \"loadstar-coordinator --listen ", address_,
                         " --state DIR\", or name another with --coordinator or LOADSTAR_COORDINATOR"));
      case absl::StatusCode::kDeadlineExceeded:
        return absl::DeadlineExceededError(
            absl::StrCat("the coordinator at ", address_, " did not answer in time (", converted.message(),
                         "). See whether it is overloaded or the address is another program's"));
      case absl::StatusCode::kUnimplemented:
        return absl::UnimplementedError(absl::StrCat("what answers at ", address_, " does not know this call (",
                                                     converted.message(),
                                                     "): it is another program or an older coordinator"));
      default:
        return converted;
    }
  }

  const std::string address_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<Stub> stub_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CoordinatorClient>> CoordinatorClient::Create(const std::string& address,
                                                                             bool insecure) {
  const absl::Status allowed = rpc::CheckAddress(address, insecure);
  if (!allowed.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--coordinator ", address, ": ", allowed.message()));
  }
  return std::make_unique<GrpcClient>(address);
}

}  // namespace loadstar::client
