#include "agent/tuner/persist.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "lib/os/files.h"

namespace loadstar::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class PersistTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "persist-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = std::filesystem::path(root_) / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::vector<std::string> Rivals() {
    std::vector<std::string> lines;
    for (const Rival& rival : FindRivals(root_, "mine", kValues)) {
      lines.push_back(absl::StrCat(rival.file, ":", rival.line, " ", rival.key, "=", rival.value));
    }
    return lines;
  }

  const PersistentValues kValues = {{"net.core.somaxconn", "4096"},
                                    {"net.ipv4.tcp_rmem", "4096\t131072\t268435456"},
                                    {"net.ipv4.conf.all.rp_filter", "1"}};
  std::string root_;
};

TEST_F(PersistTest, AProfilesFileIsWrittenReplacedAndRemoved) {
  const std::string path = root_ + "/etc/sysctl.d/90-loadstar-mine.conf";
  ASSERT_TRUE(Persist(root_, "mine", {{"net.core.somaxconn", "1"}}).ok());
  ASSERT_TRUE(Persist(root_, "mine", kValues).ok());
  EXPECT_EQ(*os::ReadFile(path),
            "# Written by loadstar-agent for the tuning profile mine; \"loadstar tune rollback mine\" removes it.\n"
            "net.core.somaxconn = 4096\n"
            "net.ipv4.tcp_rmem = 4096\t131072\t268435456\n"
            "net.ipv4.conf.all.rp_filter = 1\n");
  EXPECT_THAT(Rivals(), IsEmpty());
  ASSERT_TRUE(Unpersist(root_, "mine").ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_TRUE(Unpersist(root_, "mine").ok());
}

TEST_F(PersistTest, WhatAnInterruptedWriteLeftIsTakenAway) {
  const std::string stray = root_ + "/etc/sysctl.d/90-loadstar-mine.conf.tmp";
  Write("etc/sysctl.d/90-loadstar-mine.conf.tmp", "net.core.som");
  TidyPersisted(root_);
  EXPECT_TRUE(std::filesystem::exists(stray)) << "it may be somebody's who is writing it";
  std::filesystem::last_write_time(stray, std::filesystem::file_time_type::clock::now() - std::chrono::minutes(2));
  Write("etc/sysctl.d/90-loadstar-mine.conf", "net.core.somaxconn = 1\n");
  Write("etc/sysctl.d/99-site.conf.tmp", "x");
  TidyPersisted(root_);
  EXPECT_FALSE(std::filesystem::exists(stray));
  EXPECT_TRUE(std::filesystem::exists(root_ + "/etc/sysctl.d/90-loadstar-mine.conf"));
  EXPECT_TRUE(std::filesystem::exists(root_ + "/etc/sysctl.d/99-site.conf.tmp")) << "not ours";
  TidyPersisted(root_ + "/nowhere");
}

TEST_F(PersistTest, WhoIsReadLaterAndSaysOtherwiseIsARival) {
  Write("etc/sysctl.d/99-admin.conf",
        "# net.core.somaxconn = 1\n; net.core.somaxconn = 1\n\n  net.core.somaxconn=128  \nnet.core.other = 5\n");
  Write("usr/lib/sysctl.d/95-vendor.conf", "-net/core/somaxconn = 256\n");
  Write("etc/sysctl.d/10-early.conf", "net.core.somaxconn = 1\n");
  Write("etc/sysctl.d/99-same.conf", "net.core.somaxconn = 4096\nnet.ipv4.tcp_rmem = 4096 131072 268435456\n");
  Write("etc/sysctl.d/99-readme.txt", "net.core.somaxconn = 2\n");
  EXPECT_THAT(Rivals(), ElementsAre("/usr/lib/sysctl.d/95-vendor.conf:1 net.core.somaxconn=256",
                                    "/etc/sysctl.d/99-admin.conf:4 net.core.somaxconn=128"));
}

TEST_F(PersistTest, AFileInEtcHidesItsNamesakes) {
  Write("usr/lib/sysctl.d/95-vendor.conf", "net.core.somaxconn = 256\n");
  Write("run/sysctl.d/95-vendor.conf", "net.core.somaxconn = 512\n");
  EXPECT_THAT(Rivals(), ElementsAre("/run/sysctl.d/95-vendor.conf:1 net.core.somaxconn=512"));
  Write("etc/sysctl.d/95-vendor.conf", "");
  EXPECT_THAT(Rivals(), IsEmpty());
}

TEST_F(PersistTest, PatternsCountForWhatTheyMatch) {
  Write("etc/sysctl.d/99-a.conf", "net.ipv4.conf.*.rp_filter = 2\nnet.ipv4.*.rp_filter = 0\n");
  EXPECT_THAT(Rivals(), ElementsAre("/etc/sysctl.d/99-a.conf:1 net.ipv4.conf.all.rp_filter=2"));
}

}  // namespace
}  // namespace loadstar::agent
