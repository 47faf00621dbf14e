#include "agent/worker/protocols/http_head.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "lib/http/text.h"

namespace loadstar::worker {

std::vector<std::string> RenderHttpHeads(const v1::WorkerPlan& plan, std::string_view method) {
  const v1::HttpOptions& options = plan.http();
  std::string headers;
  bool has_host = false;
  for (const v1::HttpHeader& header : options.headers()) {
    has_host |= http::EqualsIgnoringCase(header.name(), "Host");
    absl::StrAppend(&headers, header.name(), ": ", header.value(), "\r\n");
  }
  const auto& names = plan.endpoint_names_size() == plan.endpoints_size() ? plan.endpoint_names() : plan.endpoints();
  std::vector<std::string> heads;
  for (const std::string& name : names) {
    std::string& head = heads.emplace_back(method);
    absl::StrAppend(&head, " ", options.path(), " HTTP/1.1\r\n");
    if (!has_host) absl::StrAppend(&head, "Host: ", name, "\r\n");
    head += headers;
  }
  return heads;
}

bool AsksForClose(const v1::HttpOptions& options) {
  return std::any_of(options.headers().begin(), options.headers().end(), [](const v1::HttpHeader& header) {
    return http::EqualsIgnoringCase(header.name(), "Connection") && http::EqualsIgnoringCase(header.value(), "close");
  });
}

}  // namespace loadstar::worker
