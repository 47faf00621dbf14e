#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "lib/rpc/pull_writer.h"
#include "loadstar/v1/coordinator_service.pb.h"
#include "server/store/reader.h"

namespace loadstar::server {

// What one subscriber of a run is given next, read from the store by a cursor. The run first, then its seconds; the run
// again whenever something happened in it; the finished run last.
//
// Seconds that stood in the store when it subscribed are replayed one by one, however slowly it reads. Of those that
// come later, a reader that is more than two behind is given all at once, merged into one snapshot: so it catches up,
// and no second is skipped. At most kMergeMax seconds are merged into one.
//
// A snapshot that changes after it was given is given again, with the same interval and marked as a correction, before
// anything newer. What it costs is a query and, as seconds that an agent still owes reach back
// RunFigures::kMaxOpenSeconds at most, the intervals of the merged snapshots in that stretch: at most 300 pairs of
// numbers, however slow the reader.
//
// Invariant: every second in [first_s_, next_s_) was given with all changes up to given_change_, and, within a pass,
// those below pass_next_s_ with all changes up to pass_change_. Nothing newer is given during a pass.
class MetricsFeed {
 public:
  static constexpr int64_t kBehindMax = 2;
  static constexpr int64_t kMergeMax = 600;

  explicit MetricsFeed(const v1::StreamMetricsRequest& request)
      : run_id_(request.run_id()), from_now_(request.from_elapsed_s() < 0), next_s_(request.from_elapsed_s()) {}

  // One message, nothing yet, or the end with its status (NOT_FOUND when there is no such run).
  rpc::Pulled Next(Reader* reader, v1::StreamMetricsResponse* message, absl::Status* end);

 private:
  absl::Status Read(Reader* reader, v1::StreamMetricsResponse* message, rpc::Pulled* pulled);
  absl::Status GiveCorrection(Reader* reader, v1::StreamMetricsResponse* message, bool* given);
  absl::Status GiveSeconds(Reader* reader, v1::StreamMetricsResponse* message, bool* given);
  // Seconds from one on, at most `limit` of them, as one snapshot.
  absl::Status Give(Reader* reader, int64_t from_s, int64_t limit, v1::StreamMetricsResponse* message,
                    bool* given) const;

  const std::string run_id_;
  bool from_now_;
  bool begun_ = false;
  bool ended_ = false;
  int64_t first_s_ = 0;  // that this stream gives
  int64_t next_s_;
  int64_t replay_until_s_ = -1;  // the last second that stood at the start
  std::string mark_;             // of the run as last given
  int64_t given_change_ = 0;
  std::optional<int64_t> pass_change_;  // set: a pass over what has changed is under way
  int64_t pass_next_s_ = 0;
  std::deque<std::pair<int64_t, int64_t>> merged_;  // intervals given as one, those that can still change
};

}  // namespace loadstar::server
