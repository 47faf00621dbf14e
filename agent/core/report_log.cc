#include "agent/core/report_log.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace loadstar::agent {

uint64_t ReportLog::Append(v1::Report report) {
  report.set_sequence(++last_);
  memory_bytes_ += report.ByteSizeLong();
  memory_.push_back(std::move(report));
  Bound();
  return last_;
}

void ReportLog::Bound() {
  absl::Status status;
  while (memory_bytes_ > memory_bytes_max_ && memory_.size() > 1) {
    status = spill_ == nullptr ? absl::UnavailableError("there is no spill") : spill_->Append(memory_.front());
    if (!status.ok()) break;
    memory_bytes_ -= memory_.front().ByteSizeLong();
    memory_.pop_front();
  }
  if (status.ok()) return;
  for (v1::Report& report : memory_) {
    if (memory_bytes_ <= memory_bytes_max_) return;
    if (!report.has_sample()) continue;
    memory_bytes_ -= report.ByteSizeLong();
    v1::Report instead;
    instead.set_sequence(report.sequence());
    instead.mutable_run_event()->set_run_id(report.sample().run_id());
    v1::Event* event = instead.mutable_run_event()->mutable_event();
    event->set_code("sample-dropped");
    event->set_severity(v1::SEVERITY_ERROR);
    event->set_message(absl::StrCat("second ", report.sample().elapsed_s(),
                                    " was given up: the outbox is full and could not be spilled: ", status.message()));
    memory_bytes_ += instead.ByteSizeLong();
    report = std::move(instead);
  }
}

void ReportLog::Begin(uint64_t acknowledged, int64_t now_ns) {
  up_ = true;
  progress_ns_ = now_ns;
  if (acknowledged + shift_ < acknowledged_) {
    // The coordinator does not know what it once acknowledged: another store. What is left is numbered anew for it.
    shift_ = acknowledged_ - acknowledged;
  } else {
    Acknowledge(acknowledged, now_ns);
  }
  next_ = acknowledged_ + 1;
}

void ReportLog::Acknowledge(uint64_t sequence, int64_t now_ns) {
  const uint64_t through = std::min(sequence + shift_, last_);
  if (through <= acknowledged_) return;
  acknowledged_ = through;
  next_ = std::max(next_, acknowledged_ + 1);
  progress_ns_ = now_ns;
  while (!memory_.empty() && memory_.front().sequence() <= acknowledged_) {
    memory_bytes_ -= memory_.front().ByteSizeLong();
    memory_.pop_front();
  }
  if (spill_ != nullptr) spill_->Trim(acknowledged_);
}

void ReportLog::Send(int64_t now_ns, const std::function<void(const v1::Report&)>& send) {
  if (!up_) return;
  if (next_ > acknowledged_ + 1 && now_ns - progress_ns_ >= kResendAfterNs) {
    next_ = acknowledged_ + 1;
    progress_ns_ = now_ns;
  }
  if (next_ == acknowledged_ + 1) progress_ns_ = now_ns;
  const uint64_t through = std::min(last_, acknowledged_ + kWindow);
  const auto send_one = [&](const v1::Report& report) {
    if (shift_ == 0) {
      send(report);
    } else {
      v1::Report renumbered = report;
      renumbered.set_sequence(report.sequence() - shift_);
      send(renumbered);
    }
    next_ = report.sequence() + 1;
  };
  const uint64_t in_memory_from = memory_.empty() ? last_ + 1 : memory_.front().sequence();
  if (spill_ != nullptr && next_ <= through && next_ < in_memory_from) {
    const uint64_t wanted = std::min(through, in_memory_from - 1) - next_ + 1;
    for (const v1::Report& report : spill_->Read(next_ - 1, wanted)) {
      if (report.sequence() != next_) break;
      send_one(report);
    }
    if (next_ < in_memory_from) return;  // the window ended, or the spill cannot be read now: tried again later
  }
  while (next_ <= through) send_one(memory_[next_ - in_memory_from]);
}

int64_t ReportLog::NextInstant() const {
  return up_ && last_ > acknowledged_ ? progress_ns_ + kResendAfterNs : INT64_MAX;
}

}  // namespace loadstar::agent
