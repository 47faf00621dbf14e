#include "agent/fetch/http_response.h"

#include "absl/strings/str_cat.h"

namespace loadstar::agent {

absl::StatusOr<bool> HttpResponse::Append(std::string_view bytes) {
  taken_ += bytes.size();
  if (taken_ > max_bytes_) {
    return absl::ResourceExhaustedError(absl::StrCat("the answer is larger than ", max_bytes_, " bytes"));
  }
  http::Piece piece;
  while (!complete_) {
    switch (reader_.Next(&bytes, /*head_request=*/false, &piece)) {
      case http::Event::kMore:
        return false;
      case http::Event::kStart:
      case http::Event::kHeader:
        break;
      case http::Event::kBody:
        body_.append(piece.body);
        break;
      case http::Event::kEnd:
        complete_ = true;
        break;
      case http::Event::kBroken:
        return absl::InvalidArgumentError(absl::StrCat("the answer is not HTTP/1.1 (", http::NameOf(piece.flaw), ")"));
    }
  }
  return true;
}

absl::Status HttpResponse::Finish() {
  if (complete_ || reader_.EndOfConnection()) return absl::OkStatus();
  return absl::DataLossError(taken_ == 0 ? "the connection was closed without an answer" : "the answer is cut short");
}

}  // namespace loadstar::agent
