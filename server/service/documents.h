#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "loadstar/v1/coordinator_service.pb.h"
#include "server/core/coordinator_core.h"

namespace loadstar::server {

// What stands before the core: documents parsed, messages checked and completed, names resolved. These may wait for the
// resolver and parse a megabyte: for a pool's thread, not for gRPC's or the core's.

// INVALID_ARGUMENT with every problem; else a request that the core can take.
absl::StatusOr<ClientCalled::StartTest> PrepareTest(const v1::StartTestRequest& request);
absl::StatusOr<v1::DeployRequest> PrepareStack(const v1::DeployRequest& request);
absl::StatusOr<v1::TuneRequest> PrepareTuning(const v1::TuneRequest& request);

// Static problems of a document; when it has none and is a test, `test` is to be checked against the agents as well.
struct Checked {
  std::vector<v1::DocumentProblem> problems;
  bool is_test = false;
  v1::TestSpec test;
};
Checked CheckDocument(const v1::Document& document);

// OK, or which field is out of its bounds.
absl::Status CheckUpdate(const v1::UpdateLoadRequest& request);

}  // namespace loadstar::server
