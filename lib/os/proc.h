#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace loadstar::os {

// ---- Pure parsers of what /proc shows; each refuses what it does not understand with nullopt.

// The fields of /proc/PID/stat that matter here.
struct ProcessStat {
  pid_t pid = 0;
  std::string name;  // at most 15 bytes, as the kernel keeps it
  char state = '?';
  pid_t parent = 0;
  pid_t group = 0;
  uint64_t start_ticks = 0;  // since boot: with the pid, the identity of a process
};
std::optional<ProcessStat> ParseProcessStat(std::string_view text);

// Whitespace-separated unsigned numbers, as in net/ipv4/tcp_mem or fs/file-nr.
std::optional<std::vector<uint64_t>> ParseNumbers(std::string_view text);

// /proc/meminfo: key to bytes.
std::map<std::string, uint64_t> ParseMeminfo(std::string_view text);
// Of those: memory that is free or holds files alone, bytes. Not MemAvailable: that takes the inodes of open sockets
// for reclaimable, and so is no measure of what connections leave.
std::optional<uint64_t> UnusedMemory(const std::map<std::string, uint64_t>& meminfo);

// /proc/net/sockstat: the value of `field` in the line of `protocol` ("TCP", "tw").
std::optional<uint64_t> ParseSockstat(std::string_view text, std::string_view protocol, std::string_view field);

// "8080,9148-9150", as in net/ipv4/ip_local_reserved_ports: first and last of each range, in order. Empty for an empty
// list.
std::optional<std::vector<std::pair<uint32_t, uint32_t>>> ParsePortList(std::string_view text);

// One core's line of /proc/stat, in ticks of sysconf(_SC_CLK_TCK). Guests count in user and nice.
struct CoreTimes {
  uint64_t user = 0;
  uint64_t nice = 0;
  uint64_t system = 0;
  uint64_t idle = 0;
  uint64_t iowait = 0;
  uint64_t irq = 0;
  uint64_t softirq = 0;
  uint64_t steal = 0;
};
// By the core's number; cores that are offline are not in there. nullopt when there is no core or one is not
// understood.
std::optional<std::map<uint32_t, CoreTimes>> ParseCpuStat(std::string_view text);

// The counters of one group ("Tcp", "TcpExt") of /proc/net/snmp or /proc/net/netstat by name; negative values, which
// mean "no limit", are left out. nullopt when the group is not there or has not a value for each name.
std::optional<std::map<std::string, uint64_t>> ParseNetCounters(std::string_view text, std::string_view group);

// /proc/net/stat/nf_conntrack: a line of names and one of hexadecimal numbers for each core. The sums by name; nullopt
// when a line does not fit the names. (What "entries" says is the same in every line, so its sum means nothing.)
std::optional<std::map<std::string, uint64_t>> ParseConntrackStat(std::string_view text);

// A slab cache in /proc/slabinfo.
struct SlabCache {
  uint64_t objects_per_slab = 0;
  uint64_t pages_per_slab = 0;
};
// By name. Caches that the kernel merged stand under the name of the first of them. nullopt when it is not version 2.x.
std::optional<std::map<std::string, SlabCache>> ParseSlabinfo(std::string_view text);

// ---- Readers

// /proc under a root that tests choose. Stateless; any thread.
class Proc {
 public:
  explicit Proc(std::string root = "/proc") : root_(std::move(root)) {}

  // A file below the root.
  absl::StatusOr<std::string> Read(std::string_view path) const;
  // A sysctl by its dotted name ("net.core.somaxconn"): its numbers.
  absl::StatusOr<std::vector<uint64_t>> Sysctl(std::string_view name) const;
  // NOT_FOUND when there is no such process.
  absl::StatusOr<ProcessStat> Stat(pid_t pid) const;
  // Every process that can be seen.
  std::vector<pid_t> Pids() const;
  // The value of a variable in the environment with which the process was started; nullopt when it has none or may not
  // be read.
  std::optional<std::string> EnvironmentOf(pid_t pid, std::string_view variable) const;
  // Whether a descriptor of the process is this socket.
  bool HoldsSocket(pid_t pid, uint64_t inode) const;

 private:
  std::string root_;
};

}  // namespace loadstar::os
