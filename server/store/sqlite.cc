#include "server/store/sqlite.h"

#include <sqlite3.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace loadstar::server {
namespace {

// RESOURCE_EXHAUSTED: room must be made. UNAVAILABLE: may pass. DATA_LOSS: the file is broken. INTERNAL: we are.
absl::Status ToStatus(sqlite3* database, int code) {
  const std::string text =
      absl::StrCat("store: ", database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code), " (SQLite ",
                   sqlite3_errstr(code), ")");
  switch (code & 0xff) {
    case SQLITE_FULL:
    case SQLITE_NOMEM:
      return absl::ResourceExhaustedError(text);
    case SQLITE_IOERR:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
      return absl::UnavailableError(text);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(text);
    default:
      return absl::InternalError(text);
  }
}

}  // namespace

Statement::Statement(Statement&& other) noexcept
    : database_(other.database_),
      statement_(std::exchange(other.statement_, nullptr)),
      bound_(other.bound_),
      status_(std::move(other.status_)) {}

Statement::~Statement() { sqlite3_finalize(statement_); }

void Statement::Note(int code) {
  if (code != SQLITE_OK && status_.ok()) status_ = ToStatus(database_, code);
}

Statement& Statement::Bind(int64_t value) {
  Note(sqlite3_bind_int64(statement_, ++bound_, value));
  return *this;
}
Statement& Statement::Bind(absl::string_view text) {
  Note(sqlite3_bind_text64(statement_, ++bound_, text.data() == nullptr ? "" : text.data(), text.size(),
                           SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}
Statement& Statement::BindBlob(absl::string_view bytes) {
  Note(sqlite3_bind_blob64(statement_, ++bound_, bytes.data() == nullptr ? "" : bytes.data(), bytes.size(),
                           SQLITE_TRANSIENT));
  return *this;
}

bool Statement::Step() {
  if (!status_.ok()) return false;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) Note(code);
  return false;
}

absl::Status Statement::Run() {
  while (Step()) {
  }
  return Reset();
}

absl::Status Statement::Reset() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
  bound_ = 0;
  return std::exchange(status_, absl::OkStatus());
}

int64_t Statement::Integer(int column) const { return sqlite3_column_int64(statement_, column); }

absl::string_view Statement::Bytes(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  return bytes == nullptr
             ? absl::string_view()
             : absl::string_view(static_cast<const char*>(bytes), sqlite3_column_bytes(statement_, column));
}

absl::StatusOr<Database> Database::Open(const std::string& path, Mode mode) {
  sqlite3* raw = nullptr;
  // No mutex: a connection is one thread's at a time. Opened read-write even for readers, because a reader of a WAL
  // database may have to recover it; query_only keeps them from writing.
  const int code =
      sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  Database database(raw);
  if (code != SQLITE_OK) return ToStatus(raw, code);
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, 5000);
  if (mode == Mode::kReadOnly) {
    if (absl::Status status = database.Execute("PRAGMA query_only=1"); !status.ok()) return status;
  }
  return database;
}

Database::Database(Database&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}

Database::~Database() { sqlite3_close_v2(database_); }

absl::Status Database::Execute(const char* sql) {
  const int code = sqlite3_exec(database_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : ToStatus(database_, code);
}

absl::StatusOr<Statement> Database::Prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(database_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return ToStatus(database_, code);
  return Statement(database_, statement);
}

absl::StatusOr<int64_t> Database::Integer(const char* sql) {
  absl::StatusOr<Statement> statement = Prepare(sql);
  if (!statement.ok()) return statement.status();
  if (!statement->Step()) {
    absl::Status status = statement->Reset();
    return status.ok() ? absl::NotFoundError(absl::StrCat("store: no row for ", sql)) : status;
  }
  return statement->Integer(0);
}

int Database::Changes() const { return sqlite3_changes(database_); }

}  // namespace loadstar::server
