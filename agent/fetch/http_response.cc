#include "agent/fetch/http_response.h"

#include <charconv>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace loadstar::agent {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

bool ToNumber(std::string_view text, int base, size_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value, base);
  return error == std::errc() && end == text.data() + text.size();
}

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

}  // namespace

absl::StatusOr<bool> HttpResponse::Append(std::string_view bytes) {
  taken_ += bytes.size();
  if (taken_ > max_bytes_) {
    return absl::ResourceExhaustedError(absl::StrCat("the answer is larger than ", max_bytes_, " bytes"));
  }
  pending_.append(bytes);
  while (!head_done_) {
    const size_t end = pending_.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    if (absl::Status status = ReadHead(std::string_view(pending_).substr(0, end)); !status.ok()) return status;
    pending_.erase(0, end + 4);
    // 1xx answers precede the real one.
    head_done_ = status_ >= 200;
    if (status_ == 204 || status_ == 304) length_ = 0;
  }
  if (chunked_) return ReadChunks();
  body_.append(pending_);
  pending_.clear();
  if (length_ && body_.size() >= *length_) {
    body_.resize(*length_);
    complete_ = true;
  }
  return complete_;
}

absl::Status HttpResponse::Finish() {
  if (complete_ || (head_done_ && !chunked_ && !length_)) return absl::OkStatus();
  return absl::DataLossError(taken_ == 0 ? "the connection was closed without an answer" : "the answer is cut short");
}

absl::Status HttpResponse::ReadHead(std::string_view head) {
  const std::string_view first = head.substr(0, head.find("\r\n"));
  size_t code = 0;
  if (!first.starts_with("HTTP/1.") || first.size() < 12 || first[8] != ' ' ||
      !ToNumber(first.substr(9, 3), 10, &code)) {
    return absl::InvalidArgumentError("the answer is not HTTP/1");
  }
  status_ = static_cast<int>(code);
  chunked_ = false;
  length_.reset();
  for (size_t at = first.size(); at < head.size();) {
    at += 2;
    const size_t end = std::min(head.find("\r\n", at), head.size());
    const std::string_view line = head.substr(at, end - at);
    at = end;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view value = Trim(line.substr(colon + 1));
    if (absl::EqualsIgnoreCase(View(line.substr(0, colon)), "content-length")) {
      size_t length = 0;
      if (!ToNumber(value, 10, &length)) return absl::InvalidArgumentError("the answer's Content-Length is no number");
      length_ = length;
    } else if (absl::EqualsIgnoreCase(View(line.substr(0, colon)), "transfer-encoding")) {
      chunked_ = absl::EqualsIgnoreCase(View(value), "chunked");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> HttpResponse::ReadChunks() {
  size_t at = 0;
  while (!complete_) {
    const size_t line_end = pending_.find("\r\n", at);
    if (line_end == std::string::npos) break;
    std::string_view line = std::string_view(pending_).substr(at, line_end - at);
    line = Trim(line.substr(0, line.find(';')));
    size_t length = 0;
    if (!ToNumber(line, 16, &length) || length > max_bytes_) {
      return absl::InvalidArgumentError("the answer's chunk has no valid length");
    }
    if (pending_.size() - line_end - 2 < length + 2) break;
    body_.append(pending_, line_end + 2, length);
    at = line_end + 2 + length + 2;
    complete_ = length == 0;
  }
  pending_.erase(0, at);
  return complete_;
}

}  // namespace loadstar::agent
