#include "server/service/metrics_feed.h"

#include <algorithm>
#include <utility>

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
    begun_ = true;
  }
  const bool finished = head->state == v1::RUN_STATE_FINISHED;
  bool give_run = head->mark != mark_ && (!finished || mark_.empty());
  if (!give_run) {
    bool given = false;
    if (absl::Status status = GiveSeconds(reader, message, &given); !status.ok()) return status;
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
  SnapshotMerger merger;
  bool sound = true;
  absl::Status status = reader->Snapshots(run_id_, next_s_, limit, [&](v1::Snapshot snapshot) {
    *given = true;
    next_s_ = int64_t{snapshot.to_elapsed_s()} + 1;
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
