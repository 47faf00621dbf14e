#include "lib/os/proc.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "lib/os/limits.h"

namespace loadstar::os {
namespace {

TEST(ParseProcessStat, ReadsANameWithBlanksAndBrackets) {
  const auto stat = ParseProcessStat(
      "4711 (a) b (c) S 1 4700 4700 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1000 2 18446744073709551615");
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(stat->pid, 4711);
  EXPECT_EQ(stat->name, "a) b (c");
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->parent, 1);
  EXPECT_EQ(stat->group, 4700);
  EXPECT_EQ(stat->start_ticks, 123456u);
}

TEST(ParseProcessStat, RefusesWhatIsCutShort) {
  for (const char* text :
       {"", "1", "1 (a", "1 (a) ", "1 (a) S 1 2 3", ") (", "x (a) S 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 9"}) {
    EXPECT_FALSE(ParseProcessStat(text).has_value()) << text;
  }
}

TEST(ParseCpuStat, RefusesWhatIsCutShortOrNoNumber) {
  const auto cores = ParseCpuStat("cpu  9 9 9 9 9 9 9 9 9 9\ncpu3 1 2 3 4 5 6 7 8 9 10\nbtime 1\n");
  ASSERT_TRUE(cores.has_value());
  ASSERT_EQ(cores->size(), 1u);
  EXPECT_EQ(cores->at(3).user, 1u);
  EXPECT_EQ(cores->at(3).steal, 8u);
  for (const char* text : {"", "cpu  1 2 3 4 5 6 7 8\n", "cpu0 1 2 3 4 5 6 7\n", "cpu0 1 2 3 4 5 6 7 -8\n",
                           "cpux 1 2 3 4 5 6 7 8\n", "cpu0\n"}) {
    EXPECT_FALSE(ParseCpuStat(text).has_value()) << text;
  }
}

TEST(ParseNetCounters, PairsNamesWithValues) {
  const auto tcp = ParseNetCounters("Tcp: A MaxConn B\nTcp: 1 -1 3\nTcpExt: A\nTcpExt: 7\n", "Tcp");
  ASSERT_TRUE(tcp.has_value());
  EXPECT_EQ(*tcp, (std::map<std::string, uint64_t>{{"A", 1}, {"B", 3}}));
  EXPECT_EQ(ParseNetCounters("Tcp: A\nTcp: 1\nTcpExt: A\nTcpExt: 7\n", "TcpExt")->at("A"), 7u);
  for (const char* text :
       {"", "Tcp: A B\n", "Tcp: A B\nTcp: 1\n", "Tcp: A\nTcp: 1 2\n", "Tcp: A\nTcp: x\n", "Udp: A\nUdp: 1\n"}) {
    EXPECT_FALSE(ParseNetCounters(text, "Tcp").has_value()) << text;
  }
}

TEST(ParseConntrackStat, AddsTheCoresHexadecimalNumbers) {
  const auto sums = ParseConntrackStat("entries drop\n00000001 0000000f\n00000001 00000001\n");
  ASSERT_TRUE(sums.has_value());
  EXPECT_EQ(sums->at("drop"), 16u);
  for (const char* text : {"", "entries drop\n", "entries drop\n00000001\n", "entries drop\n1 zz\n"}) {
    EXPECT_FALSE(ParseConntrackStat(text).has_value()) << text;
  }
}

TEST(ParseNumbers, TakesListsAndRefusesWords) {
  EXPECT_EQ(ParseNumbers("32768\t60999\n"), (std::vector<uint64_t>{32768, 60999}));
  EXPECT_FALSE(ParseNumbers("12 many").has_value());
  EXPECT_FALSE(ParseNumbers(" \n").has_value());
  EXPECT_FALSE(ParseNumbers("-1").has_value());
}

TEST(ParseMeminfo, ConvertsToBytes) {
  const auto values = ParseMeminfo("MemTotal:       24576 kB\nHugePages_Total:       3\nbroken\n");
  EXPECT_EQ(values.at("MemTotal"), 24576u * 1024);
  EXPECT_EQ(values.at("HugePages_Total"), 3u);
}

TEST(ParseSockstat, FindsTheFieldOfTheProtocol) {
  const char* text = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 131 alloc 9 mem 2\nUDP: inuse 7 mem 1\n";
  EXPECT_EQ(ParseSockstat(text, "TCP", "tw"), 131u);
  EXPECT_EQ(ParseSockstat(text, "UDP", "inuse"), 7u);
  EXPECT_FALSE(ParseSockstat(text, "UDP", "tw").has_value());
}

TEST(ParsePortList, ReadsPortsAndRanges) {
  using Ranges = std::vector<std::pair<uint32_t, uint32_t>>;
  EXPECT_EQ(ParsePortList("8080,9148-9150\n"), (Ranges{{8080, 8080}, {9148, 9150}}));
  EXPECT_EQ(ParsePortList("\n"), Ranges());
  for (const char* text : {"8080,", "-1", "9150-9148", "65536", "http", "1 2", "1--2"}) {
    EXPECT_FALSE(ParsePortList(text).has_value()) << text;
  }
}

TEST(ParseSlabinfo, ReadsTheShapeOfEachCache) {
  // Recorded on Linux 6.18.
  const auto caches = ParseSlabinfo(
      "slabinfo - version: 2.1\n"
      "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> ...\n"
      "TCP                   79    156   2368   13    8 : tunables    0    0    0 : slabdata     12     12      0\n"
      "filp                2174   2436    192   21    1 : tunables    0    0    0 : slabdata    116    116      0\n"
      "broken              2174\n");
  ASSERT_TRUE(caches.has_value());
  ASSERT_EQ(caches->size(), 2u);
  EXPECT_EQ(caches->at("TCP").objects_per_slab, 13u);
  EXPECT_EQ(caches->at("TCP").pages_per_slab, 8u);
  EXPECT_FALSE(ParseSlabinfo("slabinfo - version: 3.0\nTCP 1 1 1 1 1\n").has_value());
  EXPECT_FALSE(ParseSlabinfo("").has_value());
}

TEST(Proc, ReadsBelowItsRoot) {
  std::string pattern = testing::TempDir() + "loadstar-proc-XXXXXX";
  const std::string root = mkdtemp(pattern.data());
  std::filesystem::create_directories(root + "/sys/net/core");
  std::ofstream(root + "/sys/net/core/somaxconn") << "4096\n";
  EXPECT_EQ(Proc(root).Sysctl("net.core.somaxconn")->front(), 4096u);
  EXPECT_EQ(Proc(root).Sysctl("net.core.none").status().code(), absl::StatusCode::kNotFound);
  std::filesystem::remove_all(root);
}

TEST(Proc, KnowsThisProcess) {
  const Proc proc;
  const auto stat = proc.Stat(getpid());
  ASSERT_TRUE(stat.ok()) << stat.status();
  EXPECT_EQ(stat->pid, getpid());
  EXPECT_EQ(stat->parent, getppid());
  EXPECT_TRUE(proc.EnvironmentOf(getpid(), "PATH").has_value());
  EXPECT_FALSE(proc.EnvironmentOf(getpid(), "PAT").has_value());
  EXPECT_EQ(proc.Stat(1 << 30).status().code(), absl::StatusCode::kNotFound);
}

TEST(DescriptorLimit, IsRaisedToTheHardLimit) {
  const auto limit = RaiseDescriptorLimit();
  ASSERT_TRUE(limit.ok()) << limit.status();
  EXPECT_EQ(limit->soft, limit->hard);
}

}  // namespace
}  // namespace loadstar::os
