// What became of commands, so that one that comes again is not done again.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "agent/core/report_log.h"
#include "loadstar/v1/agent_service.pb.h"

namespace loadstar::agent {

// Bounded: of the results that the coordinator has, the newest kKept are remembered. (It repeats only commands whose
// result it has not.)
class CommandLog {
 public:
  static constexpr size_t kKept = 1000;

  // True when the command is new and is now under way. Else it is under way already, or done: then its recorded result
  // is reported again, unless the report of it is still on the way.
  bool Begin(const std::string& command_id, ReportLog* log);
  // It came to its end: the result is recorded and reported. Without effect when it is not under way.
  void End(const std::string& command_id, const absl::Status& status, ReportLog* log);

 private:
  struct Entry {
    bool done = false;
    v1::CommandResult result;
    uint64_t report = 0;  // number of the newest report of the result
  };
  std::map<std::string, Entry> entries_;
  std::deque<std::string> done_;  // in order of their ends
};

}  // namespace loadstar::agent
