#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "loadstar/v1/coordinator_service.pb.h"
#include "loadstar/v1/metrics.pb.h"
#include "loadstar/v1/run.pb.h"
#include "server/store/sqlite.h"

namespace loadstar::server {

// The reading side of the store: one connection, used by one thread at a time, beside the writer and never in its way.
// A missing run is NOT_FOUND.
class Reader {
 public:
  static absl::StatusOr<std::unique_ptr<Reader>> Open(const std::string& path);

  // Everything read by `body` is of one moment. Returns what body returns, or why it could not be called.
  absl::Status AtOneMoment(const std::function<absl::Status()>& body);

  absl::StatusOr<v1::Run> FindRun(const std::string& run_id);
  struct RunHead {
    v1::RunState state;
    std::string mark;  // see MarkOf
  };
  absl::StatusOr<RunHead> FindHead(const std::string& run_id);
  // Newest first. The token is an answer's, or empty; INVALID_ARGUMENT when it is neither.
  absl::StatusOr<v1::ListRunsResponse> ListRuns(uint32_t page_size, const std::string& page_token);

  // How many times snapshots of the run were put: what changes later has a higher number.
  absl::StatusOr<int64_t> LastChange(const std::string& run_id);
  // The first second in [from, below) whose snapshot was put after that change; -1 when there is none.
  absl::StatusOr<int64_t> FirstChanged(const std::string& run_id, int64_t from_elapsed_s, int64_t below_elapsed_s,
                                       int64_t after_change);
  // Last second of the run that has a snapshot; -1 when it has none.
  absl::StatusOr<int64_t> LastSecond(const std::string& run_id);
  // Snapshots from a second on, in order, at most `limit` of them; stops early when `row` returns false.
  absl::Status Snapshots(const std::string& run_id, int64_t from_elapsed_s, int64_t limit,
                         const std::function<bool(v1::Snapshot snapshot)>& row);

 private:
  explicit Reader(Database database) : database_(std::move(database)) {}
  Database database_;
};

// A few readers shared by many threads. Thread-safe.
class Readers {
 public:
  static absl::StatusOr<std::unique_ptr<Readers>> Open(const std::string& path, size_t count);

  // Waits for one that is free and lends it to `use`.
  template <class F>
  auto With(F&& use) {
    Loan loan(this);
    return use(*loan.reader);
  }

 private:
  struct Loan {
    explicit Loan(Readers* from) : owner(from), reader(from->Take()) {}
    ~Loan() { owner->Return(std::move(reader)); }
    Readers* owner;
    std::unique_ptr<Reader> reader;
  };
  std::unique_ptr<Reader> Take();
  void Return(std::unique_ptr<Reader> reader);
  bool HasFree() const { return !free_.empty(); }

  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Reader>> free_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace loadstar::server
