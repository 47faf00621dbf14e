#include "agent/tuner/sysctl_tree.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace loadstar::agent {
namespace {

class SysctlTreeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "sysctl-tree-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    std::filesystem::create_directories(root_ / "net/core");
    std::ofstream(root_ / "net/core/somaxconn") << "4096\n";
    std::ofstream(root_ / "outside") << "secret\n";
    tree_ = MakeProcSysctlTree(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::filesystem::path root_;
  std::unique_ptr<SysctlTree> tree_;
};

TEST_F(SysctlTreeTest, ReadsWithoutTheNewlineAndWritesWithIt) {
  EXPECT_EQ(*tree_->Read("net.core.somaxconn"), "4096");
  EXPECT_TRUE(tree_->Writable("net.core.somaxconn"));
  ASSERT_TRUE(tree_->Write("net.core.somaxconn", "8192").ok());
  std::string line;
  std::getline(std::ifstream(root_ / "net/core/somaxconn"), line);
  EXPECT_EQ(line, "8192");
}

TEST_F(SysctlTreeTest, MissingKeysAndFoldersAreTold) {
  EXPECT_EQ(tree_->Read("net.core.nothing").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(tree_->Read("net.core").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(tree_->Read("../x").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(tree_->Writable("net.core.nothing"));
}

TEST_F(SysctlTreeTest, NoSymbolicLinkIsFollowed) {
  std::filesystem::create_symlink(root_ / "outside", root_ / "net/core/linked");
  std::filesystem::create_directory_symlink(root_ / "net/core", root_ / "net/also");
  for (const char* key : {"net.core.linked", "net.also.somaxconn"}) {
    EXPECT_FALSE(tree_->Read(key).ok()) << key;
    EXPECT_FALSE(tree_->Write(key, "1").ok()) << key;
  }
  std::string line;
  std::getline(std::ifstream(root_ / "outside"), line);
  EXPECT_EQ(line, "secret");
}

TEST(ProcSysctlTreeTest, ReadsThisKernelsSettings) {
  const std::unique_ptr<SysctlTree> tree = MakeProcSysctlTree();
  const absl::StatusOr<std::string> value = tree->Read("net.core.somaxconn");
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_GT(std::stoul(*value), 0U);
  EXPECT_EQ(tree->Read("net.core.no_such_key").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace loadstar::agent
