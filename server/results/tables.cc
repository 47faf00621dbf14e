#include "server/results/tables.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lib/metrics/histogram.h"
#include "server/results/cells.h"

namespace loadstar::server::results {
namespace {

constexpr char kConnectionsHeader[] = "elapsed_s,time,target,established,opened,closed,failed,opened_per_s\n";

constexpr char kLatencyHeader[] =
    "elapsed_s,requests,p50_ms,p90_ms,p95_ms,p99_ms,p999_ms,max_ms,"
    "service_p50_ms,service_p90_ms,service_p95_ms,service_p99_ms,service_p999_ms,service_max_ms,"
    "lag_p50_ms,lag_p90_ms,lag_p95_ms,lag_p99_ms,lag_p999_ms,lag_max_ms\n";

constexpr char kNodesHeader[] =
    "elapsed_s,node,endpoint,workers_established,workers_requests,workers_errors,workers_p50_ms,workers_p99_ms,"
    "node_connections,node_accepted_total,node_requests_total,node_errors_total,node_bytes_received_total,"
    "node_bytes_sent_total,node_cpu_seconds_total,node_rss_bytes\n";
// For people: columns at one place in every line.
constexpr absl::string_view kHostsFormat =
    "%8s  %-20s %7s %8s %7s %8s %10s %8s %8s %9s %8s %9s %9s %9s %8s %9s %9s %8s\n";

constexpr int kWorkersCells = 5;
constexpr int kNodeCells = 8;

void AppendConnections(const v1::Run&, const v1::Snapshot& snapshot, std::string* out) {
  Row row(out);
  row.Count(snapshot.to_elapsed_s());
  if (snapshot.has_time()) {
    row.Text(FormatTime(snapshot.time()));
  } else {
    row.Empty();
  }
  if (snapshot.figures().has_gauges()) {
    row.Count(snapshot.figures().gauges().connections_target());
    row.Count(snapshot.figures().gauges().connections_established());
  } else {
    row.Empty(2);
  }
  if (!snapshot.figures().has_counters()) {
    row.Empty(4);
    return;
  }
  const v1::Counters& counters = snapshot.figures().counters();
  const uint32_t seconds = snapshot.to_elapsed_s() - snapshot.from_elapsed_s() + 1;
  row.Count(counters.connects_established())
      .Count(counters.connections_closed() + counters.connections_lost())
      .Count(counters.connects_failed())
      .Number(static_cast<double>(counters.connects_established()) / seconds);
}

void AppendPercentiles(bool measured, const v1::Percentiles& percentiles, Row* row) {
  if (!measured || percentiles.count() == 0) {
    row->Empty(6);
    return;
  }
  row->Ms(percentiles.p50_us())
      .Ms(percentiles.p90_us())
      .Ms(percentiles.p95_us())
      .Ms(percentiles.p99_us())
      .Ms(percentiles.p999_us())
      .Ms(percentiles.max_us());
}

void AppendLatency(const v1::Run&, const v1::Snapshot& snapshot, std::string* out) {
  Row row(out);
  row.Count(snapshot.to_elapsed_s());
  if (snapshot.figures().has_counters()) {
    row.Count(snapshot.figures().counters().requests_answered());
  } else {
    row.Empty();
  }
  AppendPercentiles(snapshot.has_latency(), snapshot.latency(), &row);
  AppendPercentiles(snapshot.has_service_time(), snapshot.service_time(), &row);
  AppendPercentiles(snapshot.has_schedule_lag(), snapshot.schedule_lag(), &row);
}

void AppendWorkersSide(const v1::EndpointFigures& endpoint, Row* row) {
  if (endpoint.has_gauges()) {
    row->Count(endpoint.gauges().connections_established());
  } else {
    row->Empty();
  }
  if (endpoint.has_counters()) {
    const v1::Counters& counters = endpoint.counters();
    row->Count(counters.requests_answered());
    row->Count(counters.connects_failed() + counters.connections_lost() + counters.requests_failed());
  } else {
    row->Empty(2);
  }
  metrics::Histogram latency;
  if (latency.Merge(endpoint.latency()) && !latency.empty()) {
    row->Ms(latency.ValueAtQuantile(0.5)).Ms(latency.ValueAtQuantile(0.99));
  } else {
    row->Empty(2);
  }
}

void AppendNodeSide(const v1::NodeFigures& node, Row* row) {
  const auto count = [row](bool measured, uint64_t value) {
    if (measured) {
      row->Count(value);
    } else {
      row->Empty();
    }
  };
  count(node.has_connections(), node.connections());
  count(node.has_accepted_total(), node.accepted_total());
  count(node.has_requests_total(), node.requests_total());
  count(node.has_errors_total(), node.errors_total());
  count(node.has_bytes_received_total(), node.bytes_received_total());
  count(node.has_bytes_sent_total(), node.bytes_sent_total());
  if (node.has_cpu_seconds_total()) {
    row->Number(node.cpu_seconds_total());
  } else {
    row->Empty();
  }
  count(node.has_rss_bytes(), node.rss_bytes());
}

void AppendNodes(const v1::Run& run, const v1::Snapshot& snapshot, std::string* out) {
  std::vector<bool> told(snapshot.nodes_size(), false);
  for (const v1::EndpointFigures& endpoint : snapshot.endpoints()) {
    Row row(out);
    row.Count(snapshot.to_elapsed_s()).Text(endpoint.node()).Text(endpoint.endpoint());
    AppendWorkersSide(endpoint, &row);
    int found = -1;
    for (int i = 0; i < snapshot.nodes_size() && found < 0 && !endpoint.node().empty(); ++i) {
      if (snapshot.nodes(i).node() == endpoint.node()) found = i;
    }
    if (found >= 0 && snapshot.nodes(found).reachable()) {
      AppendNodeSide(snapshot.nodes(found), &row);
    } else {
      row.Empty(kNodeCells);
    }
    if (found >= 0) told[found] = true;
  }
  // Nodes that spoke for themselves in a second in which the workers had nothing to say of them.
  for (int i = 0; i < snapshot.nodes_size(); ++i) {
    const v1::NodeFigures& node = snapshot.nodes(i);
    if (told[i] || !node.reachable()) continue;
    std::string endpoint;
    for (int k = 0; k < std::min(run.nodes_size(), run.endpoints_size()); ++k) {
      if (run.nodes(k) == node.node()) endpoint = run.endpoints(k);
    }
    Row row(out);
    row.Count(snapshot.to_elapsed_s()).Text(node.node()).Text(endpoint).Empty(kWorkersCells);
    AppendNodeSide(node, &row);
  }
}

std::string Cell(bool measured, uint64_t value) { return measured ? absl::StrCat(value) : "-"; }

std::string Percent(bool measured, uint64_t part, uint64_t whole) {
  if (!measured || whole == 0) return "-";
  return absl::StrFormat("%.1f", 100 * static_cast<double>(part) / static_cast<double>(whole));
}

void AppendHosts(const v1::Run&, const v1::Snapshot& snapshot, std::string* out) {
  for (const v1::HostFigures& host : snapshot.hosts()) {
    absl::StrAppendFormat(
        out, kHostsFormat, absl::StrCat(snapshot.to_elapsed_s()), host.agent(),
        Percent(host.has_cpu_busy_ns(), host.cpu_busy_ns(), host.cpu_ns()),
        Percent(host.has_cpu_softirq_ns(), host.cpu_softirq_ns(), host.cpu_ns()),
        Percent(host.has_cpu_steal_ns(), host.cpu_steal_ns(), host.cpu_ns()),
        host.has_busiest_core_ratio() ? absl::StrFormat("%.1f", host.busiest_core_ratio() * 100) : "-",
        Cell(host.has_segments_sent(), host.segments_sent()),
        Cell(host.has_segments_retransmitted(), host.segments_retransmitted()),
        Cell(host.has_tcp_timeouts(), host.tcp_timeouts()), Cell(host.has_listen_overflows(), host.listen_overflows()),
        Cell(host.has_listen_drops(), host.listen_drops()),
        Cell(host.has_sockets_time_wait(), host.sockets_time_wait()),
        Cell(host.has_conntrack_count(), host.conntrack_count()), Cell(host.has_conntrack_max(), host.conntrack_max()),
        Cell(host.has_conntrack_drops(), host.conntrack_drops()),
        Cell(host.has_memory_unused_bytes(), host.memory_unused_bytes() >> 20),
        Cell(host.has_slab_bytes(), host.slab_bytes() >> 20),
        Cell(host.has_tcp_memory_bytes(), host.tcp_memory_bytes() >> 20));
  }
}

std::string HostsHeader() {
  return absl::StrFormat(kHostsFormat, "second", "host of agent", "busy%", "softirq%", "steal%", "busiest%", "segments",
                         "again", "timeouts", "overflows", "drops", "TIME_WAIT", "conntrack", "ct_max", "ct_drops",
                         "free_MiB", "slab_MiB", "tcp_MiB");
}

}  // namespace

const std::vector<Table>& Tables() {
  static const auto* tables = new std::vector<Table>{{"connections.csv", kConnectionsHeader, AppendConnections},
                                                     {"latency.csv", kLatencyHeader, AppendLatency},
                                                     {"node-metrics.csv", kNodesHeader, AppendNodes},
                                                     {"host-metrics.txt", HostsHeader(), AppendHosts}};
  return *tables;
}

}  // namespace loadstar::server::results
