#include "server/service/export_source.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/rpc/rpc.h"
#include "server/results/documents.h"
#include "server/results/tables.h"

namespace loadstar::server {
namespace {

constexpr int64_t kSecondsAtATime = 300;

}  // namespace

absl::Status ExportSource::Begin(Reader* reader) {
  absl::StatusOr<v1::Run> run = reader->FindRun(run_id_);
  if (!run.ok()) return run.status();
  if (run->state() != v1::RUN_STATE_FINISHED) {
    return rpc::Precondition("RUN_NOT_FINISHED", run_id_,
                             absl::StrCat("run ", run_id_,
                                          " is not finished, so its results are not complete; wait "
                                          "for it (loadstar watch) or stop it (loadstar stop)"));
  }
  run_ = std::move(*run);
  begun_ = true;
  return absl::OkStatus();
}

absl::Status ExportSource::Fill(Reader* reader) {
  const auto& tables = results::Tables();
  if (file_ >= tables.size()) {
    buffer_ = file_ == tables.size() ? results::RunJson(run_, version_) : results::Summary(run_, version_);
    file_done_ = true;
    return absl::OkStatus();
  }
  const results::Table& table = tables[file_];
  if (!file_begun_) {
    buffer_ = table.header;
    file_begun_ = true;
    next_s_ = 0;
  }
  while (buffer_.size() < kPieceMax && !file_done_) {
    int64_t rows = 0;
    absl::Status status = reader->Snapshots(run_id_, next_s_, kSecondsAtATime, [&](const v1::Snapshot& snapshot) {
      table.append(run_, snapshot, &buffer_);
      next_s_ = int64_t{snapshot.to_elapsed_s()} + 1;
      ++rows;
      return buffer_.size() < kPieceMax;
    });
    if (!status.ok()) return status;
    file_done_ = rows == 0;
  }
  return absl::OkStatus();
}

rpc::Pulled ExportSource::Next(Reader* reader, v1::ExportRunResponse* message, absl::Status* end) {
  const size_t files = results::Tables().size() + 2;
  if (!begun_) *end = Begin(reader);
  if (!end->ok() || file_ >= files) return rpc::Pulled::kEnd;
  if (!file_done_ && buffer_.size() < kPieceMax) {
    *end = reader->AtOneMoment([&] {
      // A run that was deleted meanwhile has lost seconds: what was given of it is not to be taken for all of it.
      if (const auto head = reader->FindHead(run_id_); !head.ok()) return head.status();
      return Fill(reader);
    });
  }
  if (!end->ok()) return rpc::Pulled::kEnd;
  message->set_file_name(file_ < results::Tables().size()    ? results::Tables()[file_].file_name
                         : file_ == results::Tables().size() ? "run.json"
                                                             : "summary.txt");
  const size_t piece = std::min(buffer_.size(), kPieceMax);
  message->set_content(buffer_.substr(0, piece));
  buffer_.erase(0, piece);
  if (file_done_ && buffer_.empty()) {
    ++file_;
    file_begun_ = file_done_ = false;
  }
  return rpc::Pulled::kMessage;
}

}  // namespace loadstar::server
