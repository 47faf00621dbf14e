#include "agent/host/host_facts.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>
#include <utility>

namespace loadstar::agent {
namespace {

uint64_t SysctlOr(const os::Proc& proc, const char* name, size_t index, uint64_t otherwise) {
  const absl::StatusOr<std::vector<uint64_t>> numbers = proc.Sysctl(name);
  return numbers.ok() && numbers->size() > index ? (*numbers)[index] : otherwise;
}

uint32_t Cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<uint32_t>(CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

uint64_t Less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

}  // namespace

v1::HostFacts ReadHostFacts(const os::Proc& proc, const os::DescriptorLimit& limit) {
  v1::HostFacts host;
  utsname names{};
  if (uname(&names) == 0) {
    host.set_hostname(names.nodename);
    host.set_kernel(names.release);
  }
  host.set_cores(Cores());
  if (const auto text = proc.Read("meminfo"); text.ok()) {
    std::map<std::string, uint64_t> memory = os::ParseMeminfo(*text);
    host.set_memory_bytes(memory["MemTotal"]);
    host.set_memory_available_bytes(memory["MemAvailable"]);
  }
  // A hard limit above nr_open (lowered after the limit was set) cannot be used.
  host.set_descriptors_per_process(std::min(limit.hard, SysctlOr(proc, "fs.nr_open", 0, limit.hard)));
  host.set_descriptors_total(SysctlOr(proc, "fs.file-max", 0, 0));
  host.set_port_first(static_cast<uint32_t>(SysctlOr(proc, "net.ipv4.ip_local_port_range", 0, 0)));
  host.set_port_last(static_cast<uint32_t>(SysctlOr(proc, "net.ipv4.ip_local_port_range", 1, 0)));
  host.set_somaxconn(SysctlOr(proc, "net.core.somaxconn", 0, 0));
  if (const auto text = proc.Read("net/sockstat"); text.ok()) {
    host.set_time_wait(os::ParseSockstat(*text, "TCP", "tw").value_or(0));
  }
  host.set_tcp_memory_bytes(SysctlOr(proc, "net.ipv4.tcp_mem", 2, 0) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  if (const uint64_t most = SysctlOr(proc, "net.netfilter.nf_conntrack_max", 0, 0); most > 0) {
    host.set_conntrack_max(most);
  }
  return host;
}

HostUse ReadHostUse(const os::Proc& proc) {
  return {.descriptors_in_use = SysctlOr(proc, "fs.file-nr", 0, 0),
          .conntrack_in_use = SysctlOr(proc, "net.netfilter.nf_conntrack_count", 0, 0)};
}

v1::Capacity ComputeCapacity(const v1::HostFacts& host, const HostUse& use) {
  v1::Capacity capacity;
  const uint64_t ports = host.port_last() >= host.port_first() ? host.port_last() - host.port_first() + 1 : 0;
  capacity.set_per_address_pair(ports / 2);
  capacity.set_per_worker(Less(host.descriptors_per_process(), kWorkerReserve));

  std::vector<std::pair<uint64_t, const char*>> limits;
  if (host.descriptors_total() > 0) {
    limits.emplace_back(Less(host.descriptors_total(), use.descriptors_in_use) / 2, "descriptors");
  }
  if (host.memory_bytes() > 0) limits.emplace_back(host.memory_available_bytes() / kMemoryPerConnection, "memory");
  if (host.tcp_memory_bytes() > 0) {
    limits.emplace_back(host.tcp_memory_bytes() / kTcpMemoryPerConnection, "tcp memory");
  }
  if (host.has_conntrack_max()) {
    limits.emplace_back(Less(host.conntrack_max(), use.conntrack_in_use), "conntrack");
  }
  if (!limits.empty()) {
    const auto least =
        std::min_element(limits.begin(), limits.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    capacity.set_connections(least->first);
    capacity.set_binding_limit(least->second);
  }
  return capacity;
}

}  // namespace loadstar::agent
