#include "agent/tuner/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "agent/tuner/sysctl_tree.h"
#include "lib/os/fd.h"

namespace loadstar::agent {
namespace {

using ::testing::HasSubstr;
using Outcome = Probe::Outcome;

// In a network namespace of the test's own, whose settings it may change.
class ProbeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no network namespace can be made here";
    const os::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq loopback{};
    std::strncpy(loopback.ifr_name, "lo", sizeof(loopback.ifr_name) - 1);
    loopback.ifr_flags = IFF_UP;
    ASSERT_EQ(ioctl(fd.get(), SIOCSIFFLAGS, &loopback), 0);
  }
  void Set(const std::string& key, const std::string& value) {
    const absl::Status written = tree_->Write(key, value);
    ASSERT_TRUE(written.ok()) << written;
  }
  const std::unique_ptr<SysctlTree> tree_ = MakeProcSysctlTree();
};

TEST_F(ProbeTest, AListenersQueueIsAsLongAsItAsksForOrAsTheKernelAllows) {
  Set("net.core.somaxconn", "128");
  const Probe short_queue = TryOut("net.core.somaxconn", "4096");
  EXPECT_EQ(short_queue.outcome, Outcome::kFails);
  EXPECT_EQ(short_queue.what, "a listener that asks for a queue of 4096 is given one of 128");
  EXPECT_EQ(TryOut("net.core.somaxconn", "128").outcome, Outcome::kWorks);
  Set("net.core.somaxconn", "4096");
  EXPECT_EQ(TryOut("net.core.somaxconn", "4096").outcome, Outcome::kWorks);
}

TEST_F(ProbeTest, PortsComeFromTheWholeRange) {
  Set("net.ipv4.ip_local_port_range", "40000 60999");
  EXPECT_EQ(TryOut("net.ipv4.ip_local_port_range", "40000\t60999").outcome, Outcome::kWorks);
  const Probe narrow = TryOut("net.ipv4.ip_local_port_range", "1024\t65535");
  EXPECT_EQ(narrow.outcome, Outcome::kFails);
  EXPECT_THAT(narrow.what, HasSubstr("the kernel chose 256 ports from 4"));
  Set("net.ipv4.ip_local_port_range", "40000 40050");
  const Probe full = TryOut("net.ipv4.ip_local_port_range", "1024\t65535");
  EXPECT_EQ(full.outcome, Outcome::kFails);
  EXPECT_THAT(full.what, HasSubstr("sockets no port is left for another"));
  Set("net.ipv4.ip_local_port_range", "1024 65535");
  EXPECT_EQ(TryOut("net.ipv4.ip_local_port_range", "1024\t65535").outcome, Outcome::kWorks);
}

TEST_F(ProbeTest, AConnectionBeginsWithTheMiddleBuffer) {
  Set("net.ipv4.tcp_rmem", "4096 65536 6291456");
  EXPECT_EQ(TryOut("net.ipv4.tcp_rmem", "4096\t65536\t6291456").outcome, Outcome::kWorks);
  EXPECT_EQ(TryOut("net.ipv4.tcp_rmem", "4096\t131072\t6291456").outcome, Outcome::kFails);
  Set("net.ipv4.tcp_wmem", "4096 32768 4194304");
  EXPECT_EQ(TryOut("net.ipv4.tcp_wmem", "4096\t32768\t4194304").outcome, Outcome::kWorks);
}

TEST(ProbeOfHostTest, TheLargestBufferIsWhatTheKernelSays) {
  const std::unique_ptr<SysctlTree> tree = MakeProcSysctlTree();
  for (const char* key : {"net.core.rmem_max", "net.core.wmem_max"}) {
    const absl::StatusOr<std::string> value = tree->Read(key);
    ASSERT_TRUE(value.ok()) << value.status();
    EXPECT_EQ(TryOut(key, *value).outcome, Outcome::kWorks) << TryOut(key, *value).what;
    // As much as fits into what the kernel counts with.
    EXPECT_EQ(TryOut(key, "1000000000").outcome, Outcome::kFails) << TryOut(key, "1000000000").what;
  }
}

TEST(ProbeOfHostTest, WhatShowsOnlyUnderLoadIsNotTried) {
  EXPECT_EQ(TryOut("net.ipv4.tcp_max_tw_buckets", "262144").outcome, Outcome::kNotTried);
  EXPECT_EQ(TryOut("net.core.somaxconn", "many").outcome, Outcome::kNotTried);
  EXPECT_EQ(TryOut("net.ipv4.tcp_rmem", "4096").outcome, Outcome::kNotTried);
}

}  // namespace
}  // namespace loadstar::agent
