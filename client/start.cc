#include "client/start.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/terminal/format.h"

namespace loadstar::client {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(250);
constexpr absl::Duration kLongestBackoff = absl::Seconds(5);

class Starter {
 public:
  Starter(const StartOptions& options, CoordinatorClient* client, Interrupts* interrupts, terminal::Output* output)
      : options_(options), client_(client), interrupts_(interrupts), output_(output) {}

  StartOutcome Run() {
    absl::Time give_up = absl::InfiniteFuture();
    absl::Duration backoff = kFirstBackoff;
    while (true) {
      auto answer = Ask();
      if (!answer) {
        return {StartOutcome::Kind::kLeft, {}, stop_, absl::OkStatus()};
      }
      if (answer->ok()) {
        return {StartOutcome::Kind::kStarted, std::move(*(*answer)->mutable_run()), stop_, absl::OkStatus()};
      }
      const absl::Status& status = answer->status();
      const bool lost = absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
      if (!lost || absl::Now() >= give_up) {
        return {StartOutcome::Kind::kFailed, {}, stop_, status};
      }
      if (give_up == absl::InfiniteFuture()) {
        give_up = absl::Now() + options_.patience;
        output_->Note(absl::StrCat("no answer to the request to start (", status.message(),
                                   "); the same request is repeated for ", terminal::Age(options_.patience)));
      }
      if (!Pause(backoff)) {
        return {StartOutcome::Kind::kLeft, {}, stop_, absl::OkStatus()};
      }
      backoff = std::min(backoff * 2, kLongestBackoff);
    }
  }

 private:
  // Nullopt when it was left.
  std::optional<absl::StatusOr<v1::StartTestResponse>> Ask() {
    const std::unique_ptr<PendingStart> call =
        client_->StartTestAsync(options_.request, [this] { interrupts_->Wake(); });
    while (true) {
      if (Left()) {
        return std::nullopt;
      }
      if (auto end = call->End()) {
        return end;
      }
      interrupts_->Wait(-1, absl::InfiniteDuration());
    }
  }

  // False when it was left.
  bool Pause(absl::Duration length) {
    const absl::Time end = absl::Now() + length;
    while (true) {
      if (Left()) {
        return false;
      }
      if (absl::Now() >= end) {
        return true;
      }
      interrupts_->Wait(-1, end - absl::Now());
    }
  }

  bool Left() {
    while (interrupts_->Take()) {
      if (stop_) {
        return true;
      }
      stop_ = true;
      output_->Note("the run will be stopped as soon as the coordinator has named it; once more to leave at once");
    }
    return false;
  }

  const StartOptions& options_;
  CoordinatorClient* const client_;
  Interrupts* const interrupts_;
  terminal::Output* const output_;
  bool stop_ = false;
};

}  // namespace

StartOutcome Start(const StartOptions& options, CoordinatorClient* client, Interrupts* interrupts,
                   terminal::Output* output) {
  return Starter(options, client, interrupts, output).Run();
}

}  // namespace loadstar::client
