#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lib/os/fd.h"
#include "server/core/coordinator_core.h"
#include "server/store/sqlite.h"

namespace loadstar::server {

// A repeated StartTest is recognised for so long.
inline constexpr absl::Duration kRequestIdsKept = absl::Hours(24);

// How much of the past is kept. Runs are deleted oldest first, and only when they are finished.
struct Retention {
  int64_t runs = 1'000;                        // finished runs; at least 1
  absl::Duration age = absl::Hours(24) * 180;  // since StartTest
  int64_t rows_at_once = 64;                   // so that a step never holds the writer for long
};

// What one step of tidying up has done.
struct Tidied {
  std::string run_id;  // a run that was deleted, and why; empty: none
  std::string why;
  int64_t rows = 0;   // rows deleted
  bool more = false;  // there is more to do: call again soon
};

// The writing side of the coordinator's store: FOLDER/coordinator.db. One per folder (held by a lock on the folder),
// used by the core's thread alone. WAL with synchronous=FULL: what Apply has returned OK for survives kill -9 and loss
// of power; a commit costs one fsync, and the engine commits a whole batch of inputs at a time.
class Store {
 public:
  // Creates what is missing. FAILED_PRECONDITION: another coordinator has the folder, or a later version made the file.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& folder);

  ~Store();

  // What the core needs to go on.
  absl::StatusOr<Restored> Load(absl::Time now);
  // The latest `now` of any Apply; the past when there was none.
  absl::StatusOr<absl::Time> LastNow();

  // Writes every Put and Delete of the actions in one transaction, in order; others are not its concern. On failure
  // nothing of them is written, and the same call may be repeated. Does nothing when there is nothing to write.
  absl::Status Apply(const std::vector<Action>& actions, absl::Time now);

  // One step, in a transaction of its own, towards holding no more than `keep` says: the agents' samples of finished
  // runs go first (their merge, the snapshots, is what the API serves), then what is left of deleted runs, then one run
  // that is too old or one too many, then old request ids. A run is out of sight of readers before the first of its
  // rows goes, so nobody is ever given a part of one. The file keeps its size: the room is used again.
  absl::StatusOr<Tidied> Tidy(const Retention& keep, absl::Time now);

  // Where the file is: for Reader.
  const std::string& path() const { return path_; }

  // For tests: no more than so many pages, so that the disk seems full; 0: as many as there were.
  absl::Status LimitPages(int64_t pages);

 private:
  struct Statements;
  Store(os::Fd lock, std::string path, Database database);

  absl::Status Migrate();
  absl::Status Write(const Action& action, absl::Time now);
  absl::Status TidyStep(const Retention& keep, absl::Time now, Tidied* tidied);

  os::Fd lock_;
  std::string path_;
  Database database_;
  std::unique_ptr<Statements> statements_;
};

}  // namespace loadstar::server
