#include "client/watch.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/status_text.h"
#include "client/terminal/format.h"
#include "client/terminal/live_view.h"
#include "client/terminal/painter.h"

namespace loadstar::client {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(250);
constexpr absl::Duration kLongestBackoff = absl::Seconds(5);

// Shows the run: a redrawn block, a line a second, or JSON, as the output is.
class View {
 public:
  View(const v1::Run& run, terminal::Output* output) : output_(output), painter_(output->colour()) { state_.Take(run); }

  void Take(const v1::StreamMetricsResponse& message) {
    if (message.has_run()) {
      state_.Take(message.run());
      output_->Json(message);
      PlainEvents();
    } else if (message.has_snapshot() && message.snapshot().correction()) {
      output_->Json(message);  // people are shown the present; the results have every correction
    } else if (message.has_snapshot() && state_.Take(message.snapshot())) {
      output_->Json(message);
      if (!output_->live()) {
        output_->Text(terminal::PlainLine(state_));
      }
    }
  }

  void Paint() {
    if (!output_->live()) {
      return;
    }
    const terminal::Output::Size size = output_->size();
    // One row is left for the cursor, which stands below the block.
    output_->Raw(
        painter_.Frame(terminal::LiveBlock(state_, size.columns, size.rows > 1 ? size.rows - 1 : 1), size.columns));
  }

  // A diagnostic above the block.
  void Note(const std::string& text) {
    if (output_->live()) {
      output_->Raw(painter_.Erase(output_->size().columns));
    }
    output_->Note(text);
    Paint();
  }

  const terminal::LiveState& state() const { return state_; }

 private:
  // The block shows the last events; line by line each is shown once.
  void PlainEvents() {
    const auto& events = state_.run().events();
    for (; events_shown_ < events.size(); ++events_shown_) {
      if (!output_->live()) {
        output_->Text(absl::StrCat("event  ", terminal::EventText(events[events_shown_])));
      }
    }
  }

  terminal::Output* const output_;
  terminal::Painter painter_;
  terminal::LiveState state_;
  int events_shown_ = 0;
};

class Watcher {
 public:
  Watcher(const WatchOptions& options, const v1::Run& run, CoordinatorClient* client, Interrupts* interrupts,
          terminal::Output* output)
      : options_(options),
        client_(client),
        interrupts_(interrupts),
        output_(output),
        view_(run, output),
        stop_asked_(options.stop),
        stop_wanted_(options.stop) {}

  WatchOutcome Run() {
    Connect();
    view_.Paint();
    while (true) {
      if (std::optional<WatchOutcome> outcome = Turn()) {
        return *std::move(outcome);
      }
      Wait();
    }
  }

 private:
  std::optional<WatchOutcome> Turn() {
    if (interrupts_->Take()) {
      if (!options_.own || stop_asked_) {
        return Outcome(WatchOutcome::Kind::kDetached, absl::OkStatus());
      }
      stop_asked_ = stop_wanted_ = true;
      view_.Note("stopping the run; once more to leave it at once");
    }
    if (!output_->ok()) {
      return Outcome(WatchOutcome::Kind::kFailed, absl::UnavailableError("standard output cannot be written any more"));
    }
    DriveStop();
    if (stream_ == nullptr) {
      if (absl::Now() >= retry_at_) {
        Connect();
      }
      return std::nullopt;
    }
    bool painted = true;
    while (std::optional<v1::StreamMetricsResponse> message = stream_->Next()) {
      if (down_since_ != absl::InfinitePast()) {
        down_since_ = absl::InfinitePast();
        backoff_ = kFirstBackoff;
        view_.Note("the coordinator is back; going on where it left off");
      }
      view_.Take(*message);
      painted = false;
    }
    if (!painted) {
      view_.Paint();
    }
    if (const std::optional<absl::Status> end = stream_->End()) {
      return Ended(*end);
    }
    return std::nullopt;
  }

  std::optional<WatchOutcome> Ended(const absl::Status& status) {
    stream_.reset();
    if (view_.state().run().state() == v1::RUN_STATE_FINISHED) {
      return Outcome(WatchOutcome::Kind::kFinished, absl::OkStatus());
    }
    const bool passing = status.ok() || absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
                         absl::IsCancelled(status) || absl::IsAborted(status);
    if (!passing) {
      return Outcome(WatchOutcome::Kind::kFailed, status);
    }
    const absl::Time now = absl::Now();
    if (down_since_ == absl::InfinitePast()) {
      down_since_ = now;
      view_.Note(absl::StrCat("lost the coordinator (", status.ok() ? "it ended the stream" : status.message(),
                              "); the load goes on, trying again for ", terminal::Age(options_.patience)));
    } else if (now - down_since_ >= options_.patience) {
      return Outcome(WatchOutcome::Kind::kFailed,
                     status.ok() ? absl::UnavailableError("the coordinator ends every stream") : status);
    }
    retry_at_ = now + backoff_;
    backoff_ = std::min(backoff_ * 2, kLongestBackoff);
    return std::nullopt;
  }

  void Connect() {
    v1::StreamMetricsRequest request;
    request.set_run_id(options_.run_id);
    request.set_from_elapsed_s(view_.state().next_second());
    stream_ = client_->StreamMetrics(request);
  }

  // Sends the stop that was asked for, again when the coordinator was out of reach.
  void DriveStop() {
    if (stop_ != nullptr) {
      const auto end = stop_->End();
      if (!end) {
        return;
      }
      stop_.reset();
      const absl::Status& status = end->status();
      if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
        stop_at_ = absl::Now() + absl::Seconds(1);
      } else {
        stop_wanted_ = false;
        if (!status.ok()) {
          view_.Note(absl::StrCat("the run was not stopped: ", Describe(status)));
        }
      }
    }
    if (stop_wanted_ && absl::Now() >= stop_at_) {
      v1::StopTestRequest request;
      request.set_run_id(options_.run_id);
      stop_ = client_->StopTestAsync(request, [this] { interrupts_->Wake(); });
    }
  }

  void Wait() {
    absl::Duration wait = absl::Seconds(10);
    if (stream_ == nullptr) {
      wait = std::min(wait, retry_at_ - absl::Now());
    }
    if (stop_wanted_ && stop_ == nullptr) {
      wait = std::min(wait, stop_at_ - absl::Now());
    }
    if (interrupts_->Wait(stream_ == nullptr ? -1 : stream_->fd(), wait)) {
      view_.Paint();  // the terminal may have another size
    }
  }

  WatchOutcome Outcome(WatchOutcome::Kind kind, absl::Status status) {
    stop_.reset();
    return {kind, view_.state().run(), std::move(status)};
  }

  const WatchOptions options_;
  CoordinatorClient* const client_;
  Interrupts* const interrupts_;
  terminal::Output* const output_;
  View view_;
  std::unique_ptr<MetricsStream> stream_;  // null while the coordinator is away
  absl::Time down_since_ = absl::InfinitePast();
  absl::Time retry_at_ = absl::InfinitePast();
  absl::Duration backoff_ = kFirstBackoff;
  bool stop_asked_;
  bool stop_wanted_;  // until the coordinator has answered
  absl::Time stop_at_ = absl::InfinitePast();
  std::unique_ptr<PendingStop> stop_;
};

}  // namespace

WatchOutcome Watch(const WatchOptions& options, v1::Run run, CoordinatorClient* client, Interrupts* interrupts,
                   terminal::Output* output) {
  if (run.run_id().empty()) {
    run.set_run_id(options.run_id);
  }
  return Watcher(options, run, client, interrupts, output).Run();
}

}  // namespace loadstar::client
