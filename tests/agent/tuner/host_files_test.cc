#include "agent/tuner/host_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace loadstar::agent {
namespace {

namespace fs = std::filesystem;

class HostFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "host-files-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    files_ = MakeHostFiles(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string root_;
  std::unique_ptr<HostFiles> files_;
};

TEST_F(HostFilesTest, AFileIsWrittenReplacedAndRemovedWithItsMode) {
  EXPECT_TRUE(absl::IsNotFound(files_->Read("/a").status()));
  ASSERT_TRUE(files_->Write("/a", {.text = "one", .access = {.mode = 0600}}).ok());
  absl::StatusOr<HostFile> read = files_->Read("/a");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->text, "one");
  EXPECT_EQ(read->access.mode, 0600u);
  EXPECT_EQ(read->access.user, geteuid());
  read->text = std::string("two\0\xFF", 5);
  ASSERT_TRUE(files_->Write("/a", *read).ok());
  EXPECT_EQ(files_->Read("/a")->text, read->text);
  EXPECT_EQ(files_->Read("/a")->access.mode, 0600u);
  std::ofstream(root_ + "/a.tmp") << "half";
  ASSERT_TRUE(files_->Remove("/a").ok());
  EXPECT_TRUE(fs::is_empty(root_));
  EXPECT_TRUE(files_->Remove("/a").ok());
}

TEST_F(HostFilesTest, LinksAndWhatIsNoFileAreRefusedAndLeft) {
  std::ofstream(root_ + "/target") << "theirs";
  fs::create_symlink("target", root_ + "/link");
  fs::create_symlink("nowhere", root_ + "/dangling");
  fs::create_directory(root_ + "/folder");
  for (const char* path : {"/link", "/dangling", "/folder"}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(files_->Read(path).status())) << path;
    EXPECT_TRUE(absl::IsFailedPrecondition(files_->Write(path, {.text = "x", .access = {}}))) << path;
    EXPECT_TRUE(absl::IsFailedPrecondition(files_->Remove(path))) << path;
  }
  EXPECT_EQ(files_->Read("/target")->text, "theirs");
  EXPECT_TRUE(fs::is_symlink(root_ + "/link"));
  EXPECT_TRUE(fs::is_symlink(root_ + "/dangling"));
}

TEST_F(HostFilesTest, AFileThatIsTooLargeIsNotRead) {
  std::ofstream(root_ + "/large") << std::string((size_t{1} << 20) + 1, ' ');
  EXPECT_TRUE(absl::IsResourceExhausted(files_->Read("/large").status()));
}

TEST_F(HostFilesTest, FoldersAreMadeOnceAndRemovedWhenEmpty) {
  ASSERT_TRUE(files_->MakeFolder("/f").ok());
  ASSERT_TRUE(files_->MakeFolder("/f").ok());
  ASSERT_TRUE(files_->Write("/f/a", {.text = "", .access = {}}).ok());
  EXPECT_TRUE(files_->RemoveFolder("/f").ok());
  EXPECT_TRUE(files_->Exists("/f/a"));
  ASSERT_TRUE(files_->Remove("/f/a").ok());
  EXPECT_TRUE(files_->RemoveFolder("/f").ok());
  EXPECT_FALSE(files_->Exists("/f"));
  EXPECT_TRUE(files_->RemoveFolder("/f").ok());
  EXPECT_FALSE(files_->MakeFolder("/no/such").ok());
}

}  // namespace
}  // namespace loadstar::agent
