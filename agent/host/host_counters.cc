#include "agent/host/host_counters.h"

#include <unistd.h>

#include <algorithm>
#include <string>

namespace loadstar::agent {
namespace {

using Counters = std::optional<std::map<std::string, uint64_t>>;

std::optional<uint64_t> Find(const Counters& counters, const char* name) {
  if (!counters) return std::nullopt;
  const auto found = counters->find(name);
  return found == counters->end() ? std::nullopt : std::optional(found->second);
}

// What is there of both, added.
std::optional<uint64_t> Sum(std::optional<uint64_t> a, std::optional<uint64_t> b) {
  return a && b ? std::optional(*a + *b) : (a ? a : b);
}

std::optional<uint64_t> First(const absl::StatusOr<std::vector<uint64_t>>& numbers) {
  return numbers.ok() && !numbers->empty() ? std::optional(numbers->front()) : std::nullopt;
}

std::optional<uint64_t> Grown(std::optional<uint64_t> before, std::optional<uint64_t> after) {
  return before && after && *after >= *before ? std::optional(*after - *before) : std::nullopt;
}

// The kernel's idle and iowait times go back now and then (proc(5)): that is no time at all.
uint64_t Passed(uint64_t before, uint64_t after) { return after > before ? after - before : 0; }

void SetCpu(const std::map<uint32_t, os::CoreTimes>& before, const std::map<uint32_t, os::CoreTimes>& after,
            v1::HostFigures* figures) {
  const uint64_t tick_ns = 1'000'000'000 / static_cast<uint64_t>(sysconf(_SC_CLK_TCK));
  uint64_t all = 0;
  uint64_t busy = 0;
  uint64_t softirq = 0;
  uint64_t steal = 0;
  uint32_t cores = 0;
  double busiest = 0;
  for (const auto& [core, now] : after) {
    const auto then = before.find(core);
    if (then == before.end()) continue;  // it has just come online
    const os::CoreTimes& was = then->second;
    const uint64_t core_softirq = Passed(was.irq, now.irq) + Passed(was.softirq, now.softirq);
    const uint64_t core_steal = Passed(was.steal, now.steal);
    const uint64_t core_busy = Passed(was.user, now.user) + Passed(was.nice, now.nice) +
                               Passed(was.system, now.system) + core_softirq + core_steal;
    const uint64_t core_all = core_busy + Passed(was.idle, now.idle) + Passed(was.iowait, now.iowait);
    ++cores;
    all += core_all;
    busy += core_busy;
    softirq += core_softirq;
    steal += core_steal;
    if (core_all > 0) busiest = std::max(busiest, static_cast<double>(core_busy) / static_cast<double>(core_all));
  }
  if (all == 0) return;
  figures->set_cores(cores);
  figures->set_cpu_ns(all * tick_ns);
  figures->set_cpu_busy_ns(busy * tick_ns);
  figures->set_cpu_softirq_ns(softirq * tick_ns);
  figures->set_cpu_steal_ns(steal * tick_ns);
  figures->set_busiest_core_ratio(busiest);
}

}  // namespace

HostCounters ReadHostCounters(const os::Proc& proc) {
  HostCounters read;
  if (const auto text = proc.Read("stat"); text.ok()) read.cores = os::ParseCpuStat(*text);
  if (const auto text = proc.Read("net/netstat"); text.ok()) {
    const Counters tcp = os::ParseNetCounters(*text, "TcpExt");
    read.listen_overflows = Find(tcp, "ListenOverflows");
    read.listen_drops = Find(tcp, "ListenDrops");
    read.syn_queue_full = Sum(Find(tcp, "TCPReqQFullDrop"), Find(tcp, "TCPReqQFullDoCookies"));
    read.tcp_timeouts = Find(tcp, "TCPTimeouts");
    read.tcp_memory_aborts = Find(tcp, "TCPAbortOnMemory");
  }
  if (const auto text = proc.Read("net/snmp"); text.ok()) {
    const Counters tcp = os::ParseNetCounters(*text, "Tcp");
    read.segments_sent = Find(tcp, "OutSegs");
    read.segments_retransmitted = Find(tcp, "RetransSegs");
  }
  if (const auto text = proc.Read("net/sockstat"); text.ok()) {
    read.sockets_time_wait = os::ParseSockstat(*text, "TCP", "tw");
    if (const auto pages = os::ParseSockstat(*text, "TCP", "mem")) {
      read.tcp_memory_bytes = *pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    }
  }
  if (const auto text = proc.Read("net/stat/nf_conntrack"); text.ok()) {
    // "drop": no entry could be made, the table being full among other reasons; the other: a hash chain was too long.
    const Counters conntrack = os::ParseConntrackStat(*text);
    read.conntrack_drops = Sum(Find(conntrack, "drop"), Find(conntrack, "chainlength"));
  }
  read.conntrack_count = First(proc.Sysctl("net.netfilter.nf_conntrack_count"));
  read.conntrack_max = First(proc.Sysctl("net.netfilter.nf_conntrack_max"));
  if (const auto text = proc.Read("meminfo"); text.ok()) {
    const std::map<std::string, uint64_t> memory = os::ParseMeminfo(*text);
    read.memory_unused_bytes = os::UnusedMemory(memory);
    read.slab_bytes = Find(memory, "Slab");
  }
  return read;
}

v1::HostFigures FiguresBetween(const HostCounters& before, const HostCounters& after, uint32_t seconds) {
  v1::HostFigures figures;
  figures.set_seconds(seconds);
  if (before.cores && after.cores) SetCpu(*before.cores, *after.cores, &figures);
  const auto set = [&](std::optional<uint64_t> value, void (v1::HostFigures::*setter)(uint64_t)) {
    if (value) (figures.*setter)(*value);
  };
  set(Grown(before.listen_overflows, after.listen_overflows), &v1::HostFigures::set_listen_overflows);
  set(Grown(before.listen_drops, after.listen_drops), &v1::HostFigures::set_listen_drops);
  set(Grown(before.syn_queue_full, after.syn_queue_full), &v1::HostFigures::set_syn_queue_full);
  set(Grown(before.tcp_timeouts, after.tcp_timeouts), &v1::HostFigures::set_tcp_timeouts);
  set(Grown(before.segments_sent, after.segments_sent), &v1::HostFigures::set_segments_sent);
  set(Grown(before.segments_retransmitted, after.segments_retransmitted), &v1::HostFigures::set_segments_retransmitted);
  set(Grown(before.tcp_memory_aborts, after.tcp_memory_aborts), &v1::HostFigures::set_tcp_memory_aborts);
  set(Grown(before.conntrack_drops, after.conntrack_drops), &v1::HostFigures::set_conntrack_drops);
  set(after.sockets_time_wait, &v1::HostFigures::set_sockets_time_wait);
  set(after.conntrack_count, &v1::HostFigures::set_conntrack_count);
  set(after.conntrack_max, &v1::HostFigures::set_conntrack_max);
  set(after.memory_unused_bytes, &v1::HostFigures::set_memory_unused_bytes);
  set(after.slab_bytes, &v1::HostFigures::set_slab_bytes);
  set(after.tcp_memory_bytes, &v1::HostFigures::set_tcp_memory_bytes);
  return figures;
}

}  // namespace loadstar::agent
