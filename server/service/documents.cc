#include "server/service/documents.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/rpc/rpc.h"
#include "lib/spec/spec.h"
#include "server/service/names.h"

namespace loadstar::server {
namespace {

constexpr size_t kYamlMaxBytes = 1 << 20;
constexpr size_t kFileNameMaxBytes = 4096;
constexpr size_t kRequestIdMaxBytes = 128;
constexpr uint64_t kConnectionsMax = 100'000'000;
constexpr double kRateMax = 1e9;
constexpr int64_t kRampMaxS = 31 * 86'400;
constexpr int kAgentsMax = 1024;

v1::DocumentProblem Problem(const v1::Document& document, const std::string& field, const std::string& message,
                            const std::string& remedy) {
  v1::DocumentProblem problem;
  problem.set_file_name(document.file_name().substr(0, 256));
  problem.set_field(field);
  problem.set_message(message);
  problem.set_remedy(remedy);
  return problem;
}

// Parses within the API's bounds.
spec::Parsed ParseBounded(const v1::Document& document) {
  spec::Parsed parsed;
  if (document.yaml().size() > kYamlMaxBytes) {
    parsed.problems.push_back(Problem(document, "", absl::StrCat("the document has ", document.yaml().size(), " bytes"),
                                      "a document has at most 1 MiB"));
  } else if (document.file_name().size() > kFileNameMaxBytes) {
    parsed.problems.push_back(Problem(document, "", "file_name is longer than 4,096 bytes", "give a shorter label"));
  } else {
    parsed = spec::Parse(document);
  }
  return parsed;
}

absl::Status NoSource(const char* what) {
  return FieldError("source", absl::StrCat("neither a message nor a document was given; set ", what, " or document"));
}

}  // namespace

absl::StatusOr<ClientCalled::StartTest> PrepareTest(const v1::StartTestRequest& request) {
  ClientCalled::StartTest start;
  if (request.request_id().size() > kRequestIdMaxBytes) return FieldError("request_id", "is longer than 128 bytes");
  if (!std::isfinite(request.scale()) || request.scale() < 0 || request.scale() > 1) {
    return FieldError("scale", "must be more than 0 and at most 1 (0 means all of it)");
  }
  start.request_id = request.request_id();
  switch (request.source_case()) {
    case v1::StartTestRequest::kTest: {
      start.test = request.test();
      if (spec::Problems problems = spec::Complete(&start.test); !problems.empty()) {
        return rpc::InvalidDocument(problems);
      }
      break;
    }
    case v1::StartTestRequest::kDocument: {
      spec::Parsed parsed = ParseBounded(request.document());
      if (parsed.problems.empty() && parsed.kind != spec::Parsed::Kind::kTest) {
        parsed.problems.push_back(Problem(request.document(), "kind", "this is no Test, and only a Test can be run",
                                          "deploy a Stack with Deploy (loadstar deploy)"));
      }
      if (!parsed.problems.empty()) return rpc::InvalidDocument(parsed.problems);
      start.test = std::move(parsed.test);
      break;
    }
    case v1::StartTestRequest::SOURCE_NOT_SET:
      return NoSource("test");
  }
  if (request.scale() > 0) spec::Scale(request.scale(), &start.test);
  if (start.test.target().stack().empty()) {
    const auto& endpoints = start.test.target().endpoints();
    absl::StatusOr<std::vector<std::string>> resolved = spec::ResolveEndpoints({endpoints.begin(), endpoints.end()});
    if (!resolved.ok()) return FieldError("target.endpoints", std::string(resolved.status().message()));
    start.endpoints = std::move(*resolved);
  }
  return start;
}

absl::StatusOr<v1::DeployRequest> PrepareStack(const v1::DeployRequest& request) {
  v1::DeployRequest ready;
  switch (request.source_case()) {
    case v1::DeployRequest::kStack: {
      *ready.mutable_stack() = request.stack();
      if (spec::Problems problems = spec::Complete(ready.mutable_stack()); !problems.empty()) {
        return rpc::InvalidDocument(problems);
      }
      return ready;
    }
    case v1::DeployRequest::kDocument: {
      spec::Parsed parsed = ParseBounded(request.document());
      if (parsed.problems.empty() && parsed.kind != spec::Parsed::Kind::kStack) {
        parsed.problems.push_back(Problem(request.document(), "kind",
                                          "this is no Stack, and only a Stack can be deployed",
                                          "run a Test with StartTest (loadstar run)"));
      }
      if (!parsed.problems.empty()) return rpc::InvalidDocument(parsed.problems);
      *ready.mutable_stack() = std::move(parsed.stack);
      return ready;
    }
    case v1::DeployRequest::SOURCE_NOT_SET:
      break;
  }
  return NoSource("stack");
}

namespace {

absl::StatusOr<v1::TuneRequest> CheckedTuning(v1::TuneRequest ready) {
  if (ready.containers() && ready.profile().has_virtual_machine()) {
    return FieldError("containers",
                      "is for profiles without virtualMachine: what a container in a virtual machine begins with is "
                      "known only inside");
  }
  return ready;
}

}  // namespace

absl::StatusOr<v1::TuneRequest> PrepareTuning(const v1::TuneRequest& request) {
  v1::TuneRequest ready = request;
  if (request.agents_size() > kAgentsMax) return FieldError("agents", "has more than 1,024 names");
  for (const std::string& agent : request.agents()) {
    if (!IsValidName(agent)) return NameError("agents", agent);
  }
  if (request.containers() && request.action() != v1::TUNE_ACTION_PLAN) {
    return FieldError("containers", "is for plan: a container is given its settings by what creates it");
  }
  if (request.load_modules() && request.all_or_nothing()) {
    return FieldError("load_modules",
                      "cannot be had with all_or_nothing: what a module brings can be planned only when "
                      "it is loaded");
  }
  switch (request.action()) {
    case v1::TUNE_ACTION_VERIFY:
    case v1::TUNE_ACTION_ROLLBACK:
    case v1::TUNE_ACTION_STATUS:
      ready.clear_source();
      if (!request.profile_name().empty() && !IsValidName(request.profile_name())) {
        return NameError("profile_name", request.profile_name());
      }
      return ready;
    case v1::TUNE_ACTION_PLAN:
    case v1::TUNE_ACTION_APPLY:
      break;
    default:
      return FieldError("action", "must be plan, apply, verify, rollback or status");
  }
  switch (request.source_case()) {
    case v1::TuneRequest::kProfile: {
      if (spec::Problems problems = spec::Complete(ready.mutable_profile()); !problems.empty()) {
        return rpc::InvalidDocument(problems);
      }
      return CheckedTuning(std::move(ready));
    }
    case v1::TuneRequest::kDocument: {
      spec::Parsed parsed = ParseBounded(request.document());
      if (parsed.problems.empty() && parsed.kind != spec::Parsed::Kind::kTuningProfile) {
        parsed.problems.push_back(
            Problem(request.document(), "kind", "this is no TuningProfile, and hosts are tuned by one", ""));
      }
      if (!parsed.problems.empty()) return rpc::InvalidDocument(parsed.problems);
      *ready.mutable_profile() = std::move(parsed.tuning_profile);
      return CheckedTuning(std::move(ready));
    }
    case v1::TuneRequest::SOURCE_NOT_SET:
      break;
  }
  return NoSource("profile");
}

Checked CheckDocument(const v1::Document& document) {
  Checked checked;
  spec::Parsed parsed = ParseBounded(document);
  checked.problems = std::move(parsed.problems);
  if (!checked.problems.empty() || parsed.kind != spec::Parsed::Kind::kTest) return checked;
  checked.is_test = true;
  checked.test = std::move(parsed.test);
  if (checked.test.target().stack().empty()) {
    const auto& endpoints = checked.test.target().endpoints();
    const auto resolved = spec::ResolveEndpoints({endpoints.begin(), endpoints.end()});
    if (!resolved.ok()) {
      checked.problems.push_back(Problem(document, "target.endpoints", std::string(resolved.status().message()), ""));
    }
  }
  return checked;
}

absl::Status CheckUpdate(const v1::UpdateLoadRequest& request) {
  if (!IsRunId(request.run_id())) return RunIdError(request.run_id());
  const v1::LoadUpdate& update = request.update();
  if (!update.has_connections() && !update.has_rate_per_s()) {
    return FieldError("update", "changes nothing; set connections or rate_per_s");
  }
  if (update.connections() > kConnectionsMax) return FieldError("update.connections", "is more than 100,000,000");
  if (update.has_rate_per_s() &&
      (!std::isfinite(update.rate_per_s()) || update.rate_per_s() < 0 || update.rate_per_s() > kRateMax)) {
    return FieldError("update.rate_per_s", "must be from 0 to 1,000,000,000");
  }
  const google::protobuf::Duration& ramp = update.ramp();
  if (ramp.seconds() < 0 || ramp.seconds() > kRampMaxS || ramp.nanos() < 0 || ramp.nanos() > 999'999'999) {
    return FieldError("update.ramp", "must be from 0 to 31 days");
  }
  return absl::OkStatus();
}

}  // namespace loadstar::server
