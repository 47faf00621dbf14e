#include "server/store/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "server/store/reader.h"
#include "server/store/run_row.h"
#include "tests/server/temporary_folder.h"

namespace loadstar::server {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

v1::Run MakeRun(const std::string& id, v1::RunState state, int64_t created_s = 1'700'000'000) {
  v1::Run run;
  run.set_run_id(id);
  run.mutable_test()->set_name("smoke");
  run.set_state(state);
  run.mutable_created_at()->set_seconds(created_s);
  return run;
}
PutSample MakeSample(const std::string& run, const std::string& agent, uint32_t second, uint64_t sent) {
  PutSample put;
  put.agent = agent;
  put.sample.set_run_id(run);
  put.sample.set_elapsed_s(second);
  put.sample.mutable_figures()->mutable_counters()->set_requests_sent(sent);
  return put;
}
PutSnapshot MakeSnapshot(const std::string& run, uint32_t second, uint64_t sent) {
  PutSnapshot put;
  put.snapshot.set_run_id(run);
  put.snapshot.set_from_elapsed_s(second);
  put.snapshot.set_to_elapsed_s(second);
  put.snapshot.mutable_figures()->mutable_counters()->set_requests_sent(sent);
  return put;
}

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(); }
  void Reopen() {
    store_.reset();
    auto store = Store::Open(folder_.path());
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
  }
  Restored Load() {
    auto restored = store_->Load(kNow);
    EXPECT_TRUE(restored.ok()) << restored.status();
    return restored.ok() ? std::move(*restored) : Restored{};
  }
  std::unique_ptr<Reader> OpenReader() {
    auto reader = Reader::Open(store_->path());
    EXPECT_TRUE(reader.ok()) << reader.status();
    return std::move(*reader);
  }

  TemporaryFolder folder_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, RestoresWhatWasPut) {
  v1::Deployment deployment;
  deployment.set_name("four-nodes");
  v1::Command command;
  command.set_command_id("c1");
  command.mutable_stop_run()->set_run_id("a-1");
  PutRun put_run{MakeRun("a-1", v1::RUN_STATE_RUNNING), "request-1"};
  ASSERT_TRUE(store_
                  ->Apply({put_run, MakeSample("a-1", "h2", 0, 5), MakeSample("a-1", "h1", 0, 7),
                           PutCursor{"h1", "i1", 3}, PutDeployment{deployment}, PutCommand{"h1", command},
                           PutRun{MakeRun("b-1", v1::RUN_STATE_FINISHED), ""}, MakeSample("b-1", "h1", 0, 1)},
                          kNow)
                  .ok());
  Reopen();
  const Restored restored = Load();
  ASSERT_EQ(restored.unfinished_runs.size(), 1u);
  EXPECT_EQ(restored.unfinished_runs[0].run_id(), "a-1");
  ASSERT_EQ(restored.samples.size(), 2u) << "samples of finished runs are not needed";
  EXPECT_EQ(restored.samples[0].agent, "h2") << "in order of arrival";
  ASSERT_EQ(restored.cursors.size(), 1u);
  EXPECT_EQ(restored.cursors[0].cursor.sequence, 3u);
  EXPECT_EQ(restored.cursors[0].updated, kNow);
  ASSERT_EQ(restored.deployments.size(), 1u);
  ASSERT_EQ(restored.commands.size(), 1u);
  EXPECT_EQ(restored.commands[0].command.stop_run().run_id(), "a-1");
  EXPECT_EQ(restored.request_ids.at("request-1"), "a-1");
  EXPECT_THAT(restored.recent_run_ids, ::testing::UnorderedElementsAre("a-1", "b-1"));
  EXPECT_EQ(*store_->LastNow(), kNow);
}

TEST_F(StoreTest, WhatWasDeletedIsGone) {
  v1::Deployment deployment;
  deployment.set_name("d");
  v1::Command command;
  command.set_command_id("c1");
  ASSERT_TRUE(store_->Apply({PutDeployment{deployment}, PutCommand{"h1", command}}, kNow).ok());
  ASSERT_TRUE(store_->Apply({DeleteDeployment{"d"}, DeleteCommand{"c1"}, DeleteCommand{"never-there"}}, kNow).ok());
  EXPECT_TRUE(Load().deployments.empty());
  EXPECT_TRUE(Load().commands.empty());
}

