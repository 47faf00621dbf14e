#include "tests/client/fake_coordinator.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "lib/rpc/rpc.h"
#include "loadstar/v1/coordinator_service.grpc.pb.h"

namespace loadstar::client {

class FakeCoordinator::Service : public v1::CoordinatorService::Service {
 public:
  // False when the port is taken.
  bool Listen(const std::string& address) {
    grpc::ServerBuilder builder;
    rpc::ConfigureServer(&builder);
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    if (port == 0) {
      server_ = nullptr;
    }
    return server_ != nullptr;
  }
  void Close() {
    if (server_ != nullptr) {
      server_->Shutdown(std::chrono::system_clock::now());
      server_->Wait();
      server_ = nullptr;
    }
  }
  // Changes what is scripted, or reads what was asked, under the lock.
  template <typename Change>
  auto With(Change change) {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
    return change(*this);
  }

  grpc::Status ListAgents(grpc::ServerContext*, const v1::ListAgentsRequest*,
                          v1::ListAgentsResponse* response) override {
    auto* agent = response->add_agents();
    agent->set_name("host1");
    agent->set_connected(true);
    agent->mutable_host()->set_hostname("alpha");
    agent->mutable_host()->set_cores(2);
    agent->mutable_host()->set_memory_available_bytes(uint64_t{20} << 30);
    agent->mutable_capacity()->set_connections(250'000);
    agent->mutable_capacity()->set_per_worker(20'000);
    agent->mutable_capacity()->set_per_address_pair(14'116);
    agent->mutable_capacity()->set_binding_limit("descriptors");
    agent->add_deployments("four-nodes");
    return grpc::Status::OK;
  }

  grpc::Status ListDeployments(grpc::ServerContext*, const v1::ListDeploymentsRequest*,
                               v1::ListDeploymentsResponse* response) override {
    const std::lock_guard lock(mutex_);
    if (!deployment_.name().empty()) {
      *response->add_deployments() = deployment_;
    }
    return grpc::Status::OK;
  }

  grpc::Status Deploy(grpc::ServerContext*, const v1::DeployRequest*,
                      grpc::ServerWriter<v1::DeployResponse>* writer) override {
    const std::lock_guard lock(mutex_);
    v1::DeployResponse response;
    for (const v1::Event& event : deploy_events_) {
      *response.mutable_event() = event;
      writer->Write(response);
    }
    response.clear_event();
    *response.mutable_deployment() = deployment_;
    writer->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Teardown(grpc::ServerContext*, const v1::TeardownRequest* request,
                        grpc::ServerWriter<v1::TeardownResponse>* writer) override {
    const std::lock_guard lock(mutex_);
    if (request->name() != deployment_.name()) {
      return {grpc::StatusCode::NOT_FOUND, "nothing named \"" + request->name() + "\" is deployed"};
    }
    v1::TeardownResponse response;
    *response.mutable_deployment() = deployment_;
    response.mutable_deployment()->set_state(v1::DEPLOYMENT_STATE_STOPPED);
    writer->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Tune(grpc::ServerContext*, const v1::TuneRequest* request,
                    grpc::ServerWriter<v1::TuneResponse>* writer) override {
    const std::lock_guard lock(mutex_);
    tunings_.push_back(*request);
    for (const v1::TuneResponse& response : tune_responses_) {
      writer->Write(response);
    }
    return grpc::Status::OK;
  }

  grpc::Status StartTest(grpc::ServerContext* context, const v1::StartTestRequest* request,
                         v1::StartTestResponse* response) override {
    std::unique_lock lock(mutex_);
    starts_.push_back(*request);
    while (hold_starts_ && !context->IsCancelled()) {
      changed_.wait_for(lock, std::chrono::milliseconds(20));
    }
    if (lose_starts_ > 0) {
      --lose_starts_;
      return {grpc::StatusCode::UNAVAILABLE, "Socket closed"};
    }
    if (refusal_.ok()) {
      *response->mutable_run() = run_;
    }
    return refusal_;
  }

  grpc::Status UpdateLoad(grpc::ServerContext*, const v1::UpdateLoadRequest* request,
                          v1::UpdateLoadResponse* response) override {
    const std::lock_guard lock(mutex_);
    response->mutable_applied()->mutable_at_elapsed()->set_seconds(70);
    *response->mutable_applied()->mutable_update() = request->update();
    return CheckRun(request->run_id());
  }

  grpc::Status StopTest(grpc::ServerContext*, const v1::StopTestRequest* request,
                        v1::StopTestResponse* response) override {
    const std::lock_guard lock(mutex_);
    stops_.push_back(*request);
    if (stop_ends_) {
      run_.set_state(v1::RUN_STATE_FINISHED);
      run_.mutable_verdict()->set_kind(v1::VERDICT_KIND_STOPPED);
    }
    changed_.notify_all();
    *response->mutable_run() = run_;
    return CheckRun(request->run_id());
  }

  grpc::Status GetRun(grpc::ServerContext*, const v1::GetRunRequest* request, v1::GetRunResponse* response) override {
    const std::lock_guard lock(mutex_);
    *response->mutable_run() = run_;
    return CheckRun(request->run_id());
  }

  grpc::Status ListRuns(grpc::ServerContext*, const v1::ListRunsRequest* request,
                        v1::ListRunsResponse* response) override {
    const std::lock_guard lock(mutex_);
    // Two pages of one run each.
    auto* run = response->add_runs();
    run->set_run_id(request->page_token().empty() ? run_.run_id() : "older-20261124-100000");
    run->set_test_name("smoke");
    run->set_state(v1::RUN_STATE_FINISHED);
    run->set_verdict(v1::VERDICT_KIND_PASSED);
    run->set_peak_connections(100'000);
    if (request->page_token().empty()) {
      response->set_next_page_token("second");
    }
    return grpc::Status::OK;
  }

  grpc::Status ExportRun(grpc::ServerContext* context, const v1::ExportRunRequest* request,
                         grpc::ServerWriter<v1::ExportRunResponse>* writer) override {
    std::unique_lock lock(mutex_);
    for (const auto& [name, content] : files_) {
      // In pieces of at most ten bytes.
      for (size_t at = 0; at < content.size() || at == 0; at += 10) {
        v1::ExportRunResponse piece;
        piece.set_file_name(name);
        piece.set_content(content.substr(at, 10));
        writer->Write(piece);
        exports_ += static_cast<int>(hold_exports_);
        while (hold_exports_ && !context->IsCancelled()) {
          changed_.wait_for(lock, std::chrono::milliseconds(20));
        }
        if (context->IsCancelled()) {
          return {grpc::StatusCode::CANCELLED, "the client broke it off"};
        }
      }
    }
    return CheckRun(request->run_id());
  }

  grpc::Status StreamMetrics(grpc::ServerContext* context, const v1::StreamMetricsRequest* request,
                             grpc::ServerWriter<v1::StreamMetricsResponse>* writer) override {
    std::unique_lock lock(mutex_);
    if (grpc::Status known = CheckRun(request->run_id()); !known.ok()) {
      return known;
    }
    cursors_.push_back(request->from_elapsed_s());
    changed_.notify_all();
    v1::StreamMetricsResponse message;
    *message.mutable_run() = run_;
    writer->Write(message);
    size_t next = 0;
    while (!context->IsCancelled()) {
      if (next < snapshots_.size()) {
        const v1::Snapshot& snapshot = snapshots_[next++];
        if (int64_t{snapshot.to_elapsed_s()} >= request->from_elapsed_s()) {
          *message.mutable_snapshot() = snapshot;
          writer->Write(message);
        }
        continue;
      }
      if (run_.state() == v1::RUN_STATE_FINISHED) {
        *message.mutable_run() = run_;
        writer->Write(message);
        return grpc::Status::OK;
      }
      // The client's leaving is not announced; it is looked for.
      changed_.wait_for(lock, std::chrono::milliseconds(20));
    }
    return grpc::Status::CANCELLED;
  }

  // Guarded by the lock of With.
  v1::Run run_;
  std::vector<v1::Snapshot> snapshots_;
  std::vector<std::pair<std::string, std::string>> files_;
  grpc::Status refusal_;
  int lose_starts_ = 0;
  bool hold_starts_ = false;
  bool hold_exports_ = false;
  int exports_ = 0;
  bool stop_ends_ = true;
  std::vector<v1::Event> deploy_events_;
  v1::Deployment deployment_;
  std::vector<v1::StartTestRequest> starts_;
  std::vector<v1::StopTestRequest> stops_;
  std::vector<v1::TuneResponse> tune_responses_;
  std::vector<v1::TuneRequest> tunings_;
  std::vector<int64_t> cursors_;

 private:
  grpc::Status CheckRun(const std::string& run_id) {
    return run_id == run_.run_id() ? grpc::Status::OK
                                   : grpc::Status(grpc::StatusCode::NOT_FOUND, "there is no run \"" + run_id + "\"");
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<grpc::Server> server_;
};

FakeCoordinator::FakeCoordinator() : service_(std::make_unique<Service>()) {
  // The first free port of this part's range, from a place that differs by process.
  const int first = static_cast<int>(getpid()) % 900;
  for (int i = 0; i < 900; ++i) {
    address_ = "127.0.0.1:" + std::to_string(27000 + (first + i) % 900);
    if (service_->Listen(address_)) {
      return;
    }
  }
  std::fprintf(stderr, "no free port from 27000 to 27899\n");
  std::abort();
}

FakeCoordinator::~FakeCoordinator() { Down(); }

void FakeCoordinator::Down() { service_->Close(); }

void FakeCoordinator::Up() {
  if (!service_->Listen(address_)) {
    std::fprintf(stderr, "%s is taken\n", address_.c_str());
    std::abort();
  }
}

void FakeCoordinator::SetRun(const v1::Run& run) {
  service_->With([&](Service& service) { service.run_ = run; });
}

void FakeCoordinator::Publish(const v1::Snapshot& snapshot) {
  service_->With([&](Service& service) { service.snapshots_.push_back(snapshot); });
}

void FakeCoordinator::Finish(v1::VerdictKind verdict) {
  service_->With([&](Service& service) {
    service.run_.set_state(v1::RUN_STATE_FINISHED);
    service.run_.mutable_verdict()->set_kind(verdict);
  });
}

void FakeCoordinator::SetFiles(std::vector<std::pair<std::string, std::string>> files) {
  service_->With([&](Service& service) { service.files_ = std::move(files); });
}

void FakeCoordinator::RefuseStart(const absl::Status& status) {
  service_->With([&](Service& service) { service.refusal_ = rpc::ToGrpc(status); });
}

void FakeCoordinator::LoseStarts(int count) {
  service_->With([&](Service& service) { service.lose_starts_ = count; });
}

void FakeCoordinator::HoldStarts(bool hold) {
  service_->With([&](Service& service) { service.hold_starts_ = hold; });
}

void FakeCoordinator::HoldExports() {
  service_->With([](Service& service) { service.hold_exports_ = true; });
}

void FakeCoordinator::SetStopEnds(bool ends) {
  service_->With([&](Service& service) { service.stop_ends_ = ends; });
}

void FakeCoordinator::SetDeployment(std::vector<v1::Event> events, const v1::Deployment& deployment) {
  service_->With([&](Service& service) {
    service.deploy_events_ = std::move(events);
    service.deployment_ = deployment;
  });
}

void FakeCoordinator::SetTuning(std::vector<v1::TuneResponse> responses) {
  service_->With([&](Service& service) { service.tune_responses_ = std::move(responses); });
}

std::vector<v1::TuneRequest> FakeCoordinator::tunings() {
  return service_->With([](Service& service) { return service.tunings_; });
}

std::vector<v1::StartTestRequest> FakeCoordinator::starts() {
  return service_->With([](Service& service) { return service.starts_; });
}

int FakeCoordinator::exports() {
  return service_->With([](Service& service) { return service.exports_; });
}

std::vector<v1::StopTestRequest> FakeCoordinator::stops() {
  return service_->With([](Service& service) { return service.stops_; });
}

std::vector<int64_t> FakeCoordinator::cursors() {
  return service_->With([](Service& service) { return service.cursors_; });
}

}  // namespace loadstar::client
