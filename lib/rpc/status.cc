#include "absl/status/status.h"

#include <algorithm>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/status.pb.h"
#include "lib/rpc/rpc.h"

namespace loadstar::rpc {
namespace {

// A foreign client refuses trailing metadata of more than 8 KiB, and then sees RESOURCE_EXHAUSTED instead of our error.
constexpr size_t kMessageMaxBytes = 2048;
constexpr size_t kDetailsMaxBytes = 4096;
constexpr size_t kViolationsMaxBytes = 3072;

void Attach(const google::protobuf::Message& detail, absl::Status* status) {
  status->SetPayload(absl::StrCat("type.googleapis.com/", std::string(detail.GetDescriptor()->full_name())),
                     absl::Cord(detail.SerializeAsString()));
}

// Cuts at a boundary of UTF-8 characters.
std::string Shorten(absl::string_view text, size_t max) {
  if (text.size() <= max) return std::string(text);
  size_t end = max - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return absl::StrCat(text.substr(0, end), "...");
}

std::string PlaceOf(const v1::DocumentProblem& problem) {
  std::string place = problem.file_name();
  if (problem.line() > 0) {
    absl::StrAppend(&place, place.empty() ? "" : ":", problem.line());
    if (problem.column() > 0) absl::StrAppend(&place, ":", problem.column());
  }
  return place;
}

}  // namespace

absl::Status WithBadRequest(absl::Status status, const google::rpc::BadRequest& details) {
  Attach(details, &status);
  return status;
}

absl::Status InvalidDocument(const std::vector<v1::DocumentProblem>& problems) {
  google::rpc::BadRequest details;
  std::string message;
  size_t told = 0;
  for (const v1::DocumentProblem& problem : problems) {
    const std::string place = PlaceOf(problem);
    const std::string text = absl::StrCat(problem.message(), problem.remedy().empty() ? "" : ". ", problem.remedy());
    const std::string line =
        absl::StrCat(place, place.empty() ? "" : ": ", problem.field(), problem.field().empty() ? "" : ": ", text);
    // The first is always told, shortened if it must be.
    if (told > 0 && (message.size() + line.size() > kMessageMaxBytes - 64 ||
                     details.ByteSizeLong() + line.size() > kViolationsMaxBytes)) {
      break;
    }
    absl::StrAppend(&message, told == 0 ? "" : "\n", Shorten(line, kMessageMaxBytes - 64));
    google::rpc::BadRequest::FieldViolation* violation = details.add_field_violations();
    violation->set_field(Shorten(problem.field(), 256));
    violation->set_description(Shorten(absl::StrCat(place, place.empty() ? "" : ": ", text), 1024));
    ++told;
  }
  if (told < problems.size()) absl::StrAppend(&message, "\nand ", problems.size() - told, " more");
  if (problems.empty()) message = "the document is invalid";
  return WithBadRequest(absl::InvalidArgumentError(message), details);
}

absl::Status Precondition(const std::string& reason, const std::string& subject, const std::string& description) {
  absl::Status status = absl::FailedPreconditionError(description);
  google::rpc::PreconditionFailure failure;
  google::rpc::PreconditionFailure::Violation* violation = failure.add_violations();
  violation->set_type(reason);
  violation->set_subject(subject);
  violation->set_description(Shorten(description, 1024));
  Attach(failure, &status);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("loadstar");
  Attach(info, &status);
  return status;
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = Shorten(status.message(), kMessageMaxBytes);
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  size_t bytes = 0;
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& payload) {
    if (bytes + payload.size() > kDetailsMaxBytes) return;
    bytes += payload.size();
    google::protobuf::Any* any = details.add_details();
    any->set_type_url(std::string(type_url));
    any->set_value(std::string(payload));
  });
  // absl's codes are gRPC's, number by number.
  const auto code = static_cast<grpc::StatusCode>(status.code());
  if (details.details_size() == 0) return grpc::Status(code, message);
  details.set_message(message);
  return grpc::Status(code, message, details.SerializeAsString());
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int code = status.error_code();
  absl::Status result(code >= 1 && code <= 16 ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                      status.error_message());
  google::rpc::Status details;
  if (!status.error_details().empty() && details.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& any : details.details()) {
      result.SetPayload(any.type_url(), absl::Cord(any.value()));
    }
  }
  return result;
}

}  // namespace loadstar::rpc
