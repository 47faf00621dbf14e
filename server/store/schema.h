#pragma once

namespace loadstar::server {

// PRAGMA user_version of the file. A file of a later version is refused; an earlier one is brought up in Store::Open.
inline constexpr int kSchemaVersion = 2;

// Messages are kept as they are on the wire; what is searched by stands beside them in columns.
inline constexpr char kSchema[] = R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE runs(
  run_id TEXT PRIMARY KEY,
  created_ns INTEGER NOT NULL,
  state INTEGER NOT NULL,
  mark TEXT NOT NULL,      -- changes when a subscriber should be given the run again
  summary BLOB NOT NULL,   -- RunSummary
  run BLOB NOT NULL);      -- Run
CREATE INDEX runs_by_time ON runs(created_ns DESC, run_id DESC);
CREATE INDEX runs_unfinished ON runs(state) WHERE state < 5;
CREATE TABLE samples(
  arrival INTEGER PRIMARY KEY,
  run_id TEXT NOT NULL, agent TEXT NOT NULL, elapsed_s INTEGER NOT NULL,
  sample BLOB NOT NULL,    -- AgentSample
  UNIQUE(run_id, agent, elapsed_s));
CREATE TABLE snapshots(
  run_id TEXT NOT NULL, to_elapsed_s INTEGER NOT NULL,
  snapshot BLOB NOT NULL,  -- Snapshot
  change INTEGER NOT NULL DEFAULT 0,  -- 1, 2, 3... in the order in which the run's snapshots were put
  PRIMARY KEY(run_id, to_elapsed_s));
CREATE INDEX snapshots_by_change ON snapshots(run_id, change, to_elapsed_s);
CREATE TABLE cursors(
  agent TEXT NOT NULL, instance_id TEXT NOT NULL, sequence INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
  PRIMARY KEY(agent, instance_id)) WITHOUT ROWID;
CREATE TABLE deployments(name TEXT PRIMARY KEY, deployment BLOB NOT NULL);
CREATE TABLE commands(
  arrival INTEGER PRIMARY KEY, command_id TEXT NOT NULL UNIQUE, agent TEXT NOT NULL, command BLOB NOT NULL);
CREATE TABLE request_ids(
  request_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, created_ns INTEGER NOT NULL) WITHOUT ROWID;
)sql";

// From version 1: snapshots know when they changed.
inline constexpr char kFromVersion1[] = R"sql(
ALTER TABLE snapshots ADD COLUMN change INTEGER NOT NULL DEFAULT 0;
CREATE INDEX snapshots_by_change ON snapshots(run_id, change, to_elapsed_s);
)sql";

}  // namespace loadstar::server
