#include "lib/os/files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"

namespace loadstar::os {
namespace {

class Files : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "loadstar-files-XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(folder_).ok()); }
  std::string Path(const std::string& name) const { return absl::StrCat(folder_, "/", name); }
  void Write(const std::string& name, const std::string& text) const { std::ofstream(Path(name)) << text; }

  std::string folder_;
};

TEST_F(Files, AtomicWriteReplacesAndLeavesNoTemporaryFile) {
  ASSERT_TRUE(WriteFileAtomically(Path("a"), "one").ok());
  ASSERT_TRUE(WriteFileAtomically(Path("a"), "two").ok());
  EXPECT_EQ(*ReadFile(Path("a")), "two");
  EXPECT_FALSE(std::filesystem::exists(Path("a.tmp")));
}

TEST_F(Files, AtomicWriteThatFailsKeepsTheOldContent) {
  ASSERT_TRUE(WriteFileAtomically(Path("a"), "one").ok());
  ASSERT_TRUE(MakeFolders(Path("a.tmp")).ok());  // stands where the temporary file would be
  EXPECT_FALSE(WriteFileAtomically(Path("a"), "two").ok());
  EXPECT_EQ(*ReadFile(Path("a")), "one");
}

TEST_F(Files, AtomicWriteGivesAccessAsAsked) {
  ASSERT_TRUE(WriteFileAtomically(Path("a"), "one", FileAccess{.mode = 0600}).ok());
  EXPECT_EQ(std::filesystem::status(Path("a")).permissions(), std::filesystem::perms{0600});
  ASSERT_TRUE(WriteFileAtomically(Path("a"), "two", FileAccess{.mode = 0664}).ok());
  EXPECT_EQ(std::filesystem::status(Path("a")).permissions(), std::filesystem::perms{0664});
  EXPECT_EQ(*ReadFile(Path("a")), "two");
}

TEST_F(Files, ReadRefusesWhatIsTooLarge) {
  Write("big", std::string(2000, 'x'));
  EXPECT_EQ(ReadFile(Path("big"), 1999).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReadFile(Path("missing")).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(Files, LockedFolderIsRefusedAndNamesTheHolder) {
  absl::StatusOr<Fd> lock = LockFolder(Path("state"));
  ASSERT_TRUE(lock.ok()) << lock.status();
  const absl::StatusOr<Fd> second = LockFolder(Path("state"));
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(second.status().message().find(absl::StrCat("process ", getpid())), absl::string_view::npos);
  lock->Reset();
  EXPECT_TRUE(LockFolder(Path("state")).ok());
}

TEST_F(Files, RotationBoundsALogWhoseWriterGoesOn) {
  absl::StatusOr<Fd> log = OpenForAppend(Path("log"));
  ASSERT_TRUE(log.ok());
  for (char letter : {'a', 'b', 'c', 'd'}) {
    const std::string chunk(100, letter);
    ASSERT_EQ(write(log->get(), chunk.data(), chunk.size()), 100);
    ASSERT_TRUE(RotateByCopy(Path("log"), 60, 2).ok());
  }
  EXPECT_EQ(std::filesystem::file_size(Path("log")), 0u);
  EXPECT_EQ(*ReadFile(Path("log.1")), std::string(60, 'd'));
  EXPECT_EQ(*ReadFile(Path("log.2")), std::string(60, 'c'));
  EXPECT_FALSE(std::filesystem::exists(Path("log.3")));
}

TEST_F(Files, RotationLeavesASmallLogAlone) {
  Write("log", "short");
  ASSERT_TRUE(RotateByCopy(Path("log"), 60, 2).ok());
  EXPECT_EQ(*ReadFile(Path("log")), "short");
  EXPECT_TRUE(RotateByCopy(Path("none"), 60, 2).ok());
}

TEST_F(Files, TailGivesTheLastLines) {
  Write("log", "one\ntwo\nthree\n");
  EXPECT_EQ(TailOfFile(Path("log"), 2, 1000), "two\nthree");
  EXPECT_EQ(TailOfFile(Path("log"), 9, 1000), "one\ntwo\nthree");
  EXPECT_EQ(TailOfFile(Path("log"), 9, 7), "three");
  EXPECT_EQ(TailOfFile(Path("none"), 9, 7), "");
  Write("empty", "");
  EXPECT_EQ(TailOfFile(Path("empty"), 9, 7), "");
}

}  // namespace
}  // namespace loadstar::os
