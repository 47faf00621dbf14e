#include "server/store/reader.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace loadstar::server {
namespace {

absl::Status NoRun(const std::string& run_id) {
  return absl::NotFoundError(absl::StrCat("there is no run \"", run_id,
                                          "\"; see ListRuns (loadstar runs). Old runs are deleted: the coordinator's "
                                          "--keep-runs and --keep-days say when"));
}

absl::Status Damaged(const char* what) {
  return absl::DataLossError(absl::StrCat("store: a row does not hold a ", what, "; the file is damaged"));
}

// "CREATED_NS:RUN_ID" of the last run given.
bool ParseToken(const std::string& token, int64_t* created_ns, std::string* run_id) {
  const size_t colon = token.find(':');
  if (colon == std::string::npos || token.size() > 256) return false;
  *run_id = token.substr(colon + 1);
  return absl::SimpleAtoi(token.substr(0, colon), created_ns);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Reader>> Reader::Open(const std::string& path) {
  absl::StatusOr<Database> database = Database::Open(path, Database::Mode::kReadOnly);
  if (!database.ok()) return database.status();
  return std::unique_ptr<Reader>(new Reader(std::move(*database)));
}

absl::Status Reader::AtOneMoment(const std::function<absl::Status()>& body) {
  if (absl::Status status = database_.Execute("BEGIN"); !status.ok()) return status;
  absl::Status status = body();
  database_.Execute("COMMIT").IgnoreError();
  return status;
}

absl::StatusOr<v1::Run> Reader::FindRun(const std::string& run_id) {
  absl::StatusOr<Statement> find = database_.Prepare("SELECT run FROM runs WHERE run_id=?");
  if (!find.ok()) return find.status();
  find->Bind(run_id);
  if (!find->Step()) {
    absl::Status status = find->Reset();
    return status.ok() ? NoRun(run_id) : status;
  }
  const absl::string_view bytes = find->Bytes(0);
  v1::Run run;
  if (!run.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return Damaged("run");
  return run;
}

absl::StatusOr<Reader::RunHead> Reader::FindHead(const std::string& run_id) {
  absl::StatusOr<Statement> find = database_.Prepare("SELECT state, mark FROM runs WHERE run_id=?");
  if (!find.ok()) return find.status();
  find->Bind(run_id);
  if (!find->Step()) {
    absl::Status status = find->Reset();
    return status.ok() ? NoRun(run_id) : status;
  }
  return RunHead{static_cast<v1::RunState>(find->Integer(0)), std::string(find->Bytes(1))};
}

absl::StatusOr<v1::ListRunsResponse> Reader::ListRuns(uint32_t page_size, const std::string& page_token) {
  int64_t before_ns = INT64_MAX;
  std::string before_id;
  if (!page_token.empty() && !ParseToken(page_token, &before_ns, &before_id)) {
    return absl::InvalidArgumentError("page_token is none that ListRuns gave; leave it empty for the newest runs");
  }
  absl::StatusOr<Statement> list = database_.Prepare(
      "SELECT summary, created_ns, run_id FROM runs WHERE (created_ns, run_id) < (?, ?) "
      "ORDER BY created_ns DESC, run_id DESC LIMIT ?");
  if (!list.ok()) return list.status();
  list->Bind(before_ns).Bind(before_id).Bind(int64_t{page_size} + 1);
  v1::ListRunsResponse response;
  std::string token;
  while (list->Step()) {
    if (response.runs_size() == static_cast<int>(page_size)) {
      response.set_next_page_token(token);
      break;
    }
    const absl::string_view bytes = list->Bytes(0);
    if (!response.add_runs()->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return Damaged("summary");
    token = absl::StrCat(list->Integer(1), ":", list->Bytes(2));
  }
  if (absl::Status status = list->Reset(); !status.ok()) return status;
  return response;
}

absl::StatusOr<int64_t> Reader::LastChange(const std::string& run_id) {
  absl::StatusOr<Statement> find = database_.Prepare("SELECT COALESCE(MAX(change), 0) FROM snapshots WHERE run_id=?");
  if (!find.ok()) return find.status();
  find->Bind(run_id);
  if (find->Step()) return find->Integer(0);
  absl::Status status = find->Reset();
  return status.ok() ? absl::StatusOr<int64_t>(0) : status;
}

absl::StatusOr<int64_t> Reader::FirstChanged(const std::string& run_id, int64_t from_elapsed_s, int64_t below_elapsed_s,
                                             int64_t after_change) {
  // By that index: only few have changed lately, while a long run has millions of seconds.
  absl::StatusOr<Statement> find = database_.Prepare(
      "SELECT COALESCE(MIN(to_elapsed_s), -1) FROM snapshots INDEXED BY snapshots_by_change "
      "WHERE run_id=? AND change>? AND to_elapsed_s>=? AND to_elapsed_s<?");
  if (!find.ok()) return find.status();
  find->Bind(run_id).Bind(after_change).Bind(from_elapsed_s).Bind(below_elapsed_s);
  if (find->Step()) return find->Integer(0);
  absl::Status status = find->Reset();
  return status.ok() ? absl::StatusOr<int64_t>(-1) : status;
}

absl::StatusOr<int64_t> Reader::LastSecond(const std::string& run_id) {
  absl::StatusOr<Statement> find =
      database_.Prepare("SELECT COALESCE(MAX(to_elapsed_s), -1) FROM snapshots WHERE run_id=?");
  if (!find.ok()) return find.status();
  find->Bind(run_id);
  if (find->Step()) return find->Integer(0);
  absl::Status status = find->Reset();
  return status.ok() ? absl::StatusOr<int64_t>(-1) : status;
}

absl::Status Reader::Snapshots(const std::string& run_id, int64_t from_elapsed_s, int64_t limit,
                               const std::function<bool(v1::Snapshot snapshot)>& row) {
  absl::StatusOr<Statement> list = database_.Prepare(
      "SELECT snapshot FROM snapshots WHERE run_id=? AND to_elapsed_s>=? ORDER BY to_elapsed_s LIMIT ?");
  if (!list.ok()) return list.status();
  list->Bind(run_id).Bind(from_elapsed_s).Bind(limit);
  while (list->Step()) {
    const absl::string_view bytes = list->Bytes(0);
    v1::Snapshot snapshot;
    if (!snapshot.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return Damaged("snapshot");
    if (!row(std::move(snapshot))) break;
  }
  return list->Reset();
}

absl::StatusOr<std::unique_ptr<Readers>> Readers::Open(const std::string& path, size_t count) {
  auto readers = std::make_unique<Readers>();
  for (size_t i = 0; i < count; ++i) {
    absl::StatusOr<std::unique_ptr<Reader>> reader = Reader::Open(path);
    if (!reader.ok()) return reader.status();
    readers->Return(std::move(*reader));
  }
  return readers;
}

std::unique_ptr<Reader> Readers::Take() {
  absl::MutexLock lock(&mutex_, absl::Condition(this, &Readers::HasFree));
  std::unique_ptr<Reader> reader = std::move(free_.back());
  free_.pop_back();
  return reader;
}

void Readers::Return(std::unique_ptr<Reader> reader) {
  absl::MutexLock lock(&mutex_);
  free_.push_back(std::move(reader));
}

}  // namespace loadstar::server
