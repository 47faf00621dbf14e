#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace loadstar::agent {

// The answer to a GET, read from a stream piece by piece. Knows Content-Length, chunked and read-until-close bodies:
// what a node's /health and /metrics may use. Refuses more than `max_bytes` in all.
class HttpResponse {
 public:
  explicit HttpResponse(size_t max_bytes = 4u << 20) : max_bytes_(max_bytes) {}

  // Takes what arrived; true when the answer is complete. An error says what was not understood.
  absl::StatusOr<bool> Append(std::string_view bytes);
  // The peer closed: completes an answer without a length; an error when the answer is cut short.
  absl::Status Finish();

  int status() const { return status_; }
  const std::string& body() const { return body_; }

 private:
  absl::Status ReadHead(std::string_view head);
  absl::StatusOr<bool> ReadChunks();

  const size_t max_bytes_;
  std::string pending_;  // not yet understood
  size_t taken_ = 0;     // bytes in all
  bool head_done_ = false;
  bool complete_ = false;
  bool chunked_ = false;
  std::optional<size_t> length_;
  int status_ = 0;
  std::string body_;
};

}  // namespace loadstar::agent
