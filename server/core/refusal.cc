#include "server/core/refusal.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"

namespace loadstar::server {
namespace {

constexpr absl::string_view kTypePrefix = "type.googleapis.com/";

void Attach(const google::protobuf::Message& detail, absl::Status* status) {
  status->SetPayload(absl::StrCat(kTypePrefix, detail.GetTypeName()), absl::Cord(detail.SerializeAsString()));
}

void AttachInfo(absl::string_view reason, absl::Status* status) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain("loadstar");
  Attach(info, status);
}

}  // namespace

absl::Status Precondition(absl::string_view reason, absl::string_view subject, absl::string_view description) {
  absl::Status status = absl::FailedPreconditionError(description);
  google::rpc::PreconditionFailure failure;
  auto* violation = failure.add_violations();
  violation->set_type(std::string(reason));
  violation->set_subject(std::string(subject));
  violation->set_description(std::string(description));
  Attach(failure, &status);
  AttachInfo(reason, &status);
  return status;
}

absl::Status BadField(absl::string_view field, absl::string_view description) {
  absl::Status status = absl::InvalidArgumentError(absl::StrCat(field, ": ", description));
  google::rpc::BadRequest request;
  auto* violation = request.add_field_violations();
  violation->set_field(std::string(field));
  violation->set_description(std::string(description));
  Attach(request, &status);
  return status;
}

absl::Status Missing(absl::string_view reason, absl::string_view description) {
  absl::Status status = absl::NotFoundError(description);
  AttachInfo(reason, &status);
  return status;
}

absl::Status FromWire(const google::rpc::Status& status) {
  absl::Status result(static_cast<absl::StatusCode>(status.code()), status.message());
  if (result.ok()) return result;
  for (const google::protobuf::Any& detail : status.details()) {
    result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
  return result;
}

}  // namespace loadstar::server
