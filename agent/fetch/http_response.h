#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/http/response_reader.h"

namespace loadstar::agent {

// The answer to a GET, gathered piece by piece. Refuses more than `max_bytes` in all.
class HttpResponse {
 public:
  explicit HttpResponse(size_t max_bytes = 4u << 20) : max_bytes_(max_bytes) {}

  // Takes what arrived; true when the answer is complete. An error says what was not understood.
  absl::StatusOr<bool> Append(std::string_view bytes);
  // The peer closed: completes an answer without a length; an error when the answer is cut short.
  absl::Status Finish();

  int status() const { return reader_.status(); }
  const std::string& body() const { return body_; }

 private:
  const size_t max_bytes_;
  http::ResponseReader reader_;
  size_t taken_ = 0;  // bytes in all
  bool complete_ = false;
  std::string body_;
};

}  // namespace loadstar::agent
