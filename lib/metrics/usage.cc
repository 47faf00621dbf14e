#include "lib/metrics/usage.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace loadstar::metrics {
namespace {

uint64_t Sum(uint64_t a, uint64_t b) { return a + b; }
uint64_t Most(uint64_t a, uint64_t b) { return std::max(a, b); }
uint64_t Least(uint64_t a, uint64_t b) { return std::min(a, b); }

using Host = v1::HostFigures;

// An optional field, and what becomes of two values of it.
struct Field {
  bool (Host::*has)() const;
  uint64_t (Host::*get)() const;
  void (Host::*set)(uint64_t);
  uint64_t (*merge)(uint64_t, uint64_t);
};
constexpr std::array kFields = {
    Field{&Host::has_cpu_ns, &Host::cpu_ns, &Host::set_cpu_ns, &Sum},
    Field{&Host::has_cpu_busy_ns, &Host::cpu_busy_ns, &Host::set_cpu_busy_ns, &Sum},
    Field{&Host::has_cpu_softirq_ns, &Host::cpu_softirq_ns, &Host::set_cpu_softirq_ns, &Sum},
    Field{&Host::has_cpu_steal_ns, &Host::cpu_steal_ns, &Host::set_cpu_steal_ns, &Sum},
    Field{&Host::has_listen_overflows, &Host::listen_overflows, &Host::set_listen_overflows, &Sum},
    Field{&Host::has_listen_drops, &Host::listen_drops, &Host::set_listen_drops, &Sum},
    Field{&Host::has_syn_queue_full, &Host::syn_queue_full, &Host::set_syn_queue_full, &Sum},
    Field{&Host::has_tcp_timeouts, &Host::tcp_timeouts, &Host::set_tcp_timeouts, &Sum},
    Field{&Host::has_segments_sent, &Host::segments_sent, &Host::set_segments_sent, &Sum},
    Field{&Host::has_segments_retransmitted, &Host::segments_retransmitted, &Host::set_segments_retransmitted, &Sum},
    Field{&Host::has_tcp_memory_aborts, &Host::tcp_memory_aborts, &Host::set_tcp_memory_aborts, &Sum},
    Field{&Host::has_conntrack_drops, &Host::conntrack_drops, &Host::set_conntrack_drops, &Sum},
    Field{&Host::has_sockets_time_wait, &Host::sockets_time_wait, &Host::set_sockets_time_wait, &Most},
    Field{&Host::has_conntrack_count, &Host::conntrack_count, &Host::set_conntrack_count, &Most},
    Field{&Host::has_conntrack_max, &Host::conntrack_max, &Host::set_conntrack_max, &Least},
    Field{&Host::has_memory_unused_bytes, &Host::memory_unused_bytes, &Host::set_memory_unused_bytes, &Least},
    Field{&Host::has_slab_bytes, &Host::slab_bytes, &Host::set_slab_bytes, &Most},
    Field{&Host::has_tcp_memory_bytes, &Host::tcp_memory_bytes, &Host::set_tcp_memory_bytes, &Most},
};

}  // namespace

void AddLater(const v1::HostFigures& from, v1::HostFigures* to) {
  to->set_seconds(to->seconds() + from.seconds());
  for (const Field& field : kFields) {
    if (!(from.*field.has)()) continue;
    const uint64_t value = (from.*field.get)();
    (to->*field.set)((to->*field.has)() ? field.merge((to->*field.get)(), value) : value);
  }
  if (from.has_busiest_core_ratio()) {
    to->set_busiest_core_ratio(std::max(to->busiest_core_ratio(), from.busiest_core_ratio()));
  }
  to->set_cores(std::max(to->cores(), from.cores()));
}

void AddLater(const v1::WorkerUsage& from, v1::WorkerUsage* to) {
  to->set_worker_index(from.worker_index());
  to->set_cpu_ns(to->cpu_ns() + from.cpu_ns());
  to->set_interval_ns(to->interval_ns() + from.interval_ns());
  if (from.has_core_wait_ns()) to->set_core_wait_ns(to->core_wait_ns() + from.core_wait_ns());
  to->set_loop_max_ns(std::max(to->loop_max_ns(), from.loop_max_ns()));
  to->set_loop_turns(to->loop_turns() + from.loop_turns());
  to->set_queue_overflows(to->queue_overflows() + from.queue_overflows());
  to->set_rss_bytes(from.rss_bytes());
  if (from.has_rss_anon_bytes()) to->set_rss_anon_bytes(from.rss_anon_bytes());
}

}  // namespace loadstar::metrics
