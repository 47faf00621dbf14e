// What `run` and `watch` show of a run: a pure function from what the coordinator streamed to lines of text. Everything
// shown was in a snapshot; what was not is "-".
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "client/terminal/line.h"
#include "loadstar/v1/metrics.pb.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::client::terminal {

// The run as streamed so far: the latest of everything, and the sums that only the whole stream has.
class LiveState {
 public:
  void Take(const v1::Run& run) { run_ = run; }
  // False (and nothing is taken) when the snapshot brings no second that is new: after a reconnect a second may come
  // twice.
  bool Take(const v1::Snapshot& snapshot);

  const v1::Run& run() const { return run_; }
  const std::optional<v1::Snapshot>& last() const { return last_; }
  // The second from which a new subscription has to go on.
  int64_t next_second() const { return last_ ? int64_t{last_->to_elapsed_s()} + 1 : 0; }
  uint64_t connects_failed() const { return connects_failed_; }
  uint64_t connections_lost() const { return connections_lost_; }
  // Errors of the whole run so far, by ErrorName.
  const std::map<std::string, uint64_t>& errors() const { return errors_; }

 private:
  v1::Run run_;
  std::optional<v1::Snapshot> last_;
  uint64_t connects_failed_ = 0;
  uint64_t connections_lost_ = 0;
  std::map<std::string, uint64_t> errors_;
};

// "ramp 0 -> 100k", "hold 100k"; empty when the run has no such stage.
std::string StageName(const v1::TestSpec& test, uint32_t stage);
// "12.3 s  error  host1 worker 2: message"; a time that is absent is left out.
std::string EventText(const v1::Event& event);
Style EventStyle(const v1::Event& event);

// The redrawn block, at most `height` lines; figures that do not fit into `width` go to a further
// line, longer texts are not cut.
std::vector<Line> LiveBlock(const LiveState& state, size_t width, size_t height);
// One line for the last snapshot, for outputs that are no terminal.
std::string PlainLine(const LiveState& state);

}  // namespace loadstar::client::terminal
