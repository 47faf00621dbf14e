#include "agent/host/host_counters.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace loadstar::agent {
namespace {

uint64_t TickNs() { return 1'000'000'000 / static_cast<uint64_t>(sysconf(_SC_CLK_TCK)); }

class HostCountersTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "loadstar-counters-XXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void Put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + "/" + path).parent_path());
    std::ofstream(root_ + "/" + path) << text;
  }
  HostCounters Read() const { return ReadHostCounters(os::Proc(root_)); }

  std::string root_;
};

TEST_F(HostCountersTest, WhatHappenedBetweenTwoReadingsIsToldAndGaugesAreTheLatter) {
  Put("stat",
      "cpu  0 0 0 0 0 0 0 0 0 0\n"
      "cpu0 100 10 50 1000 5 1 20 3 7 0\n"
      "cpu1 100 10 50 1000 5 1 20 3 0 0\n"
      "intr 5\n");
  Put("net/netstat",
      "TcpExt: ListenOverflows ListenDrops TCPTimeouts TCPAbortOnMemory TCPReqQFullDoCookies TCPReqQFullDrop\n"
      "TcpExt: 10 11 12 13 1 2\n"
      "IpExt: InNoRoutes\nIpExt: 0\n");
  Put("net/snmp", "Ip: Forwarding\nIp: 1\nTcp: MaxConn OutSegs RetransSegs\nTcp: -1 1000 5\n");
  Put("net/sockstat", "sockets: used 1\nTCP: inuse 5 orphan 0 tw 12 alloc 9 mem 2\n");
  Put("net/stat/nf_conntrack",
      "entries  chainlength drop early_drop\n00000010 00000001 0000000a 00000005\n"
      "00000010 00000000 0000000b 00000005\n");
  Put("sys/net/netfilter/nf_conntrack_count", "16\n");
  Put("sys/net/netfilter/nf_conntrack_max", "100\n");
  Put("meminfo", "MemTotal: 100 kB\nMemFree: 20 kB\nBuffers: 10 kB\nCached: 30 kB\nShmem: 10 kB\nSlab: 7 kB\n");
  const HostCounters before = Read();
  EXPECT_EQ(before.conntrack_drops, 1u + 10u + 11u) << "of all cores, without what was only evicted";

  Put("stat",
      "cpu0 140 10 70 1010 5 3 40 11 9 0\n"
      "cpu1 100 10 50 1099 6 1 20 3 0 0\n"
      "cpu2 9 9 9 9 9 9 9 9 9 9\n");
  Put("net/netstat",
      "TcpExt: ListenOverflows ListenDrops TCPTimeouts TCPAbortOnMemory TCPReqQFullDoCookies TCPReqQFullDrop\n"
      "TcpExt: 15 17 12 14 2 3\n");
  Put("net/snmp", "Tcp: MaxConn OutSegs RetransSegs\nTcp: -1 1900 8\n");
  Put("net/sockstat", "TCP: inuse 5 orphan 0 tw 40 alloc 9 mem 3\n");
  Put("net/stat/nf_conntrack",
      "entries  chainlength drop early_drop\n00000010 00000001 0000001a 00000005\n"
      "00000010 00000000 0000000b 00000005\n");
  Put("meminfo", "MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 10 kB\nCached: 30 kB\nShmem: 10 kB\nSlab: 9 kB\n");
  const v1::HostFigures figures = FiguresBetween(before, Read(), 1);
  EXPECT_EQ(figures.seconds(), 1u);
  EXPECT_EQ(figures.cores(), 2u) << "the third has just come online";
  EXPECT_EQ(figures.cpu_ns(), 200 * TickNs());
  EXPECT_EQ(figures.cpu_busy_ns(), 90 * TickNs()) << "guests are in user's time already";
  EXPECT_EQ(figures.cpu_softirq_ns(), 22 * TickNs());
  EXPECT_EQ(figures.cpu_steal_ns(), 8 * TickNs());
  EXPECT_DOUBLE_EQ(figures.busiest_core_ratio(), 0.9);
  EXPECT_EQ(figures.listen_overflows(), 5u);
  EXPECT_EQ(figures.listen_drops(), 6u);
  EXPECT_EQ(figures.syn_queue_full(), 2u);
  EXPECT_TRUE(figures.has_tcp_timeouts());
  EXPECT_EQ(figures.tcp_timeouts(), 0u);
  EXPECT_EQ(figures.tcp_memory_aborts(), 1u);
  EXPECT_EQ(figures.segments_sent(), 900u);
  EXPECT_EQ(figures.segments_retransmitted(), 3u);
  EXPECT_EQ(figures.conntrack_drops(), 16u);
  EXPECT_EQ(figures.sockets_time_wait(), 40u);
  EXPECT_EQ(figures.conntrack_count(), 16u);
  EXPECT_EQ(figures.conntrack_max(), 100u);
  EXPECT_EQ(figures.memory_unused_bytes(), 40u * 1024);
  EXPECT_EQ(figures.slab_bytes(), 9u * 1024);
  EXPECT_EQ(figures.tcp_memory_bytes(), 3u * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
}

TEST_F(HostCountersTest, WhatTheKernelDoesNotSayIsAbsent) {
  const v1::HostFigures none = FiguresBetween(Read(), Read(), 1);
  v1::HostFigures expected;
  expected.set_seconds(1);
  EXPECT_EQ(none.SerializeAsString(), expected.SerializeAsString());

  // Nonsense is as nothing.
  Put("stat", "cpu0 1 2 x 4\n");
  Put("net/netstat", "TcpExt: A B\nTcpExt: 1\n");
  Put("net/snmp", "Tcp: OutSegs\n");
  Put("net/sockstat", "TCP: tw\n");
  Put("net/stat/nf_conntrack", "drop\nzz\n");
  Put("sys/net/netfilter/nf_conntrack_max", "many\n");
  Put("meminfo", "MemAvailable\n");
  EXPECT_EQ(FiguresBetween(Read(), Read(), 1).SerializeAsString(), expected.SerializeAsString());
}

TEST_F(HostCountersTest, CounterThatWentBackOrWasNotThereBeforeIsAbsent) {
  HostCounters before;
  HostCounters after;
  before.listen_drops = 5;
  after.listen_drops = 4;
  after.tcp_timeouts = 9;
  before.segments_sent = 9;
  const v1::HostFigures figures = FiguresBetween(before, after, 1);
  EXPECT_FALSE(figures.has_listen_drops());
  EXPECT_FALSE(figures.has_tcp_timeouts());
  EXPECT_FALSE(figures.has_segments_sent());
}

TEST_F(HostCountersTest, IdleTimeThatGoesBackIsNoTime) {
  HostCounters before;
  before.cores = {{0, {.user = 10, .idle = 100}}};
  HostCounters after;
  after.cores = {{0, {.user = 60, .idle = 99}}};
  const v1::HostFigures figures = FiguresBetween(before, after, 1);
  EXPECT_EQ(figures.cpu_ns(), 50 * TickNs());
  EXPECT_DOUBLE_EQ(figures.busiest_core_ratio(), 1.0);
  EXPECT_FALSE(FiguresBetween(after, after, 1).has_cpu_ns()) << "no time has passed";
}

TEST(HostCounters, ThisHostCountsItsCores) {
  const HostCounters read = ReadHostCounters(os::Proc());
  ASSERT_TRUE(read.cores.has_value());
  EXPECT_GE(read.cores->size(), 1u);
  EXPECT_TRUE(read.segments_sent.has_value());
  EXPECT_TRUE(read.listen_overflows.has_value());
  EXPECT_TRUE(read.memory_unused_bytes.has_value());
}

}  // namespace
}  // namespace loadstar::agent
