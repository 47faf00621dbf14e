#include "agent/host/host_facts.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "lib/plan/capacity.h"

namespace loadstar::agent {
namespace {

uint64_t SysctlOr(const os::Proc& proc, const char* name, size_t index, uint64_t otherwise) {
  const absl::StatusOr<std::vector<uint64_t>> numbers = proc.Sysctl(name);
  return numbers.ok() && numbers->size() > index ? (*numbers)[index] : otherwise;
}

uint64_t PageSize() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

uint32_t Cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<uint32_t>(CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

uint64_t Less(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

// The objects that every open TCP socket has one of, and those of what watches it: on io_uring the receive that is with
// the kernel (its request, its message header and its poll), on kernels without it the entry of an epoll. Two idle
// sockets were measured to take 9.2 KB on io_uring and 8.1 KB on epoll (Linux 6.18), of which these are 98 %: what is
// missing are small objects (port buckets, epoll's wait queue entries).
std::optional<uint64_t> SocketMemory(const os::Proc& proc) {
  const absl::StatusOr<std::string> text = proc.Read("slabinfo");
  if (!text.ok()) return std::nullopt;
  const auto caches = os::ParseSlabinfo(*text);
  if (!caches) return std::nullopt;
  std::vector<const char*> names = {"TCP", "sock_inode_cache", "filp", "dentry", "lsm_inode_cache", "lsm_file_cache"};
  if (caches->count("io_kiocb") > 0) {
    names.insert(names.end(), {"io_kiocb", "kmalloc-512", "kmalloc-96"});
  } else {
    names.push_back("eventpoll_epi");
  }
  uint64_t bytes = 0;
  for (const char* name : names) {
    const auto cache = caches->find(name);
    if (cache == caches->end()) continue;
    // The share of the slab's pages, with what of them no object fills.
    const uint64_t slab = cache->second.pages_per_slab * PageSize();
    bytes += (slab + cache->second.objects_per_slab - 1) / cache->second.objects_per_slab;
  }
  // Without these two it is no figure of a socket.
  if (caches->count("TCP") == 0 || caches->count("sock_inode_cache") == 0) return std::nullopt;
  return bytes;
}

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
    const std::map<std::string, uint64_t> memory = os::ParseMeminfo(*text);
    if (const auto total = memory.find("MemTotal"); total != memory.end()) host.set_memory_bytes(total->second);
    host.set_memory_available_bytes(os::UnusedMemory(memory).value_or(0));
  }
  // A hard limit above nr_open (lowered after the limit was set) cannot be used.
  host.set_descriptors_per_process(std::min(limit.hard, SysctlOr(proc, "fs.nr_open", 0, limit.hard)));
  host.set_descriptors_total(SysctlOr(proc, "fs.file-max", 0, 0));
  host.set_port_first(static_cast<uint32_t>(SysctlOr(proc, "net.ipv4.ip_local_port_range", 0, 0)));
  host.set_port_last(static_cast<uint32_t>(SysctlOr(proc, "net.ipv4.ip_local_port_range", 1, 0)));
  if (const auto text = proc.Read("sys/net/ipv4/ip_local_reserved_ports"); text.ok() && os::ParsePortList(*text)) {
    host.set_ports_reserved(std::string(absl::StripAsciiWhitespace(*text)));
  }
  host.set_somaxconn(SysctlOr(proc, "net.core.somaxconn", 0, 0));
  if (const auto text = proc.Read("net/sockstat"); text.ok()) {
    host.set_time_wait(os::ParseSockstat(*text, "TCP", "tw").value_or(0));
  }
  host.set_tcp_memory_bytes(SysctlOr(proc, "net.ipv4.tcp_mem", 2, 0) * PageSize());
  if (const uint64_t most = SysctlOr(proc, "net.netfilter.nf_conntrack_max", 0, 0); most > 0) {
    host.set_conntrack_max(most);
  }
  if (const std::optional<uint64_t> bytes = SocketMemory(proc)) host.set_socket_memory_bytes(*bytes);
  return host;
}

HostUse ReadHostUse(const os::Proc& proc) {
  HostUse use{.descriptors_in_use = SysctlOr(proc, "fs.file-nr", 0, 0),
              .conntrack_in_use = SysctlOr(proc, "net.netfilter.nf_conntrack_count", 0, 0),
              .tcp_memory_in_use = 0};
  if (const auto text = proc.Read("net/sockstat"); text.ok()) {
    use.tcp_memory_in_use = os::ParseSockstat(*text, "TCP", "mem").value_or(0) * PageSize();
  }
  return use;
}

EphemeralPorts CountEphemeralPorts(const v1::HostFacts& host) {
  EphemeralPorts ports;
  const uint32_t first = host.port_first();
  if (first == 0 || host.port_last() < first || host.port_last() > 65'535) return ports;
  uint32_t count = host.port_last() - first + 1;
  if (count > 1) count &= ~1u;
  std::vector<bool> reserved(65'536, false);
  const auto reserved_ranges = os::ParsePortList(host.ports_reserved());
  if (!reserved_ranges) return ports;
  for (const auto& [from, to] : *reserved_ranges) {
    std::fill(reserved.begin() + from, reserved.begin() + to + 1, true);
  }
  for (uint32_t port = first; port < first + count; ++port) {
    if (reserved[port]) continue;
    ++ports.all;
    if ((port - first) % 2 == 0) ++ports.preferred;
  }
  return ports;
}

namespace {

// What deploy/tuning/connections-100k.yaml sets of what counts here.
constexpr char kTunedProfile[] = "connections-100k";
constexpr uint64_t kTunedDescriptors = 2'097'152;
constexpr uint64_t kTunedConntrack = 2'097'152;
constexpr uint32_t kTunedFirstPort = 1024;
constexpr uint32_t kTunedLastPort = 65'535;

// What a remedy ends with where that profile brings it about.
std::string ByTuning(bool helps) {
  return helps ? absl::StrCat(": loadstar tune apply ", kTunedProfile) : std::string();
}

v1::HostFacts Tuned(const v1::HostFacts& host) {
  v1::HostFacts tuned = host;
  if (host.descriptors_total() > 0) tuned.set_descriptors_total(std::max(host.descriptors_total(), kTunedDescriptors));
  if (host.has_conntrack_max()) tuned.set_conntrack_max(std::max(host.conntrack_max(), kTunedConntrack));
  if (host.port_first() > 0) {
    tuned.set_port_first(std::min(host.port_first(), kTunedFirstPort));
    tuned.set_port_last(std::max(host.port_last(), kTunedLastPort));
  }
  return tuned;
}

v1::Capacity AsItStands(const v1::HostFacts& host, const HostUse& use) {
  v1::Capacity capacity;
  const EphemeralPorts ports = CountEphemeralPorts(host);
  capacity.set_per_address_pair(ports.preferred);
  capacity.set_per_address_pair_max(ports.all);
  capacity.set_per_worker(Less(host.descriptors_per_process(), kWorkerReserve));
  if (host.has_socket_memory_bytes()) capacity.set_kernel_bytes_per_end(host.socket_memory_bytes());

  const auto add = [&](const char* name, uint64_t connections, std::string remedy) {
    v1::CapacityLimit* limit = capacity.add_limits();
    limit->set_name(name);
    limit->set_connections(connections);
    limit->set_remedy(std::move(remedy));
  };
  if (host.descriptors_total() > 0) {
    add("descriptors", Less(host.descriptors_total(), use.descriptors_in_use) / 2,
        absl::StrCat("raise fs.file-max, now ", host.descriptors_total(), " with ", use.descriptors_in_use, " in use",
                     ByTuning(host.descriptors_total() < kTunedDescriptors)));
  }
  if (host.memory_available_bytes() > 0 && host.has_socket_memory_bytes()) {
    const plan::EndsMemory idle = plan::MemoryOfEnds(2, host.socket_memory_bytes());
    const uint64_t each = idle.kernel_bytes + idle.user_bytes + kTrafficMemoryPerConnection;
    add("memory", host.memory_available_bytes() / each,
        absl::StrCat("free memory, now ", host.memory_available_bytes() >> 20,
                     " MiB available where a connection takes ", each, " bytes"));
  }
  if (host.tcp_memory_bytes() > 0) {
    add(plan::kTcpMemoryLimit, Less(host.tcp_memory_bytes(), use.tcp_memory_in_use) / kTcpMemoryPerConnection,
        absl::StrCat("raise the third number of net.ipv4.tcp_mem, now ", host.tcp_memory_bytes() / PageSize(),
                     " pages"));
  }
  // Without a single entry nothing is tracked (the kernel's hooks are only in place where a rule asks for them): else
  // this agent's own session would be one.
  if (host.has_conntrack_max() && use.conntrack_in_use > 0) {
    add("conntrack", Less(host.conntrack_max(), use.conntrack_in_use),
        absl::StrCat("raise net.netfilter.nf_conntrack_max, now ", host.conntrack_max(), " with ", use.conntrack_in_use,
                     " in use", ByTuning(host.conntrack_max() < kTunedConntrack)));
  }
  plan::BindLeast(&capacity);
  return capacity;
}

}  // namespace

v1::Capacity ComputeCapacity(const v1::HostFacts& host, const HostUse& use) {
  v1::Capacity capacity = AsItStands(host, use);
  const v1::Capacity tuned = AsItStands(Tuned(host), use);
  if (tuned.connections() > capacity.connections() || tuned.per_address_pair() > capacity.per_address_pair()) {
    capacity.mutable_tuned()->set_profile(kTunedProfile);
    capacity.mutable_tuned()->set_connections(tuned.connections());
    capacity.mutable_tuned()->set_binding_limit(tuned.binding_limit());
    capacity.mutable_tuned()->set_per_address_pair(tuned.per_address_pair());
  }
  return capacity;
}

}  // namespace loadstar::agent
