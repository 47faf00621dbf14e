#include "server/store/store.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/os/files.h"
#include "server/store/run_row.h"
#include "server/store/schema.h"

namespace loadstar::server {
namespace {

constexpr absl::Duration kRecentRuns = absl::Minutes(10);

template <class T>
absl::Status ParseRow(absl::string_view bytes, T* message) {
  if (message->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("store: a row does not hold a ", std::string(T::descriptor()->full_name()),
                                          "; the file is damaged"));
}

}  // namespace

struct Store::Statements {
  Statement put_run, put_request_id, put_sample, put_snapshot, put_cursor, delete_cursors, put_deployment,
      delete_deployment, put_command, delete_command, put_meta;

  static absl::StatusOr<std::unique_ptr<Statements>> Prepare(Database* database) {
    absl::Status status;
    const auto prepare = [&](const char* sql) -> std::optional<Statement> {
      absl::StatusOr<Statement> statement = database->Prepare(sql);
      if (!statement.ok()) {
        status.Update(statement.status());
        return std::nullopt;
      }
      return std::move(*statement);
    };
    auto put_run = prepare(
        "INSERT INTO runs(run_id, created_ns, state, mark, summary, run) VALUES(?,?,?,?,?,?) ON CONFLICT(run_id) DO "
        "UPDATE SET state=excluded.state, mark=excluded.mark, summary=excluded.summary, run=excluded.run");
    auto put_request_id = prepare("INSERT OR REPLACE INTO request_ids(request_id, run_id, created_ns) VALUES(?,?,?)");
    auto put_sample = prepare("INSERT OR IGNORE INTO samples(run_id, agent, elapsed_s, sample) VALUES(?,?,?,?)");
    auto put_snapshot = prepare(
        "INSERT OR REPLACE INTO snapshots(run_id, to_elapsed_s, snapshot, change) VALUES(?1,?2,?3,"
        "(SELECT COALESCE(MAX(change), 0) + 1 FROM snapshots WHERE run_id=?1))");
    auto put_cursor =
        prepare("INSERT OR REPLACE INTO cursors(agent, instance_id, sequence, updated_ns) VALUES(?,?,?,?)");
    auto delete_cursors = prepare("DELETE FROM cursors WHERE agent=?1 AND (instance_id=?2 OR ?2='')");
    auto put_deployment = prepare("INSERT OR REPLACE INTO deployments(name, deployment) VALUES(?,?)");
    auto delete_deployment = prepare("DELETE FROM deployments WHERE name=?");
    auto put_command = prepare(
        "INSERT INTO commands(command_id, agent, command) VALUES(?,?,?) ON CONFLICT(command_id) DO UPDATE SET "
        "agent=excluded.agent, command=excluded.command");
    auto delete_command = prepare("DELETE FROM commands WHERE command_id=?");
    auto put_meta = prepare("INSERT OR REPLACE INTO meta(key, value) VALUES('last_now_ns', ?)");
    if (!status.ok()) return status;
    return std::unique_ptr<Statements>(new Statements{
        std::move(*put_run), std::move(*put_request_id), std::move(*put_sample), std::move(*put_snapshot),
        std::move(*put_cursor), std::move(*delete_cursors), std::move(*put_deployment), std::move(*delete_deployment),
        std::move(*put_command), std::move(*delete_command), std::move(*put_meta)});
  }
};

Store::Store(os::Fd lock, std::string path, Database database)
    : lock_(std::move(lock)), path_(std::move(path)), database_(std::move(database)) {}
Store::~Store() = default;

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& folder) {
  absl::StatusOr<os::Fd> lock = os::LockFolder(folder);
  if (!lock.ok()) return lock.status();
  std::string path = folder + "/coordinator.db";
  absl::StatusOr<Database> database = Database::Open(path, Database::Mode::kReadWrite);
  if (!database.ok()) {
    return absl::Status(database.status().code(), absl::StrCat(path, ": ", database.status().message()));
  }
  std::unique_ptr<Store> store(new Store(std::move(*lock), std::move(path), std::move(*database)));
  absl::Status status = store->Migrate();
  if (!status.ok()) return absl::Status(status.code(), absl::StrCat(store->path_, ": ", status.message()));
  absl::StatusOr<std::unique_ptr<Statements>> statements = Statements::Prepare(&store->database_);
  if (!statements.ok()) return statements.status();
  store->statements_ = std::move(*statements);
  return store;
}

