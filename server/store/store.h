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

  // Where the file is: for Reader.
  const std::string& path() const { return path_; }

  // For tests: no more than so many pages, so that the disk seems full; 0: as many as there were.
  absl::Status LimitPages(int64_t pages);

 private:
  struct Statements;
  Store(os::Fd lock, std::string path, Database database);

  absl::Status Migrate();
  absl::Status Write(const Action& action, absl::Time now);

  os::Fd lock_;
  std::string path_;
  Database database_;
  std::unique_ptr<Statements> statements_;
};

}  // namespace loadstar::server