TEST_F(StoreTest, ARepeatedSampleReplacesNothingAndARepeatedSnapshotReplaces) {
  ASSERT_TRUE(store_
                  ->Apply({PutRun{MakeRun("a-1", v1::RUN_STATE_RUNNING), ""}, MakeSample("a-1", "h1", 4, 10),
                           MakeSample("a-1", "h1", 4, 99), MakeSnapshot("a-1", 4, 10), MakeSnapshot("a-1", 4, 20)},
                          kNow)
                  .ok());
  const Restored restored = Load();
  ASSERT_EQ(restored.samples.size(), 1u);
  EXPECT_EQ(restored.samples[0].sample.figures().counters().requests_sent(), 10u);
  std::vector<uint64_t> sent;
  ASSERT_TRUE(OpenReader()
                  ->Snapshots("a-1", 0, 100,
                              [&](const v1::Snapshot& s) {
                                sent.push_back(s.figures().counters().requests_sent());
                                return true;
                              })
                  .ok());
  EXPECT_THAT(sent, ::testing::ElementsAre(20u));
}

TEST_F(StoreTest, OneFolderHasOneCoordinator) {
  const auto second = Store::Open(folder_.path());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition) << second.status();
}

TEST_F(StoreTest, AFileOfALaterVersionIsRefused) {
  store_.reset();
  {
    auto database = Database::Open(folder_.path() + "/coordinator.db", Database::Mode::kReadWrite);
    ASSERT_TRUE(database.ok() && database->Execute("PRAGMA user_version=99").ok());
  }
  const auto store = Store::Open(folder_.path());
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(store.status().message()), ::testing::HasSubstr("later Loadstar"));
}

