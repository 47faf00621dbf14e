#include "agent/core/command_log.h"

#include "absl/strings/cord.h"
#include "absl/strings/string_view.h"

namespace loadstar::agent {
namespace {

uint64_t ReportResult(const v1::CommandResult& result, ReportLog* log) {
  v1::Report report;
  *report.mutable_command_result() = result;
  return log->Append(std::move(report));
}

}  // namespace

bool CommandLog::Begin(const std::string& command_id, ReportLog* log) {
  const auto [it, inserted] = entries_.try_emplace(command_id);
  if (inserted) return true;
  Entry& entry = it->second;
  if (entry.done && log->acknowledged(entry.report)) entry.report = ReportResult(entry.result, log);
  return false;
}

void CommandLog::End(const std::string& command_id, const absl::Status& status, ReportLog* log) {
  const auto it = entries_.find(command_id);
  if (it == entries_.end() || it->second.done) return;
  Entry& entry = it->second;
  entry.done = true;
  entry.result.set_command_id(command_id);
  entry.result.mutable_status()->set_code(static_cast<int>(status.code()));
  entry.result.mutable_status()->set_message(std::string(status.message()));
  status.ForEachPayload([&](absl::string_view type, const absl::Cord& payload) {
    google::protobuf::Any* detail = entry.result.mutable_status()->add_details();
    detail->set_type_url(std::string(type));
    detail->set_value(std::string(payload));
  });
  entry.report = ReportResult(entry.result, log);
  done_.push_back(command_id);
  while (done_.size() > kKept && log->acknowledged(entries_[done_.front()].report)) {
    entries_.erase(done_.front());
    done_.pop_front();
  }
}

}  // namespace loadstar::agent
