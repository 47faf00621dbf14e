// A CoordinatorService in this process that does what a test scripts, on a port of its own that survives Down and Up.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "loadstar/v1/coordinator_service.pb.h"

namespace loadstar::client {

// Holds one run. Its seconds are those that the test published; its last message is the run as finished. Used by one
// thread. gRPC stays in fake_coordinator.cc.
class FakeCoordinator {
 public:
  FakeCoordinator();
  ~FakeCoordinator();

  const std::string& address() const { return address_; }
  // Ends the server as kill -9 would: streams break. What was published stays.
  void Down();
  void Up();

  // What StartTest answers and GetRun, StreamMetrics tell of.
  void SetRun(const v1::Run& run);
  void Publish(const v1::Snapshot& snapshot);
  // The run is over: streams end when everything was sent.
  void Finish(v1::VerdictKind verdict);
  void SetFiles(std::vector<std::pair<std::string, std::string>> files);
  // Every StartTest fails with this.
  void RefuseStart(const absl::Status& status);
  // The next StartTests begin the run, but their answers are lost: they fail with UNAVAILABLE.
  void LoseStarts(int count);
  // While true, StartTest is recorded and not answered.
  void HoldStarts(bool hold);
  // ExportRun sends its first piece and then nothing more.
  void HoldExports();
  // StopTest ends the run as stopped; unless this is false: then it is only recorded.
  void SetStopEnds(bool ends);
  // What Deploy and Teardown stream.
  void SetDeployment(std::vector<v1::Event> events, const v1::Deployment& deployment);
  // What Tune streams.
  void SetTuning(std::vector<v1::TuneResponse> responses);

  std::vector<v1::StartTestRequest> starts();
  // ExportRuns of which the first piece was sent.
  int exports();
  std::vector<v1::StopTestRequest> stops();
  std::vector<v1::TuneRequest> tunings();
  // from_elapsed_s of every StreamMetrics, in order.
  std::vector<int64_t> cursors();

 private:
  class Service;
  std::string address_;
  std::unique_ptr<Service> service_;
};

}  // namespace loadstar::client