absl::Status Store::Migrate() {
  if (absl::Status status = database_.Execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL"); !status.ok()) {
    return status;
  }
  absl::StatusOr<int64_t> version = database_.Integer("PRAGMA user_version");
  if (!version.ok()) return version.status();
  if (*version > kSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat("was written by a later Loadstar (layout ", *version,
                                                      ", this program knows ", kSchemaVersion,
                                                      "); use that one, or another --state folder"));
  }
  if (*version == kSchemaVersion) return absl::OkStatus();
  if (*version == 1) {
    return database_.Execute(
        absl::StrCat("BEGIN IMMEDIATE;", kFromVersion1, "PRAGMA user_version=", kSchemaVersion, ";COMMIT").c_str());
  }
  return database_.Execute(
      absl::StrCat("BEGIN IMMEDIATE;", kSchema, "PRAGMA user_version=", kSchemaVersion, ";COMMIT").c_str());
}

absl::StatusOr<absl::Time> Store::LastNow() {
  absl::StatusOr<int64_t> last = database_.Integer("SELECT value FROM meta WHERE key='last_now_ns'");
  if (absl::IsNotFound(last.status())) return absl::InfinitePast();
  if (!last.ok()) return last.status();
  return absl::FromUnixNanos(*last);
}

absl::StatusOr<Restored> Store::Load(absl::Time now) {
  Restored restored;
  absl::Status status;
  const auto each = [&](const char* sql, std::optional<int64_t> value, auto&& row) {
    if (!status.ok()) return;
    absl::StatusOr<Statement> statement = database_.Prepare(sql);
    if (!statement.ok()) {
      status = statement.status();
      return;
    }
    if (value) statement->Bind(*value);
    while (status.ok() && statement->Step()) status = row(*statement);
    status.Update(statement->Reset());
  };

  each("SELECT run FROM runs WHERE state < 5 ORDER BY created_ns, run_id", std::nullopt,
       [&](Statement& row) { return ParseRow(row.Bytes(0), &restored.unfinished_runs.emplace_back()); });
  each(
      "SELECT agent, sample FROM samples WHERE run_id IN (SELECT run_id FROM runs WHERE state < 5) "
      "ORDER BY run_id, arrival",
      std::nullopt, [&](Statement& row) {
        PutSample& put = restored.samples.emplace_back();
        put.agent = std::string(row.Bytes(0));
        return ParseRow(row.Bytes(1), &put.sample);
      });
  each("SELECT agent, instance_id, sequence, updated_ns FROM cursors", std::nullopt, [&](Statement& row) {
    restored.cursors.push_back(
        {{std::string(row.Bytes(0)), std::string(row.Bytes(1)), static_cast<uint64_t>(row.Integer(2))},
         absl::FromUnixNanos(row.Integer(3))});
    return absl::OkStatus();
  });
  each("SELECT deployment FROM deployments ORDER BY name", std::nullopt,
       [&](Statement& row) { return ParseRow(row.Bytes(0), &restored.deployments.emplace_back()); });
  each("SELECT agent, command FROM commands ORDER BY arrival", std::nullopt, [&](Statement& row) {
    PutCommand& put = restored.commands.emplace_back();
    put.agent = std::string(row.Bytes(0));
    return ParseRow(row.Bytes(1), &put.command);
  });
  each("SELECT request_id, run_id FROM request_ids WHERE created_ns >= ?", absl::ToUnixNanos(now - kRequestIdsKept),
       [&](Statement& row) {
         restored.request_ids[std::string(row.Bytes(0))] = std::string(row.Bytes(1));
         return absl::OkStatus();
       });
  each("SELECT run_id FROM runs WHERE created_ns >= ?", absl::ToUnixNanos(now - kRecentRuns), [&](Statement& row) {
    restored.recent_run_ids.emplace_back(row.Bytes(0));
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return restored;
}

absl::Status Store::Write(const Action& action, absl::Time now) {
  Statements& use = *statements_;
  if (const auto* put = std::get_if<PutRun>(&action)) {
    const RunRow row = ToRow(put->run);
    absl::Status status = use.put_run.Bind(put->run.run_id())
                              .Bind(row.created_ns)
                              .Bind(int64_t{put->run.state()})
                              .Bind(row.mark)
                              .BindBlob(row.summary)
                              .BindBlob(put->run.SerializeAsString())
                              .Run();
    if (!status.ok() || put->request_id.empty()) return status;
    return use.put_request_id.Bind(put->request_id).Bind(put->run.run_id()).Bind(absl::ToUnixNanos(now)).Run();
  }
  if (const auto* put = std::get_if<PutSample>(&action)) {
    return use.put_sample.Bind(put->sample.run_id())
        .Bind(put->agent)
        .Bind(int64_t{put->sample.elapsed_s()})
        .BindBlob(put->sample.SerializeAsString())
        .Run();
  }
  if (const auto* put = std::get_if<PutSnapshot>(&action)) {
    return use.put_snapshot.Bind(put->snapshot.run_id())
        .Bind(int64_t{put->snapshot.to_elapsed_s()})
        .BindBlob(put->snapshot.SerializeAsString())
        .Run();
  }
  if (const auto* put = std::get_if<PutCursor>(&action)) {
    return use.put_cursor.Bind(put->agent)
        .Bind(put->instance_id)
        .Bind(static_cast<int64_t>(put->sequence))
        .Bind(absl::ToUnixNanos(now))
        .Run();
  }
  if (const auto* gone = std::get_if<DeleteCursors>(&action)) {
    return use.delete_cursors.Bind(gone->agent).Bind(gone->instance_id).Run();
  }
  if (const auto* put = std::get_if<PutDeployment>(&action)) {
    return use.put_deployment.Bind(put->deployment.name()).BindBlob(put->deployment.SerializeAsString()).Run();
  }
  if (const auto* gone = std::get_if<DeleteDeployment>(&action)) return use.delete_deployment.Bind(gone->name).Run();
  if (const auto* put = std::get_if<PutCommand>(&action)) {
    return use.put_command.Bind(put->command.command_id())
        .Bind(put->agent)
        .BindBlob(put->command.SerializeAsString())
        .Run();
  }
  if (const auto* gone = std::get_if<DeleteCommand>(&action)) return use.delete_command.Bind(gone->command_id).Run();
  return absl::OkStatus();
}

absl::Status Store::Apply(const std::vector<Action>& actions, absl::Time now) {
  bool writes = false;
  for (const Action& action : actions) writes = writes || IsWrite(action);
  if (!writes) return absl::OkStatus();
  if (absl::Status status = database_.Execute("BEGIN IMMEDIATE"); !status.ok()) return status;
  absl::Status status;
  for (const Action& action : actions) {
    status = Write(action, now);
    if (!status.ok()) break;
  }
  if (status.ok()) status = statements_->put_meta.Bind(absl::ToUnixNanos(now)).Run();
  if (status.ok()) status = database_.Execute("COMMIT");
  // Some errors have rolled back by themselves; then this one says that there is no transaction, which is as well.
  if (!status.ok()) database_.Execute("ROLLBACK").IgnoreError();
  return status;
}

namespace {

// The first run_id of a table after `after` for which `wanted` says so; empty: none. One look-up for each run, however
// many rows it has.
absl::Status FindRunIn(Database* database, const char* next_sql, const char* wanted_sql, std::string* found) {
  absl::StatusOr<Statement> next = database->Prepare(next_sql);
  if (!next.ok()) return next.status();
  absl::StatusOr<Statement> wanted = database->Prepare(wanted_sql);
  if (!wanted.ok()) return wanted.status();
  std::string run_id;
  while (true) {
    next->Bind(run_id);
    const bool another = next->Step();
    if (another) run_id = std::string(next->Bytes(0));
    if (absl::Status status = next->Reset(); !status.ok() || !another) return status;
    wanted->Bind(run_id);
    if (wanted->Step()) *found = run_id;
    if (absl::Status status = wanted->Reset(); !status.ok() || !found->empty()) return status;
  }
}

}  // namespace

absl::StatusOr<Tidied> Store::Tidy(const Retention& keep, absl::Time now) {
  Tidied tidied;
  if (absl::Status status = database_.Execute("BEGIN IMMEDIATE"); !status.ok()) return status;
  absl::Status status = TidyStep(keep, now, &tidied);
  if (status.ok()) status = database_.Execute("COMMIT");
  if (!status.ok()) {
    database_.Execute("ROLLBACK").IgnoreError();
    return status;
  }
  return tidied;
}

absl::Status Store::TidyStep(const Retention& keep, absl::Time now, Tidied* tidied) {
  const auto run = [&](const char* sql, auto&&... values) -> absl::Status {
    absl::StatusOr<Statement> statement = database_.Prepare(sql);
    if (!statement.ok()) return statement.status();
    (statement->Bind(values), ...);
    absl::Status status = statement->Run();
    if (status.ok()) tidied->rows = database_.Changes();
    return status;
  };
  std::string done;
  absl::Status status = FindRunIn(&database_, "SELECT run_id FROM samples WHERE run_id > ? ORDER BY run_id LIMIT 1",
                                  "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM runs WHERE run_id=? AND state < 5)", &done);
  if (!status.ok()) return status;
  if (!done.empty()) {
    tidied->more = true;
    return run("DELETE FROM samples WHERE arrival IN (SELECT arrival FROM samples WHERE run_id=? LIMIT ?)", done,
               keep.rows_at_once);
  }
  status = FindRunIn(&database_, "SELECT run_id FROM snapshots WHERE run_id > ? ORDER BY run_id LIMIT 1",
                     "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM runs WHERE run_id=?)", &done);
  if (!status.ok()) return status;
  if (!done.empty()) {
    tidied->more = true;
    return run("DELETE FROM snapshots WHERE rowid IN (SELECT rowid FROM snapshots WHERE run_id=? LIMIT ?)", done,
               keep.rows_at_once);
  }

  absl::StatusOr<int64_t> finished =
      database_.Integer("SELECT COUNT(*) - (SELECT COUNT(*) FROM runs WHERE state < 5) FROM runs");
  if (!finished.ok()) return finished.status();
  absl::StatusOr<Statement> oldest =
      database_.Prepare("SELECT run_id, created_ns FROM runs WHERE state = 5 ORDER BY created_ns, run_id LIMIT 1");
  if (!oldest.ok()) return oldest.status();
  bool too_old = false;
  if (oldest->Step()) {
    too_old = absl::FromUnixNanos(oldest->Integer(1)) < now - keep.age;
    if (too_old || *finished > std::max<int64_t>(keep.runs, 1)) tidied->run_id = std::string(oldest->Bytes(0));
  }
  if (status = oldest->Reset(); !status.ok()) return status;
  if (!tidied->run_id.empty()) {
    tidied->more = true;
    tidied->why = too_old ? "age" : "count";
    return run("DELETE FROM runs WHERE run_id=?", tidied->run_id);
  }
  status = run(
      "DELETE FROM request_ids WHERE request_id IN (SELECT request_id FROM request_ids WHERE created_ns < ? LIMIT ?)",
      absl::ToUnixNanos(now - kRequestIdsKept), keep.rows_at_once);
  tidied->more = tidied->rows == keep.rows_at_once;
  return status;
}

absl::Status Store::LimitPages(int64_t pages) {
  const int64_t limit = pages > 0 ? pages : 4294967294;
  return database_.Execute(absl::StrCat("PRAGMA max_page_count=", limit).c_str());
}

}  // namespace loadstar::server
