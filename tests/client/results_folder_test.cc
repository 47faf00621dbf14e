#include "client/results_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/client/program_process.h"

namespace loadstar::client {
namespace {

using ::testing::ElementsAre;

v1::ExportRunResponse Piece(const std::string& name, const std::string& content) {
  v1::ExportRunResponse piece;
  piece.set_file_name(name);
  piece.set_content(content);
  return piece;
}

TEST(ResultsFolder, JoinsPiecesAndCreatesFoldersAbove) {
  const TemporaryFolder folder;
  auto results = ResultsFolder::Create(folder.path() + "/a/b");
  ASSERT_TRUE(results.ok());
  ASSERT_TRUE((*results)->Take(Piece("latency.csv", "one,")).ok());
  ASSERT_TRUE((*results)->Take(Piece("latency.csv", "two")).ok());
  ASSERT_TRUE((*results)->Take(Piece("run.json", "{}")).ok());
  ASSERT_TRUE((*results)->Finish().ok());
  EXPECT_THAT((*results)->files(), ElementsAre("latency.csv", "run.json"));
  EXPECT_EQ(folder.Read("a/b/latency.csv"), "one,two");
  EXPECT_EQ(folder.Read("a/b/run.json"), "{}");
}

TEST(ResultsFolder, ABrokenExportLeavesWhatWasThereBefore) {
  const TemporaryFolder folder;
  folder.Write("old/run.json", "whole");
  for (const char* name : {"/old", "/new/results"}) {
    auto results = ResultsFolder::Create(folder.path() + name);
    ASSERT_TRUE(results.ok());
    ASSERT_TRUE((*results)->Take(Piece("run.json", "{}")).ok());
    ASSERT_TRUE((*results)->Take(Piece("latency.csv", "one,")).ok());
  }
  EXPECT_EQ(folder.Read("old/run.json"), "whole");
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/old/run.json.part"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/old/latency.csv.part"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/new"));
}

TEST(ResultsFolder, AFileThatComesTwiceIsRefused) {
  const TemporaryFolder folder;
  auto results = ResultsFolder::Create(folder.path());
  ASSERT_TRUE((*results)->Take(Piece("run.json", "{}")).ok());
  ASSERT_TRUE((*results)->Take(Piece("latency.csv", "")).ok());
  EXPECT_EQ((*results)->Take(Piece("run.json", "{}")).code(), absl::StatusCode::kDataLoss);
}

TEST(ResultsFolder, TheCoordinatorDoesNotChooseWhereFilesGo) {
  const TemporaryFolder folder;
  for (const std::string name : {"../escaped", "/tmp/escaped", "", ".", "..", ".hidden", "a/b", "a\nb"}) {
    auto results = ResultsFolder::Create(folder.path() + "/results");
    ASSERT_TRUE(results.ok());
    EXPECT_EQ((*results)->Take(Piece(name, "x")).code(), absl::StatusCode::kDataLoss) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path() + "/escaped"));
}

TEST(ResultsFolder, AFolderThatCannotBeMadeIsNamed) {
  const TemporaryFolder folder;
  folder.Write("file", "x");
  const auto results = ResultsFolder::Create(folder.path() + "/file/results");
  ASSERT_FALSE(results.ok());
  EXPECT_NE(results.status().message().find(folder.path() + "/file/results"), std::string::npos);
}

TEST(ResultsFolder, AFileOfAnEarlierExportIsReplaced) {
  const TemporaryFolder folder;
  folder.Write("run.json", "an old and longer text");
  folder.Write("notes.txt", "mine");
  auto results = ResultsFolder::Create(folder.path());
  ASSERT_TRUE((*results)->Take(Piece("run.json", "new")).ok());
  ASSERT_TRUE((*results)->Finish().ok());
  EXPECT_EQ(folder.Read("run.json"), "new");
  EXPECT_EQ(folder.Read("notes.txt"), "mine");
}

}  // namespace
}  // namespace loadstar::client
