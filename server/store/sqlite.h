// server/store: the coordinator's memory, one SQLite file. This header: SQLite as it is used here, with statuses and
// owners instead of codes and pointers.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct sqlite3;
struct sqlite3_stmt;

namespace loadstar::server {

class Database;

// A prepared statement. Bind from 1 on, then Step until it is false, then Reset. Errors keep: after the first, binds
// and steps do nothing, and status() tells.
class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  Statement& Bind(int64_t value);
  Statement& Bind(absl::string_view text);
  Statement& BindBlob(absl::string_view bytes);
  // True: there is a row. False: no more, or an error.
  bool Step();
  // Runs to the end, resets.
  absl::Status Run();
  // Ready for new values; keeps no value. Returns what went wrong since the last Reset.
  absl::Status Reset();

  int64_t Integer(int column) const;
  // Valid until the next Step or Reset.
  absl::string_view Bytes(int column) const;

 private:
  friend class Database;
  Statement(sqlite3* database, sqlite3_stmt* statement) : database_(database), statement_(statement) {}
  void Note(int code);

  sqlite3* database_;
  sqlite3_stmt* statement_;
  int bound_ = 0;
  absl::Status status_;
};

// One connection; used by one thread at a time.
class Database {
 public:
  enum class Mode { kReadWrite, kReadOnly };
  static absl::StatusOr<Database> Open(const std::string& path, Mode mode);
  Database(Database&& other) noexcept;
  Database& operator=(Database&&) = delete;
  ~Database();

  // One or more statements without values or rows.
  absl::Status Execute(const char* sql);
  // The SQL is ours: a mistake in it is a broken program or a broken file.
  absl::StatusOr<Statement> Prepare(const char* sql);
  // First column of the first row, or an error.
  absl::StatusOr<int64_t> Integer(const char* sql);
  // Rows changed by the last statement that changed any.
  int Changes() const;

 private:
  explicit Database(sqlite3* database) : database_(database) {}
  sqlite3* database_;
};

}  // namespace loadstar::server
