#include "server/store/run_row.h"

#include <variant>

#include "absl/strings/str_cat.h"

namespace loadstar::server {

v1::RunSummary Summarize(const v1::Run& run) {
  v1::RunSummary summary;
  summary.set_run_id(run.run_id());
  summary.set_test_name(run.test().name());
  summary.set_state(run.state());
  summary.set_verdict(run.verdict().kind());
  if (run.has_created_at()) *summary.mutable_created_at() = run.created_at();
  summary.set_peak_connections(run.peak_connections());
  if (run.has_latency() && run.latency().count() > 0) *summary.mutable_latency() = run.latency();
  return summary;
}

std::string MarkOf(const v1::Run& run) {
  std::string mark = absl::StrCat(run.state(), ":", run.events_size(), ":", run.updates_size(), ":", run.gaps_size(),
                                  ":", run.verdict().kind(), ":", run.has_start_at() ? 1 : 0, ":");
  for (const v1::Participant& participant : run.participants()) {
    absl::StrAppend(&mark, participant.has_started_at() ? "s" : "-", participant.lost() ? "l" : "-",
                    participant.finished() ? "f" : "-");
  }
  return mark;
}

RunRow ToRow(const v1::Run& run) {
  return {run.created_at().seconds() * 1'000'000'000 + run.created_at().nanos(), MarkOf(run),
          Summarize(run).SerializeAsString()};
}

bool IsWrite(const Action& action) {
  return std::holds_alternative<PutRun>(action) || std::holds_alternative<PutSample>(action) ||
         std::holds_alternative<PutSnapshot>(action) || std::holds_alternative<PutCursor>(action) ||
         std::holds_alternative<DeleteCursors>(action) || std::holds_alternative<PutDeployment>(action) ||
         std::holds_alternative<DeleteDeployment>(action) || std::holds_alternative<PutCommand>(action) ||
         std::holds_alternative<DeleteCommand>(action);
}

}  // namespace loadstar::server
