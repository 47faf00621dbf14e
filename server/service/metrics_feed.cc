#include "server/service/metrics_feed.h"

#include <algorithm>
#include <utility>

#include "server/core/run_figures.h"
#include "server/service/snapshot_merger.h"

namespace loadstar::server {

rpc::Pulled MetricsFeed::Next(Reader* reader, v1::StreamMetricsResponse* message, absl::Status* end) {
  rpc::Pulled pulled = rpc::Pulled::kNothing;
  absl::Status status = ended_ ? absl::OkStatus() : reader->AtOneMoment([&] { return Read(reader, message, &pulled); });
  if (!ended_ && status.ok()) return pulled;
  if (status.ok() && pulled == rpc::Pulled::kMessage) return pulled;  // the finished run; the end comes next
  *end = status;
  return rpc::Pulled::kEnd;
}

absl::Status MetricsFeed::Read(Reader* reader, v1::StreamMetricsResponse* message, rpc::Pulled* pulled) {
  absl::StatusOr<Reader::RunHead> head = reader->FindHead(run_id_);
  if (!head.ok()) return head.status();
  if (!begun_) {
    absl::StatusOr<int64_t> last = reader->LastSecond(run_id_);
    if (!last.ok()) return last.status();
    replay_until_s_ = *last;
    if (from_now_) next_s_ = *last + 1;
    first_s_ = next_s_;
    absl::StatusOr<int64_t> change = reader->LastChange(run_id_);
    if (!change.ok()) return change.status();
    given_change_ = *change;
    begun_ = true;
  }
  const bool finished = head->state == v1::RUN_STATE_FINISHED;
  bool give_run = head->mark != mark_ && (!finished || mark_.empty());
  if (!give_run) {
    bool given = false;
    if (absl::Status status = GiveCorrection(reader, message, &given); !status.ok()) return status;
    if (!given) {
      if (absl::Status status = GiveSeconds(reader, message, &given); !status.ok()) return status;
    }
    if (given) {
      *pulled = rpc::Pulled::kMessage;
      return absl::OkStatus();
    }
    give_run = finished;
    ended_ = finished;
  }
  if (!give_run) return absl::OkStatus();
  absl::StatusOr<v1::Run> run = reader->FindRun(run_id_);
  if (!run.ok()) return run.status();
  mark_ = head->mark;
  *message->mutable_run() = std::move(*run);
  *pulled = rpc::Pulled::kMessage;
  return absl::OkStatus();
}

absl::Status MetricsFeed::GiveSeconds(Reader* reader, v1::StreamMetricsResponse* message, bool* given) {
  int64_t limit = 1;
  if (next_s_ > replay_until_s_) {
    absl::StatusOr<int64_t> last = reader->LastSecond(run_id_);
    if (!last.ok()) return last.status();
    const int64_t behind = *last - next_s_ + 1;
    if (behind > kBehindMax) limit = std::min(behind, kMergeMax);
  }
  if (absl::Status status = Give(reader, next_s_, limit, message, given); !status.ok() || !*given) return status;
  const v1::Snapshot& snapshot = message->snapshot();
  next_s_ = int64_t{snapshot.to_elapsed_s()} + 1;
  if (snapshot.from_elapsed_s() < snapshot.to_elapsed_s()) {
    merged_.emplace_back(snapshot.from_elapsed_s(), snapshot.to_elapsed_s());
  }
  constexpr auto kReach = static_cast<int64_t>(RunFigures::kMaxOpenSeconds);
  while (!merged_.empty() && merged_.front().second < next_s_ - kReach) merged_.pop_front();
  return absl::OkStatus();
}

absl::Status MetricsFeed::GiveCorrection(Reader* reader, v1::StreamMetricsResponse* message, bool* given) {
  const absl::StatusOr<int64_t> last = reader->LastChange(run_id_);
  if (!last.ok()) return last.status();
  while (given_change_ < *last) {
    if (!pass_change_.has_value()) {
      pass_change_ = *last;
      pass_next_s_ = first_s_;
    }
    const absl::StatusOr<int64_t> changed = reader->FirstChanged(run_id_, pass_next_s_, next_s_, given_change_);
    if (!changed.ok()) return changed.status();
    if (*changed < 0) {
      given_change_ = *std::exchange(pass_change_, std::nullopt);
      continue;
    }
    std::pair<int64_t, int64_t> interval(*changed, *changed);
    for (const auto& merged : merged_) {
      if (merged.first <= *changed && *changed <= merged.second) interval = merged;
    }
    pass_next_s_ = interval.second + 1;
    absl::Status status = Give(reader, interval.first, interval.second - interval.first + 1, message, given);
    message->mutable_snapshot()->set_correction(true);
    return status;
  }
  return absl::OkStatus();
}

absl::Status MetricsFeed::Give(Reader* reader, int64_t from_s, int64_t limit, v1::StreamMetricsResponse* message,
                               bool* given) const {
  SnapshotMerger merger;
  bool sound = true;
  absl::Status status = reader->Snapshots(run_id_, from_s, limit, [&](v1::Snapshot snapshot) {
    *given = true;
    if (limit == 1) {
      *message->mutable_snapshot() = std::move(snapshot);
    } else {
      sound = merger.Add(std::move(snapshot)) && sound;
    }
    return true;
  });
  if (!status.ok()) return status;
  if (!sound) return absl::DataLossError("store: a snapshot holds a malformed histogram; the file is damaged");
  if (*given && limit > 1) *message->mutable_snapshot() = merger.Take();
  return absl::OkStatus();
}

}  // namespace loadstar::server