TEST_F(StoreTest, AFileThatIsNoDatabaseIsRefused) {
  TemporaryFolder other;
  {
    FILE* file = fopen((other.path() + "/coordinator.db").c_str(), "w");
    fputs(std::string(5000, 'x').c_str(), file);
    fclose(file);
  }
  EXPECT_EQ(Store::Open(other.path()).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(StoreTest, AFullDiskWritesNothingOfTheBatchAndLaterAllOfIt) {
  ASSERT_TRUE(store_->Apply({PutRun{MakeRun("a-1", v1::RUN_STATE_RUNNING), ""}}, kNow).ok());
  ASSERT_TRUE(store_->LimitPages(1).ok());  // SQLite never goes below what there is
  std::vector<Action> batch{PutCursor{"h1", "i1", 1}};
  for (uint32_t second = 0; second < 200; ++second) {
    PutSample put = MakeSample("a-1", "h1", second, 1);
    put.sample.mutable_figures()->add_errors()->set_detail(std::string(1000, 'x'));
    batch.push_back(put);
  }
  const absl::Status status = store_->Apply(batch, kNow);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_TRUE(Load().samples.empty());
  EXPECT_TRUE(Load().cursors.empty());
  ASSERT_TRUE(store_->LimitPages(0).ok());
  ASSERT_TRUE(store_->Apply(batch, kNow).ok());
  EXPECT_EQ(Load().samples.size(), 200u);
}

// A child commits and tells what it committed; kill -9 comes in the middle. What it told must be there.
TEST_F(StoreTest, NothingThatWasCommittedIsLostByKill) {
  store_.reset();
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto store = Store::Open(folder_.path());
    for (uint64_t i = 1; store.ok(); ++i) {
      if (!(*store)->Apply({PutCursor{"h1", "i1", i}}, kNow).ok()) _exit(1);
      if (write(pipe_fds[1], &i, sizeof(i)) != sizeof(i)) _exit(1);
    }
    _exit(1);
  }
  uint64_t told = 0;
  while (told < 20) ASSERT_EQ(read(pipe_fds[0], &told, sizeof(told)), static_cast<ssize_t>(sizeof(told)));
  kill(child, SIGKILL);
  close(pipe_fds[1]);
  int wait_status = 0;
  waitpid(child, &wait_status, 0);
  while (read(pipe_fds[0], &told, sizeof(told)) == static_cast<ssize_t>(sizeof(told))) {
  }
  close(pipe_fds[0]);
  Reopen();
  const Restored restored = Load();
  ASSERT_EQ(restored.cursors.size(), 1u);
  EXPECT_GE(restored.cursors[0].cursor.sequence, told);
}

TEST_F(StoreTest, CursorsOfAForgottenAgentAreGone) {
  ASSERT_TRUE(store_
                  ->Apply({PutCursor{"h1", "i1", 1}, PutCursor{"h1", "i2", 1}, PutCursor{"h1", "i3", 1},
                           PutCursor{"h2", "i1", 1}},
                          kNow)
                  .ok());
  ASSERT_TRUE(store_->Apply({DeleteCursors{"h1", "i2"}}, kNow).ok());
  EXPECT_EQ(Load().cursors.size(), 3u);
  ASSERT_TRUE(store_->Apply({DeleteCursors{"h1", ""}}, kNow).ok());
  ASSERT_EQ(Load().cursors.size(), 1u);
  EXPECT_EQ(Load().cursors[0].cursor.agent, "h2");
}

// Tidies up to the end; every step is small.
struct Swept {
  int64_t steps = 0;
  int64_t rows = 0;
  std::vector<std::string> runs;
};
Swept Sweep(Store* store, const Retention& keep, absl::Time now) {
  Swept swept;
  while (true) {
    const auto tidied = store->Tidy(keep, now);
    EXPECT_TRUE(tidied.ok()) << tidied.status();
    if (!tidied.ok()) return swept;
    EXPECT_LE(tidied->rows, keep.rows_at_once);
    ++swept.steps;
    swept.rows += tidied->rows;
    if (!tidied->run_id.empty()) swept.runs.push_back(tidied->run_id + " " + tidied->why);
    if (!tidied->more) return swept;
  }
}
int64_t CountRows(const Store& store, const std::string& table) {
  auto database = Database::Open(store.path(), Database::Mode::kReadOnly);
  EXPECT_TRUE(database.ok());
  return *database->Integer(("SELECT COUNT(*) FROM " + table).c_str());
}

TEST_F(StoreTest, SamplesGoWhenTheirRunIsFinishedAndItsSecondsStay) {
  std::vector<Action> batch{PutRun{MakeRun("a-1", v1::RUN_STATE_RUNNING), ""},
                            PutRun{MakeRun("b-1", v1::RUN_STATE_FINISHED), ""}};
  for (uint32_t second = 0; second < 200; ++second) {
    batch.push_back(MakeSample("a-1", "h1", second, 1));
    batch.push_back(MakeSample("b-1", "h1", second, 1));
    batch.push_back(MakeSnapshot("b-1", second, 1));
  }
  ASSERT_TRUE(store_->Apply(batch, kNow).ok());
  const Swept swept = Sweep(store_.get(), {}, kNow);
  EXPECT_EQ(swept.rows, 200);
  EXPECT_GE(swept.steps, 4) << "at most 64 rows at once";
  EXPECT_EQ(CountRows(*store_, "samples"), 200) << "a run that is not finished needs them after a restart";
  EXPECT_EQ(CountRows(*store_, "snapshots"), 200);
  EXPECT_EQ(Load().samples.size(), 200u);
}

TEST_F(StoreTest, OldRunsGoFirstAndUnfinishedOnesNever) {
  std::vector<Action> batch{PutRun{MakeRun("ancient-unfinished", v1::RUN_STATE_RUNNING, 1), ""}};
  const int64_t now_s = absl::ToUnixSeconds(kNow);
  for (int i = 0; i < 5; ++i) {
    const std::string id = "run-" + std::to_string(i);
    batch.push_back(PutRun{MakeRun(id, v1::RUN_STATE_FINISHED, now_s - 1000 + i), ""});
    for (uint32_t second = 0; second < 100; ++second) batch.push_back(MakeSnapshot(id, second, 1));
  }
  batch.push_back(PutRun{MakeRun("old", v1::RUN_STATE_FINISHED, now_s - 11 * 86'400), ""});
  ASSERT_TRUE(store_->Apply(batch, kNow).ok());
  Retention keep;
  keep.runs = 3;
  keep.age = absl::Hours(240);
  auto reader = OpenReader();
  const auto first = store_->Tidy(keep, kNow);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->run_id, "old");
  EXPECT_EQ(first->why, "age");
  const Swept swept = Sweep(store_.get(), keep, kNow);
  EXPECT_THAT(swept.runs, ::testing::ElementsAre("run-0 count", "run-1 count"));
  EXPECT_EQ(CountRows(*store_, "snapshots"), 300);
  EXPECT_EQ(CountRows(*store_, "runs"), 4);
  EXPECT_EQ(reader->FindRun("run-0").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(reader->FindRun("run-0").status().message()), ::testing::HasSubstr("--keep-runs"));
  EXPECT_EQ(Sweep(store_.get(), keep, kNow).rows, 0) << "nothing is left to do";
}

TEST_F(StoreTest, RequestIdsGoAfterADay) {
  ASSERT_TRUE(store_->Apply({PutRun{MakeRun("a-1", v1::RUN_STATE_FINISHED), "request-1"}}, kNow).ok());
  EXPECT_EQ(Sweep(store_.get(), {}, kNow + absl::Hours(23)).rows, 0);
  EXPECT_EQ(Sweep(store_.get(), {}, kNow + absl::Hours(25)).rows, 1);
  EXPECT_EQ(CountRows(*store_, "request_ids"), 0);
}

TEST_F(StoreTest, AFileOfTheFirstVersionIsBroughtUp) {
  ASSERT_TRUE(store_->Apply({PutRun{MakeRun("a-1", v1::RUN_STATE_RUNNING), ""}, MakeSnapshot("a-1", 0, 1)}, kNow).ok());
  const std::string path = store_->path();
  store_.reset();
  {
    auto database = Database::Open(path, Database::Mode::kReadWrite);
    ASSERT_TRUE(database.ok());
    const absl::Status status = database->Execute(
        "DROP INDEX snapshots_by_change; ALTER TABLE snapshots DROP COLUMN change; PRAGMA user_version=1");
    ASSERT_TRUE(status.ok()) << status;
  }
  Reopen();
  ASSERT_TRUE(store_->Apply({MakeSnapshot("a-1", 1, 1)}, kNow).ok());
  auto reader = OpenReader();
  EXPECT_EQ(*reader->LastSecond("a-1"), 1);
  EXPECT_EQ(*reader->LastChange("a-1"), 1);
}

TEST_F(StoreTest, RunsAreListedNewestFirstPageByPage) {
  std::vector<Action> batch;
  batch.reserve(25);
  for (int i = 0; i < 25; ++i) {
    batch.push_back(PutRun{MakeRun("run-" + std::to_string(i), v1::RUN_STATE_FINISHED, 1000 + i / 2), ""});
  }
  ASSERT_TRUE(store_->Apply(batch, kNow).ok());
  auto reader = OpenReader();
  std::vector<std::string> ids;
  std::string token;
  do {
    const auto page = reader->ListRuns(10, token);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const auto& run : page->runs()) ids.push_back(run.run_id());
    token = page->next_page_token();
  } while (!token.empty());
  EXPECT_EQ(ids.size(), 25u);
  EXPECT_EQ(ids.front(), "run-24");
  EXPECT_EQ(ids.back(), "run-0");
  EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()).size(), 25u);
  EXPECT_EQ(reader->ListRuns(10, "nonsense").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(StoreTest, AMissingRunIsNotFound) {
  auto reader = OpenReader();
  EXPECT_EQ(reader->FindRun("none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(reader->FindHead("none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(*reader->LastSecond("none"), -1);
}

TEST(RunRow, TheMarkChangesWithWhatSubscribersAreToldAndNotWithTheSecond) {
  v1::Run run = MakeRun("a-1", v1::RUN_STATE_RUNNING);
  const std::string before = MarkOf(run);
  run.set_recorded_s(7);
  run.set_peak_connections(100);
  EXPECT_EQ(MarkOf(run), before);
  run.add_events();
  EXPECT_NE(MarkOf(run), before);
}

}  // namespace
}  // namespace loadstar::server
