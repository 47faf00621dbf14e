#include "agent/tuner/other_tuners.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace loadstar::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(TunedProfileTest, SysctlsAreThoseOfItsPlugInWhateverTheInstanceIsCalled) {
  const TunedProfile profile = ReadTunedProfile(
      "# a comment\n"
      "[main]\n"
      "summary=key=value in a sentence\n"
      "include=throughput-performance, base\n"
      "[sysctl]\n"
      "net.core.somaxconn=>2048\n"
      "net/ipv4/tcp_fin_timeout = 30\n"
      "net/ipv4/conf/eth0.100/rp_filter=1\n"
      "not a setting\n"
      "[mine]\n"
      "type=sysctl\n"
      "vm.swappiness=10\n"
      "[disk]\n"
      "readahead.kb=4096\n");
  EXPECT_THAT(profile.includes, ElementsAre("throughput-performance", "base"));
  EXPECT_THAT(profile.keys, ElementsAre("net.core.somaxconn", "net.ipv4.tcp_fin_timeout", "vm.swappiness"));
}

class OtherTunersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "other-tuners-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    Write("/proc/812/stat", "812 (tuned) S 1 812 812 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 4 0 500 1 1 1\n");
    Write("/run/tuned/tuned.pid", "812");
    Write("/etc/tuned/active_profile", "mine\n");
    Write("/etc/tuned/mine/tuned.conf", "[main]\ninclude=base\n[sysctl]\nnet.core.somaxconn=2048\n");
    Write("/usr/lib/tuned/base/tuned.conf", "[main]\ninclude=mine ../../x\n[sysctl]\nfs.file-max=100\n");
    Write("/usr/lib/tuned/mine/tuned.conf", "[sysctl]\nvm.swappiness=1\n");
    Write("/x/tuned.conf", "[sysctl]\nvm.dirty_ratio=1\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::vector<OtherTuner> Find() const { return FindOtherTuners(root_, os::Proc(root_ + "/proc")); }

  std::string root_;
};

TEST_F(OtherTunersTest, TunedIsThereWhenItRunsWithWhatItsProfilesSet) {
  const std::vector<OtherTuner> found = Find();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].name, "tuned (process 812, profile mine)");
  EXPECT_THAT(found[0].keys, ElementsAre("fs.file-max", "net.core.somaxconn"))
      << "the first folder counts, what is included twice is read once, and a name is no path";
}

TEST_F(OtherTunersTest, AFileThatItLeftBehindIsNotTuned) {
  Write("/run/tuned/tuned.pid", "813");
  EXPECT_THAT(Find(), IsEmpty());
  Write("/proc/813/stat", "813 (nginx) S 1 813 813 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 4 0 500 1 1 1\n");
  EXPECT_THAT(Find(), IsEmpty());
  Write("/run/tuned/tuned.pid", "many");
  EXPECT_THAT(Find(), IsEmpty());
  std::filesystem::remove(root_ + "/run/tuned/tuned.pid");
  EXPECT_THAT(Find(), IsEmpty());
}

}  // namespace
}  // namespace loadstar::agent
