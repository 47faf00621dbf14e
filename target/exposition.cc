#include "target/exposition.h"

#include <array>
#include <charconv>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"

namespace loadstar::target {
namespace {

void Header(const char* name, const char* type, const char* help, std::string* out) {
  absl::StrAppend(out, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

// All digits that it takes: differences between readings are looked at, and six are gone after hours.
std::string Exactly(double value) {
  std::array<char, 32> text{};
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end};
}

std::string EscapeLabel(const std::string& value) {
  std::string escaped;
  for (const char c : value) {
    if (c == '\n') {
      escaped += "\\n";
    } else {
      if (c == '"' || c == '\\') {
        escaped += '\\';
      }
      escaped += c;
    }
  }
  return escaped;
}

struct NumberMetric {
  const char* name;
  const char* type;
  const char* help;
  SharedNumber ProcessCells::*cell;
};

constexpr NumberMetric kNumbers[] = {
    {"loadstar_target_connections", "gauge", "Connections open.", &ProcessCells::connections},
    {"loadstar_target_accepted_total", "counter", "Connections accepted.", &ProcessCells::accepted},
    {"loadstar_target_accept_failures_total", "counter",
     "Connections turned away, or attempts to accept that failed, for want of descriptors or memory.",
     &ProcessCells::accept_failures},
    {"loadstar_target_requests_total", "counter",
     "Requests received. mcp-tcp and mcp-http: JSON-RPC requests but initialize. http: requests. tcp: payloads of "
     "--tcp-payload bytes, or pieces "
     "received when that is not given.",
     &ProcessCells::requests},
    {"loadstar_target_handshakes_total", "counter", "initialize requests received (mcp-tcp, mcp-http).",
     &ProcessCells::handshakes},
    {"loadstar_target_peer_resets_total", "counter", "Connections that the peer ended with a reset.",
     &ProcessCells::peer_resets},
    {"loadstar_target_bytes_received_total", "counter", "Bytes received on the listener's connections.",
     &ProcessCells::bytes_received},
    {"loadstar_target_bytes_sent_total", "counter", "Bytes sent on the listener's connections.",
     &ProcessCells::bytes_sent},
    {"loadstar_target_process_restarts_total", "counter", "Serving processes started again after they died.",
     &ProcessCells::restarts},
};

}  // namespace

std::string RenderMetrics(const Options& options, const SharedState& state, double clock_s, const ProcessUsage& parent,
                          const std::function<ProcessUsage(uint32_t)>& usage) {
  const uint32_t processes = state.processes();
  std::string out;
  Header("loadstar_target_info", "gauge", "The node; always 1.", &out);
  absl::StrAppend(&out, "loadstar_target_info{name=\"", EscapeLabel(options.name), "\",role=\"",
                  EscapeLabel(options.role), "\",version=\"", LOADSTAR_VERSION, "\"} 1\n");
  for (const NumberMetric& metric : kNumbers) {
    Header(metric.name, metric.type, metric.help, &out);
    uint64_t total = 0;
    for (uint32_t i = 0; i < processes; ++i) {
      const uint64_t value = (state.process(i).*metric.cell).Get();
      total += value;
      absl::StrAppend(&out, metric.name, "{process=\"", i, "\"} ", value, "\n");
    }
    absl::StrAppend(&out, metric.name, "{process=\"total\"} ", total, "\n");
  }

  const char* const errors = "loadstar_target_errors_total";
  Header(errors, "counter", "Errors by kind.", &out);
  std::vector<uint64_t> totals(kErrorKindNames.size());
  const auto error_line = [&](const std::string& process, size_t kind, uint64_t value) {
    absl::StrAppend(&out, errors, "{process=\"", process, "\",kind=\"", kErrorKindNames[kind].data(), "\"} ", value,
                    "\n");
  };
  for (uint32_t i = 0; i < processes; ++i) {
    for (size_t kind = 0; kind < totals.size(); ++kind) {
      const uint64_t value = state.process(i).errors[kind].Get();
      totals[kind] += value;
      error_line(absl::StrCat(i), kind, value);
    }
  }
  for (size_t kind = 0; kind < totals.size(); ++kind) {
    error_line("total", kind, totals[kind]);
  }

  std::string cpu;
  std::string memory;
  ProcessUsage sum;
  const auto usage_lines = [&](const std::string& process, const ProcessUsage& spent) {
    absl::StrAppend(&cpu, "process_cpu_seconds_total{process=\"", process, "\"} ", Exactly(spent.cpu_seconds), "\n");
    absl::StrAppend(&memory, "process_resident_memory_bytes{process=\"", process, "\"} ", spent.resident_bytes, "\n");
  };
  const auto add = [&](const std::string& process, const ProcessUsage& spent) {
    usage_lines(process, spent);
    sum.cpu_seconds += spent.cpu_seconds;
    sum.resident_bytes += spent.resident_bytes;
  };
  for (uint32_t i = 0; i < processes; ++i) {
    add(absl::StrCat(i), usage(i));
  }
  add("parent", parent);
  usage_lines("total", sum);
  Header("process_cpu_seconds_total", "counter", "User and system CPU time, those of restarted processes included.",
         &out);
  out += cpu;
  const char* const clock = "loadstar_target_clock_seconds";
  Header(clock, "gauge", "The host's monotonic clock at this reading: how much time lies between two of them.", &out);
  absl::StrAppend(&out, clock, "{process=\"parent\"} ", Exactly(clock_s), "\n");
  Header("process_resident_memory_bytes", "gauge", "Resident memory; pages shared by processes count in each.", &out);
  out += memory;
  return out;
}

}  // namespace loadstar::target
