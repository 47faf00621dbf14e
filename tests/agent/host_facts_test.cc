#include "agent/host/host_facts.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/host/host_monitor.h"
#include "agent/inbox.h"
#include "lib/os/clock.h"
#include "lib/plan/capacity.h"

namespace loadstar::agent {
namespace {

// Recorded on Linux 6.18; lsm_file_cache left out, as a kernel without security modules does.
constexpr char kSlabinfo[] =
    "slabinfo - version: 2.1\n"
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> ...\n"
    "TCPv6                104    156   2496   13    8 : tunables    0    0    0 : slabdata     12     12      0\n"
    "TCP                   79    156   2368   13    8 : tunables    0    0    0 : slabdata     12     12      0\n"
    "eventpoll_epi        398    512    128   32    1 : tunables    0    0    0 : slabdata     16     16      0\n"
    "sock_inode_cache     195    285    832   19    4 : tunables    0    0    0 : slabdata     15     15      0\n"
    "filp                2174   2436    192   21    1 : tunables    0    0    0 : slabdata    116    116      0\n"
    "dentry            202919 203070    192   21    1 : tunables    0    0    0 : slabdata   9670   9670      0\n"
    "lsm_inode_cache   129588 130048     32  128    1 : tunables    0    0    0 : slabdata   1016   1016      0\n";
// Rounded up, each: 8 pages / 13 + 1 / 32 + 4 / 19 + 1 / 21 + 1 / 21 + 1 / 128.
constexpr uint64_t kSocket = 2521 + 128 + 863 + 196 + 196 + 32;
constexpr uint64_t kConnection = 2 * (kSocket + plan::kUserMemoryPerEnd) + kTrafficMemoryPerConnection;

class HostFactsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "loadstar-host-XXXXXX";
    root_ = mkdtemp(pattern.data());
    PutMemory(8'388'608);
    Put("sys/fs/nr_open", "1048576\n");
    Put("sys/fs/file-max", "9223372036854775807\n");
    Put("sys/fs/file-nr", "2048\t0\t9223372036854775807\n");
    Put("sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
    Put("sys/net/ipv4/tcp_mem", "100000\t200000\t400000\n");
    Put("sys/net/core/somaxconn", "4096\n");
    Put("sys/net/ipv4/ip_local_reserved_ports", "\n");
    Put("net/sockstat", "sockets: used 1\nTCP: inuse 5 orphan 0 tw 12 alloc 9 mem 2\n");
    Put("slabinfo", kSlabinfo);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void Put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + "/" + path).parent_path());
    std::ofstream(root_ + "/" + path) << text;
  }
  // MemAvailable has what open sockets hold, and is not to be gone by.
  void PutMemory(uint64_t unused_kb) {
    Put("meminfo", absl::StrCat("MemTotal: 16777216 kB\nMemFree: ", unused_kb - 1'000, " kB\nMemAvailable: ",
                                unused_kb + 900'000, " kB\nBuffers: 300 kB\nCached: 900 kB\nShmem: 200 kB\n"));
  }
  v1::HostFacts Read(uint64_t hard = 20'000) { return ReadHostFacts(os::Proc(root_), {.soft = 1024, .hard = hard}); }
  v1::Capacity Capacity() { return ComputeCapacity(Read(), ReadHostUse(os::Proc(root_))); }

  std::string root_;
};

TEST_F(HostFactsTest, ReadsTheKernelsFigures) {
  const v1::HostFacts host = Read();
  EXPECT_EQ(host.memory_bytes(), 16ull << 30);
  EXPECT_EQ(host.memory_available_bytes(), 8ull << 30);
  EXPECT_EQ(host.descriptors_per_process(), 20'000u);
  EXPECT_EQ(host.port_first(), 32'768u);
  EXPECT_EQ(host.port_last(), 60'999u);
  EXPECT_EQ(host.somaxconn(), 4'096u);
  EXPECT_EQ(host.time_wait(), 12u);
  EXPECT_EQ(host.tcp_memory_bytes(), 400'000u * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  EXPECT_FALSE(host.has_conntrack_max());
  EXPECT_GE(host.cores(), 1u);
  EXPECT_EQ(Read(5'000'000).descriptors_per_process(), 1'048'576u);
}

TEST_F(HostFactsTest, CapacityNamesTheLimitThatBinds) {
  EXPECT_EQ(Capacity().per_address_pair(), 14'116u);
  EXPECT_EQ(Capacity().per_address_pair_max(), 28'232u);
  EXPECT_EQ(Capacity().per_worker(), 20'000u - kWorkerReserve);
  EXPECT_EQ(Capacity().binding_limit(), "tcp memory");
  EXPECT_EQ(Capacity().connections(), (400'000u - 2) * 4096 / kTcpMemoryPerConnection);
  PutMemory(1'048'576);
  EXPECT_EQ(Capacity().binding_limit(), "memory");
  EXPECT_EQ(Capacity().connections(), (1ull << 30) / kConnection);
  Put("sys/net/netfilter/nf_conntrack_max", "65536\n");
  Put("sys/net/netfilter/nf_conntrack_count", "536\n");
  EXPECT_EQ(Capacity().binding_limit(), "conntrack");
  EXPECT_EQ(Capacity().connections(), 65'000u);
  Put("sys/fs/file-max", "100000\n");
  EXPECT_EQ(Capacity().binding_limit(), "descriptors");
  EXPECT_EQ(Capacity().connections(), (100'000u - 2'048u) / 2);
}

TEST_F(HostFactsTest, ConnectionTrackingThatTracksNothingIsNoLimit) {
  Put("sys/net/netfilter/nf_conntrack_max", "1000\n");
  Put("sys/net/netfilter/nf_conntrack_count", "0\n");
  EXPECT_EQ(Read().conntrack_max(), 1'000u);
  EXPECT_EQ(Capacity().binding_limit(), "tcp memory");
  Put("sys/net/netfilter/nf_conntrack_count", "1\n");
  EXPECT_EQ(Capacity().binding_limit(), "conntrack");
  EXPECT_EQ(Capacity().connections(), 999u);
}

TEST_F(HostFactsTest, EveryLimitIsToldWithWhatRaisesIt) {
  Put("sys/net/netfilter/nf_conntrack_max", "65536\n");
  Put("sys/net/netfilter/nf_conntrack_count", "536\n");
  Put("sys/fs/file-max", "100000\n");
  const v1::Capacity capacity = Capacity();
  ASSERT_EQ(capacity.limits_size(), 4);
  EXPECT_EQ(capacity.limits(0).name(), "descriptors");
  EXPECT_EQ(capacity.limits(0).connections(), capacity.connections());
  EXPECT_EQ(capacity.limits(0).remedy(),
            "raise fs.file-max, now 100000 with 2048 in use: loadstar tune apply connections-100k");
  EXPECT_EQ(capacity.limits(1).name(), "conntrack");
  EXPECT_EQ(capacity.limits(1).remedy(),
            "raise net.netfilter.nf_conntrack_max, now 65536 with 536 in use: loadstar tune apply connections-100k");
  EXPECT_EQ(capacity.limits(2).name(), "tcp memory");
  EXPECT_EQ(capacity.limits(2).remedy(), "raise the third number of net.ipv4.tcp_mem, now 400000 pages");
  EXPECT_EQ(capacity.limits(3).name(), "memory");
  EXPECT_EQ(capacity.limits(3).connections(), (8ull << 30) / kConnection);
}

TEST_F(HostFactsTest, MemoryCountsByTheKernelsOwnSlabFiguresOrNotAtAll) {
  EXPECT_EQ(Read().socket_memory_bytes(), kSocket);
  PutMemory(1'024);
  EXPECT_EQ(Capacity().binding_limit(), "memory");
  for (const char* text : {"", "slabinfo - version: 2.1\n", "slabinfo - version: 2.1\nfilp 1 1 192 21 1\n"}) {
    Put("slabinfo", text);
    EXPECT_FALSE(Read().has_socket_memory_bytes()) << text;
    EXPECT_EQ(Capacity().binding_limit(), "tcp memory") << text;
  }
}

TEST_F(HostFactsTest, WithIoUringTheReceivesThatAreWithTheKernelCount) {
  Put("slabinfo", std::string(kSlabinfo) +
                      "io_kiocb              16     16    256   16    1 : tunables    0    0    0 : slabdata\n"
                      "kmalloc-512          800    800    512    8    1 : tunables    0    0    0 : slabdata\n"
                      "kmalloc-96           840    840     96   42    1 : tunables    0    0    0 : slabdata\n");
  EXPECT_EQ(Read().socket_memory_bytes(), kSocket - 128 + 256 + 512 + 98);
  EXPECT_EQ(Capacity().kernel_bytes_per_end(), Read().socket_memory_bytes());
}

TEST_F(HostFactsTest, PortsAreCountedAsConnectTriesThem) {
  struct Case {
    const char* range;
    const char* reserved;
    uint64_t preferred;
    uint64_t all;
  };
  for (const Case& c : {Case{"32768\t60999", "", 14'116, 28'232}, Case{"10000 10000", "", 1, 1},
                        // An odd number of ports: the last one is never tried.
                        Case{"10000 10002", "", 1, 2}, Case{"10001 10004", "", 2, 4},
                        // Reserved ports of the preferred parity, of the other, in part outside of the range.
                        Case{"10000 10009", "10002", 4, 9}, Case{"10000 10009", "10003", 5, 9},
                        Case{"10000 10009", "9000-10003,10008-20000", 2, 4}, Case{"10000 10009", "1-65535", 0, 0},
                        Case{"10009 10000", "", 0, 0}}) {
    Put("sys/net/ipv4/ip_local_port_range", c.range);
    Put("sys/net/ipv4/ip_local_reserved_ports", absl::StrCat(c.reserved, "\n"));
    const v1::HostFacts host = Read();
    EXPECT_EQ(host.ports_reserved(), c.reserved);
    EXPECT_EQ(CountEphemeralPorts(host).preferred, c.preferred) << c.range << " without " << c.reserved;
    EXPECT_EQ(CountEphemeralPorts(host).all, c.all) << c.range << " without " << c.reserved;
  }
}

TEST_F(HostFactsTest, WhatCannotBeReadIsNoLimit) {
  std::filesystem::remove_all(root_ + "/sys");
  std::filesystem::remove_all(root_ + "/net");
  const v1::Capacity capacity = Capacity();
  EXPECT_EQ(capacity.binding_limit(), "memory");
  EXPECT_EQ(capacity.limits_size(), 1);
  EXPECT_EQ(capacity.per_address_pair(), 0u);
}

TEST_F(HostFactsTest, MonitorHandsOnEveryReadingWithItsCapacity) {
  Put("sys/net/ipv4/tcp_mem", "100000\t200000\t400000000\n");
  Inbox inbox(1'024);
  HostMonitor monitor(
      os::Proc(root_), {.soft = 1024, .hard = 20'000}, [&](Input input) { inbox.Push(std::move(input)); },
      std::chrono::milliseconds(10));
  EXPECT_EQ(monitor.first_capacity().binding_limit(), "memory");
  Put("sys/fs/file-max", "100000\n");
  const int64_t until = os::MonotonicNs() + 10'000'000'000;
  std::vector<Input> inputs;
  v1::Capacity capacity;
  while (capacity.binding_limit() != "descriptors" && os::MonotonicNs() < until && inbox.Take(until, &inputs)) {
    capacity = std::get<HostRead>(inputs.back()).capacity;
    EXPECT_EQ(std::get<HostRead>(inputs.back()).host.somaxconn(), 4'096u);
  }
  EXPECT_EQ(capacity.binding_limit(), "descriptors");
  EXPECT_EQ(capacity.connections(), (100'000u - 2'048u) / 2);
  inbox.Close();
}

TEST_F(HostFactsTest, SaysWhatTuningWouldMakeOfIt) {
  Put("sys/fs/file-max", "100000\n");
  Put("sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
  Put("sys/net/ipv4/ip_local_reserved_ports", "\n");
  Put("sys/net/ipv4/tcp_mem", "100000\t200000\t400000000\n");
  const v1::Capacity capacity = Capacity();
  EXPECT_EQ(capacity.binding_limit(), "descriptors");
  ASSERT_TRUE(capacity.has_tuned());
  EXPECT_GT(capacity.tuned().connections(), capacity.connections());
  EXPECT_EQ(capacity.per_address_pair(), 14'116u);
  EXPECT_EQ(capacity.tuned().per_address_pair(), 32'256u);
  EXPECT_NE(capacity.limits(0).remedy().find("loadstar tune apply connections-100k"), std::string::npos)
      << capacity.limits(0).remedy();

  Put("sys/fs/file-max", "4000000\n");
  Put("sys/net/ipv4/ip_local_port_range", "1024\t65535\n");
  EXPECT_FALSE(Capacity().has_tuned());
}

// The projection goes by figures of its own.
TEST(HostFacts, TuningIsProjectedByWhatTheProfileSays) {
  std::ifstream file(LOADSTAR_SOURCE_DIR "/deploy/tuning/connections-100k.yaml");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  for (const char* setting :
       {"  - key: fs.file-max\n    value: 2097152\n", "  - key: net.netfilter.nf_conntrack_max\n    value: 2097152\n",
        "  - key: net.ipv4.ip_local_port_range\n    value: 1024-65535\n"}) {
    EXPECT_NE(text.find(setting), std::string::npos) << setting;
  }
}

TEST(HostFacts, ThisHostHasACapacity) {
  const os::Proc proc;
  const v1::HostFacts host = ReadHostFacts(proc, *os::ReadDescriptorLimit());
  const v1::Capacity capacity = ComputeCapacity(host, ReadHostUse(proc));
  EXPECT_GT(capacity.connections(), 0u);
  EXPECT_NE(capacity.binding_limit(), "");
  EXPECT_GT(capacity.per_worker(), 0u);
  EXPECT_GT(capacity.per_address_pair(), 0u);
}

}  // namespace
}  // namespace loadstar::agent
