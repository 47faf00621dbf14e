#include "client/status_text.h"

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"

namespace loadstar::client {
namespace {

template <typename Detail>
Detail Get(const absl::Status& status) {
  Detail detail;
  const auto payload = status.GetPayload(absl::StrCat("type.googleapis.com/", detail.GetTypeName()));
  if (payload.has_value() && !detail.ParseFromString(std::string(*payload))) {
    detail.Clear();
  }
  return detail;
}

void AddUnlessSaid(const std::string& subject, const std::string& description, std::string* text) {
  if (!description.empty() && !absl::StrContains(*text, description)) {
    absl::StrAppend(text, "\n  ", subject, subject.empty() ? "" : ": ", description);
  }
}

}  // namespace

std::string Describe(const absl::Status& status) {
  std::string text(status.message());
  if (text.empty()) {
    text = absl::StatusCodeToString(status.code());
  }
  const auto bad_request = Get<google::rpc::BadRequest>(status);
  for (const auto& violation : bad_request.field_violations()) {
    AddUnlessSaid(violation.field(), violation.description(), &text);
  }
  const auto precondition = Get<google::rpc::PreconditionFailure>(status);
  for (const auto& violation : precondition.violations()) {
    AddUnlessSaid(violation.subject(), violation.description(), &text);
  }
  return text;
}

}  // namespace loadstar::client
