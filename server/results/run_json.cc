#include <google/protobuf/util/json_util.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "server/results/documents.h"

namespace loadstar::server::results {

std::string RunJson(const v1::Run& run, const std::string& version) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(run, &json, options);
  // Only a message that breaks protobuf's own rules (an instant before the year 1) has no JSON.
  if (!status.ok()) {
    return absl::StrCat("{\"program_version\": \"", version, "\", \"run_id\": \"", run.run_id(), "\"}\n");
  }
  return absl::StrCat("{\n \"program_version\": \"", version, "\",", json.substr(1));
}

}  // namespace loadstar::server::results
