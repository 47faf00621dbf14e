#include "server/service/names.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "lib/rpc/rpc.h"

namespace loadstar::server {
namespace {

bool IsWord(const std::string& text, size_t max) {
  return !text.empty() && text.size() <= max && text.front() != '-' &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

std::string Quoted(const std::string& value) { return absl::StrCat("\"", absl::CHexEscape(value.substr(0, 80)), "\""); }

}  // namespace

bool IsValidName(const std::string& text) { return IsWord(text, 63); }
bool IsRunId(const std::string& text) { return IsWord(text, 128); }

absl::Status FieldError(const std::string& field, const std::string& description) {
  google::rpc::BadRequest details;
  google::rpc::BadRequest::FieldViolation* violation = details.add_field_violations();
  violation->set_field(field);
  violation->set_description(description);
  return rpc::WithBadRequest(absl::InvalidArgumentError(absl::StrCat(field, ": ", description)), details);
}

absl::Status NameError(const std::string& field, const std::string& value) {
  return FieldError(field, absl::StrCat(Quoted(value),
                                        " is no name: expected a small letter or digit, then at most 62 small letters, "
                                        "digits and hyphens"));
}

absl::Status RunIdError(const std::string& value) {
  return FieldError("run_id", absl::StrCat(Quoted(value), " is no run's id; they look like smoke-20250131-120000"));
}

}  // namespace loadstar::server
