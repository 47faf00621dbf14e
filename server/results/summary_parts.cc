#include "server/results/summary_parts.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "lib/metrics/histogram.h"
#include "server/results/cells.h"

namespace loadstar::server::results {
namespace {

constexpr int kNodesShown = 16;
constexpr int kErrorsShown = 12;
constexpr int kGapsShown = 8;

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() / 1e9;
}

bool IsClosed(const v1::Run& run) { return run.test().load().requests().model() == v1::REQUEST_MODEL_CLOSED; }

std::string LatencyRow(const char* name, bool measured, const v1::Percentiles& p) {
  if (!measured || p.count() == 0) return absl::StrFormat("  %-14s not measured\n", name);
  return absl::StrFormat("  %-14s %13s %10s %10s %10s %10s %10s %10s\n", name, FormatCount(p.count()),
                         FormatMs(p.p50_us()), FormatMs(p.p90_us()), FormatMs(p.p95_us()), FormatMs(p.p99_us()),
                         FormatMs(p.p999_us()), FormatMs(p.max_us()));
}

std::string ShareCell(bool measured, uint64_t part, uint64_t whole) {
  if (!measured || whole == 0) return "-";
  return absl::StrFormat("%.3g %%", 100 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string CountCell(bool measured, uint64_t value) { return measured ? FormatCount(value) : "-"; }

std::string StagesText(const v1::LoadSpec& load) {
  std::vector<std::string> stages;
  for (const v1::Stage& stage : load.connections()) {
    stages.push_back(stage.hold() ? absl::StrCat("hold ", FormatSpan(stage.duration()))
                                  : absl::StrCat("ramp ", FormatSpan(stage.duration()), " to ",
                                                 FormatCount(stage.to_connections())));
  }
  return absl::StrJoin(stages, ", ");
}

std::string RequestsText(const v1::LoadSpec& load) {
  if (!load.has_requests()) return "none: connections are only held";
  const v1::RequestsSpec& requests = load.requests();
  std::string text;
  if (requests.model() == v1::REQUEST_MODEL_CLOSED) {
    text = absl::StrCat("closed model, think time ", FormatSpan(requests.think()));
  } else {
    text = absl::StrFormat("open model, %g/s %s, %s", requests.rate_per_s(),
                           requests.rate_scope() == v1::RATE_SCOPE_TOTAL ? "in all" : "per connection",
                           requests.arrival() == v1::ARRIVAL_POISSON ? "Poisson arrivals"
                           : requests.arrival() == v1::ARRIVAL_BURST
                               ? absl::StrCat("bursts of ", FormatCount(requests.burst_requests()))
                               : "constant arrivals");
    if (requests.late_requests() == v1::LATE_REQUESTS_SKIP) text += ", late requests skipped";
  }
  return absl::StrCat(text, ", timeout ", FormatSpan(requests.timeout()), ", pipeline ", requests.pipeline());
}

std::string ProtocolWord(v1::Protocol protocol) {
  switch (protocol) {
    case v1::PROTOCOL_TCP:
      return "tcp";
    case v1::PROTOCOL_MCP_TCP:
      return "mcp-tcp";
    case v1::PROTOCOL_HTTP:
      return "http";
    case v1::PROTOCOL_MCP_HTTP:
      return "mcp-http";
    default:
      return "unknown protocol";
  }
}

}  // namespace

std::string VerdictWord(v1::VerdictKind kind) {
  switch (kind) {
    case v1::VERDICT_KIND_PASSED:
      return "PASSED";
    case v1::VERDICT_KIND_FAILED:
      return "FAILED";
    case v1::VERDICT_KIND_NOT_TRUSTWORTHY:
      return "NOT TRUSTWORTHY";
    case v1::VERDICT_KIND_NOT_CARRIED_OUT:
      return "NOT CARRIED OUT";
    case v1::VERDICT_KIND_STOPPED:
      return "STOPPED";
    default:
      return "NOT FINISHED";
  }
}

std::string SideWord(v1::Side side) {
  switch (side) {
    case v1::SIDE_GENERATOR:
      return "generator";
    case v1::SIDE_HOST:
      return "host";
    case v1::SIDE_TARGET:
      return "target";
    case v1::SIDE_CONTROL:
      return "control";
    default:
      return "unknown side";
  }
}

std::string PhaseWord(v1::ErrorPhase phase) {
  switch (phase) {
    case v1::ERROR_PHASE_CONNECT:
      return "connect";
    case v1::ERROR_PHASE_CONNECTION:
      return "connection";
    case v1::ERROR_PHASE_REQUEST:
      return "request";
    default:
      return "unknown";
  }
}

std::string ErrorWord(v1::ErrorKind kind) {
  switch (kind) {
    case v1::ERROR_KIND_REFUSED:
      return "refused";
    case v1::ERROR_KIND_RESET:
      return "reset";
    case v1::ERROR_KIND_CONNECT_TIMEOUT:
      return "connect timeout";
    case v1::ERROR_KIND_REQUEST_TIMEOUT:
      return "request timeout";
    case v1::ERROR_KIND_CLOSED_BY_PEER:
      return "closed by peer";
    case v1::ERROR_KIND_PROTOCOL:
      return "protocol";
    case v1::ERROR_KIND_NO_DESCRIPTORS:
      return "no descriptors";
    case v1::ERROR_KIND_NO_PORTS:
      return "no ports";
    case v1::ERROR_KIND_NO_MEMORY:
      return "no memory";
    case v1::ERROR_KIND_OTHER:
      return "other";
    case v1::ERROR_KIND_RPC_ERROR:
      return "rpc error";
    case v1::ERROR_KIND_WORKER_LOST:
      return "worker lost";
    case v1::ERROR_KIND_ABANDONED:
      return "abandoned at the end";
    case v1::ERROR_KIND_TRANSPORT_TIMEOUT:
      return "transport timeout";
    case v1::ERROR_KIND_HTTP_STATUS:
      return "HTTP status";
    case v1::ERROR_KIND_HEARTBEAT_TIMEOUT:
      return "heartbeat timeout";
    default:
      return "unknown";
  }
}

std::string FormatMeasured(const std::string& metric, double value) {
  if (metric == "errors.ratio") return absl::StrFormat("%.4g %%", value * 100);
  if (metric == "requests.rate") return absl::StrFormat("%.1f/s", value);
  if (absl::StartsWith(metric, "connections.") || absl::StartsWith(metric, "requests.")) {
    return FormatCount(static_cast<uint64_t>(std::llround(std::max(0.0, value))));
  }
  return absl::StrFormat("%.3f ms", value / 1000);
}

std::string FormatSpan(const google::protobuf::Duration& duration) {
  const int64_t seconds = duration.seconds();
  if (seconds < 60 || duration.nanos() != 0) return absl::StrFormat("%g s", Seconds(duration));
  std::vector<std::string> parts;
  if (seconds >= 3600) parts.push_back(absl::StrCat(seconds / 3600, " h"));
  if (seconds / 60 % 60 > 0) parts.push_back(absl::StrCat(seconds / 60 % 60, " min"));
  if (seconds % 60 > 0) parts.push_back(absl::StrCat(seconds % 60, " s"));
  return absl::StrJoin(parts, " ");
}

std::string VerdictPart(const v1::Run& run) {
  std::string text = absl::StrCat("Run ", run.run_id(), ": ", VerdictWord(run.verdict().kind()), "\n");
  for (const v1::Reason& reason : run.verdict().reasons()) {
    absl::StrAppend(&text, "  ", SideWord(reason.side()), " (", reason.code(), "): ", reason.message());
    absl::StrAppend(&text, "\n");
    if (!reason.remedy().empty()) absl::StrAppend(&text, "    -> ", reason.remedy(), "\n");
  }
  return text;
}

std::string ThresholdsPart(const v1::Run& run) {
  if (run.thresholds().empty()) return "\nThresholds: none\n";
  std::string text = "\nThresholds\n";
  for (const v1::ThresholdResult& result : run.thresholds()) {
    const std::string measured =
        result.has_measured()
            ? absl::StrCat("measured ", FormatMeasured(result.threshold().metric(), result.measured()))
            : "not measured";
    // A run that was stopped is not judged.
    const char* mark = run.verdict().kind() == v1::VERDICT_KIND_STOPPED ? "not judged"
                       : result.held()                                  ? "held"
                                                                        : "NOT HELD";
    absl::StrAppendFormat(&text, "  %-10s  %-34s %s\n", mark, result.threshold().text(), measured);
  }
  return text;
}

std::string LedgerPart(const v1::Run& run) {
  if (!run.totals().has_counters()) return "\nConnections and requests: not measured\n";
  const v1::Counters& c = run.totals().counters();
  uint64_t planned = 0;
  for (const v1::Stage& stage : run.test().load().connections()) planned = std::max(planned, stage.to_connections());
  std::string text = absl::StrFormat(
      "\nConnections  peak %s of %s planned; opened %s, closed %s, lost %s, connects failed %s\n",
      FormatCount(run.peak_connections()), FormatCount(planned), FormatCount(c.connects_established()),
      FormatCount(c.connections_closed()), FormatCount(c.connections_lost()), FormatCount(c.connects_failed()));
  if (c.heartbeats_sent() > 0) {
    absl::StrAppendFormat(&text, "Heartbeats   sent %s, answered %s\n", FormatCount(c.heartbeats_sent()),
                          FormatCount(c.heartbeats_answered()));
  }
  if (!run.test().load().has_requests()) return text;
  const uint64_t outstanding = run.totals().gauges().requests_outstanding();
  absl::StrAppendFormat(&text, "Requests     sent %s = answered %s + failed %s + outstanding at the end %s\n",
                        FormatCount(c.requests_sent()), FormatCount(c.requests_answered()),
                        FormatCount(c.requests_failed()), FormatCount(outstanding));
  absl::StrAppendFormat(&text, "             due %s, never sent %s", FormatCount(c.requests_due()),
                        FormatCount(c.requests_dropped()));
  if (run.recorded_s() > 0) {
    absl::StrAppendFormat(&text, "; answered %.1f/s over the %d s recorded",
                          static_cast<double>(c.requests_answered()) / run.recorded_s(), run.recorded_s());
  }
  return text + "\n";
}

std::string LatencyPart(const v1::Run& run) {
  std::string text = absl::StrFormat("\n  %-14s %13s %10s %10s %10s %10s %10s %10s\n", "[ms]", "count", "p50", "p90",
                                     "p95", "p99", "p99.9", "max");
  if (run.test().load().has_requests()) {
    text += LatencyRow("latency", run.has_latency(), run.latency());
    text += LatencyRow("service time", run.has_service_time(), run.service_time());
    text += LatencyRow("schedule lag", run.has_schedule_lag(), run.schedule_lag());
  }
  text += LatencyRow("connect", run.has_connect_time(), run.connect_time());
  if (run.has_handshake_time()) text += LatencyRow("handshake", true, run.handshake_time());
  if (run.test().load().has_requests()) {
    text +=
        IsClosed(run)
            ? "  CLOSED MODEL: each request waited for the answer before it, so a stall of the target delays requests\n"
              "  instead of showing in their latency; do not compare with figures of an open model.\n"
            : "  Open model: latency counts from the time a request was due, service time from its actual send.\n";
  }
  return text;
}

std::string ErrorsPart(const v1::Run& run) {
  if (!run.has_totals()) return "\nErrors: not measured\n";
  if (run.totals().errors().empty()) return "\nErrors: none\n";
  std::vector<v1::ErrorCount> errors(run.totals().errors().begin(), run.totals().errors().end());
  std::stable_sort(errors.begin(), errors.end(),
                   [](const v1::ErrorCount& a, const v1::ErrorCount& b) { return a.count() > b.count(); });
  std::string text = "\nErrors\n";
  for (size_t i = 0; i < errors.size() && i < kErrorsShown; ++i) {
    const v1::ErrorCount& error = errors[i];
    absl::StrAppendFormat(&text, "  %-10s %13s  %s%s\n", PhaseWord(error.phase()), FormatCount(error.count()),
                          ErrorWord(error.kind()), error.detail().empty() ? "" : absl::StrCat(": ", error.detail()));
  }
  if (errors.size() > kErrorsShown)
    absl::StrAppend(&text, "  and ", errors.size() - kErrorsShown, " more kinds in run.json\n");
  return text;
}

std::string NodesPart(const v1::Run& run) {
  if (run.endpoint_totals().empty()) return "";
  std::string text = absl::StrFormat("\n  %-36s %12s %12s %12s %12s %10s %10s\n", "node", "opened", "lost", "answered",
                                     "failed", "p50 [ms]", "p99 [ms]");
  int shown = 0;
  for (const v1::EndpointFigures& endpoint : run.endpoint_totals()) {
    if (shown++ == kNodesShown) {
      absl::StrAppend(&text, "  and ", run.endpoint_totals_size() - kNodesShown, " more in run.json\n");
      break;
    }
    metrics::Histogram latency;
    const bool measured = latency.Merge(endpoint.latency()) && !latency.empty();
    const v1::Counters& c = endpoint.counters();
    absl::StrAppendFormat(
        &text, "  %-36s %12s %12s %12s %12s %10s %10s\n",
        endpoint.node().empty() ? endpoint.endpoint() : absl::StrCat(endpoint.node(), " ", endpoint.endpoint()),
        FormatCount(c.connects_established()), FormatCount(c.connections_lost()), FormatCount(c.requests_answered()),
        FormatCount(c.requests_failed() + c.connects_failed()), measured ? FormatMs(latency.ValueAtQuantile(0.5)) : "-",
        measured ? FormatMs(latency.ValueAtQuantile(0.99)) : "-");
  }
  return text;
}

std::string AgentsPart(const v1::Run& run) {
  std::string text = "\nAgents\n";
  for (const v1::Participant& part : run.participants()) {
    absl::StrAppend(&text, "  ", part.agent(), ": ", part.worker_count(),
                    part.worker_count() == 1 ? " worker" : " workers");
    if (part.has_started_at()) {
      absl::StrAppendFormat(&text, ", load on at %s (within %.3f ms)", FormatTime(part.started_at()),
                            Seconds(part.clock_uncertainty()) * 1000);
    } else if (part.worker_count() > 0) {
      absl::StrAppend(&text, ", never started");
    }
    absl::StrAppend(&text, part.lost() ? ", LOST" : "", "\n");
    if (part.has_memory_need()) {
      absl::StrAppend(
          &text, "    memory: ", (part.memory_need().kernel_bytes() + part.memory_need().user_bytes()) >> 20,
          " MiB expected for ", FormatCount(part.memory_need().connections()), " connections, ",
          part.has_memory_taken_bytes()
              ? absl::StrCat("at most ", part.memory_taken_bytes() >> 20, " MiB more taken by all on the host\n")
              : "what was taken is not known\n");
    }
  }
  if (run.participants().empty()) absl::StrAppend(&text, "  none took part\n");
  if (run.has_start_skew()) absl::StrAppendFormat(&text, "  start skew %.3f ms\n", Seconds(run.start_skew()) * 1000);
  if (!run.gaps().empty()) {
    std::vector<std::string> gaps(run.gaps().begin(), run.gaps().begin() + std::min(run.gaps_size(), kGapsShown));
    absl::StrAppend(&text, "  seconds that never arrived (AGENT:SECONDS): ", absl::StrJoin(gaps, ", "));
    if (run.gaps_size() > kGapsShown) absl::StrAppend(&text, " and ", run.gaps_size() - kGapsShown, " more ranges");
    absl::StrAppend(&text, "\n");
  }
  return text;
}

std::string HostsPart(const v1::Run& run) {
  std::string text;
  constexpr absl::string_view kFormat = "  %-20s %8s %8s %8s %12s %11s %9s %9s %10s %17s %11s\n";
  for (const v1::Participant& part : run.participants()) {
    if (!part.has_host()) continue;
    if (text.empty()) {
      absl::StrAppend(&text, "\n");
      absl::StrAppendFormat(&text, kFormat, "host of agent", "busy", "softirq", "steal", "busiest core", "sent again",
                            "timeouts", "overflows", "TIME_WAIT", "conntrack", "memory");
    }
    const v1::HostFigures& host = part.host();
    absl::StrAppendFormat(
        &text, kFormat, part.agent(), ShareCell(host.has_cpu_busy_ns(), host.cpu_busy_ns(), host.cpu_ns()),
        ShareCell(host.has_cpu_softirq_ns(), host.cpu_softirq_ns(), host.cpu_ns()),
        ShareCell(host.has_cpu_steal_ns(), host.cpu_steal_ns(), host.cpu_ns()),
        host.has_busiest_core_ratio() ? absl::StrFormat("%.0f %%", host.busiest_core_ratio() * 100) : "-",
        ShareCell(host.has_segments_retransmitted(), host.segments_retransmitted(), host.segments_sent()),
        CountCell(host.has_tcp_timeouts(), host.tcp_timeouts()),
        CountCell(host.has_listen_overflows(), host.listen_overflows()),
        CountCell(host.has_sockets_time_wait(), host.sockets_time_wait()),
        host.has_conntrack_count() ? absl::StrCat(FormatCount(host.conntrack_count()), " of ",
                                                  CountCell(host.has_conntrack_max(), host.conntrack_max()))
                                   : "-",
        part.has_memory_taken_bytes() ? absl::StrCat(FormatCount(part.memory_taken_bytes() >> 20), " MiB") : "-");
  }
  if (text.empty()) return text;
  return text +
         "  Of everything on the host. busy, softirq, steal: of all cores' time; busiest core: of its worst second;\n"
         "  sent again: TCP segments; overflows: of accept queues; TIME_WAIT, conntrack: the most; memory: the most\n"
         "  that was taken beyond what was ahead of the load. -: the kernel does not say.\n";
}

std::string HowPart(const v1::Run& run, const std::string& version) {
  const v1::TestSpec& test = run.test();
  std::string text = "\nHow it was run\n";
  absl::StrAppend(&text, "  test ", test.name(), ", ", ProtocolWord(test.target().protocol()), " to ",
                  test.target().stack().empty() ? "" : absl::StrCat("stack ", test.target().stack(), ", "),
                  run.endpoints_size(), run.endpoints_size() == 1 ? " endpoint" : " endpoints");
  absl::StrAppend(&text, ", seed ", test.load().seed(), "\n");
  absl::StrAppend(&text, "  connections: ", StagesText(test.load()), "\n");
  absl::StrAppend(&text, "  requests: ", RequestsText(test.load()), "\n");
  if (!test.load().source_addresses().empty()) {
    absl::StrAppend(&text, "  source addresses: ", test.load().source_addresses_size(), "\n");
  }
  for (const v1::AppliedUpdate& update : run.updates()) {
    absl::StrAppendFormat(&text, "  changed at %.1f s:", Seconds(update.at_elapsed()));
    if (update.update().has_connections()) {
      absl::StrAppend(&text, " connections to ", FormatCount(update.update().connections()), " within ",
                      FormatSpan(update.update().ramp()));
    }
    if (update.update().has_rate_per_s()) absl::StrAppendFormat(&text, " rate to %g/s", update.update().rate_per_s());
    absl::StrAppend(&text, "\n");
  }
  absl::StrAppend(&text, "  asked for ", FormatTime(run.created_at()));
  if (run.has_start_at()) absl::StrAppend(&text, ", started ", FormatTime(run.start_at()));
  if (run.has_ended_at()) absl::StrAppend(&text, ", ended ", FormatTime(run.ended_at()));
  absl::StrAppend(&text, "; loadstar ", version, "\n");
  return text;
}

}  // namespace loadstar::server::results
