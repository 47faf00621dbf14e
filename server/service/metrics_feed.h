#pragma once

#include <cstdint>
#include <string>

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
  absl::Status GiveSeconds(Reader* reader, v1::StreamMetricsResponse* message, bool* given);

  const std::string run_id_;
  bool from_now_;
  bool begun_ = false;
  bool ended_ = false;
  int64_t next_s_;
  int64_t replay_until_s_ = -1;  // the last second that stood at the start
  std::string mark_;             // of the run as last given
};

}  // namespace loadstar::server
