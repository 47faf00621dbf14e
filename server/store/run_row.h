#pragma once

#include <cstdint>
#include <string>

#include "loadstar/v1/coordinator_service.pb.h"
#include "loadstar/v1/run.pb.h"
#include "server/core/coordinator_core.h"

namespace loadstar::server {

// The columns of `runs` that are derived from the run.
struct RunRow {
  int64_t created_ns;
  std::string mark;
  std::string summary;
};
RunRow ToRow(const v1::Run& run);

v1::RunSummary Summarize(const v1::Run& run);

// Changes with everything of a run that its subscribers are told of: state, events, updates, participants, verdict; not
// with the mere count of its seconds.
std::string MarkOf(const v1::Run& run);

// Whether the action is one of the store's.
bool IsWrite(const Action& action);

}  // namespace loadstar::server
