#include "agent/worker/protocols/http.h"

#include "absl/strings/str_cat.h"
#include "agent/worker/protocols/http_head.h"

namespace loadstar::worker {
namespace {

// Statuses that are answers in the good when the test names none: success and redirection.
constexpr size_t kFirstGood = 200;
constexpr size_t kAfterLastGood = 400;

// Methods whose requests mean to have a body: without one they say so (RFC 9110, section 8.6).
bool MeansBody(const std::string& method) { return method == "POST" || method == "PUT" || method == "PATCH"; }

}  // namespace

absl::StatusOr<std::unique_ptr<Protocol>> Http::Create(const v1::WorkerPlan& plan, uint32_t connections) {
  const v1::HttpOptions& options = plan.http();
  if (options.method().empty() || options.path().empty()) {
    return absl::InvalidArgumentError("http.method or http.path is missing: the agent sends plans with both");
  }
  for (const uint32_t status : options.expect_status()) {
    if (status >= kStatuses) return absl::InvalidArgumentError(absl::StrCat("http.expect_status has ", status));
  }
  return std::unique_ptr<Protocol>(new Http(plan, connections));
}

Http::Http(const v1::WorkerPlan& plan, uint32_t connections)
    : requests_(RenderHttpHeads(plan, plan.http().method())),
      head_(plan.http().method() == "HEAD"),
      close_(AsksForClose(plan.http())),
      states_(connections) {
  const std::string& body = plan.http().body();
  for (std::string& request : requests_) {
    if (!body.empty() || MeansBody(plan.http().method())) {
      absl::StrAppend(&request, "Content-Length: ", body.size(), "\r\n");
    }
    absl::StrAppend(&request, "\r\n", body);
  }
  for (const uint32_t status : plan.http().expect_status()) expected_.set(status);
  if (expected_.any()) return;
  for (size_t status = kFirstGood; status < kAfterLastGood; ++status) expected_.set(status);
}

bool Http::Begin(uint32_t connection, uint32_t endpoint, std::string* /*out*/) {
  states_[connection] = State();
  states_[connection].endpoint = endpoint;
  return true;
}

std::span<const std::byte> Http::Request(uint32_t connection, uint64_t /*id*/) {
  return AsBytes(requests_[states_[connection].endpoint]);
}

void Http::OnReceived(uint32_t connection, std::span<const std::byte> bytes, ProtocolEvents* events) {
  http::ResponseReader& reader = states_[connection].reader;
  std::string_view text = AsText(bytes);
  http::Piece piece;
  while (true) {
    switch (reader.Next(&text, head_, &piece)) {
      case http::Event::kMore:
        return;
      case http::Event::kStart:
        if (events->OldestInFlight() == 0) return events->OnBroken("unasked-answer");
        break;
      case http::Event::kHeader:
      case http::Event::kBody:
        break;
      case http::Event::kEnd:
        if (!Answered(reader, events)) return;
        break;
      case http::Event::kBroken:
        return events->OnBroken(http::NameOf(piece.flaw));
    }
  }
}

void Http::OnPeerClosed(uint32_t connection, ProtocolEvents* events) {
  const http::ResponseReader& reader = states_[connection].reader;
  if (reader.EndOfConnection()) (void)Answered(reader, events);
}

bool Http::Answered(const http::ResponseReader& reader, ProtocolEvents* events) const {
  const uint64_t id = events->OldestInFlight();
  const bool last = reader.last() || close_;
  const bool goes_on = expected_.test(reader.status())
                           ? events->OnAnswer(id)
                           : events->OnErrorAnswer(id, {v1::ERROR_KIND_HTTP_STATUS, std::to_string(reader.status())});
  if (goes_on && last) events->OnLast();
  return goes_on && !last;
}

void Http::End(uint32_t connection) { states_[connection] = State(); }

}  // namespace loadstar::worker
