#include "agent/observer/prometheus.h"

#include <charconv>
#include <cmath>
#include <map>

#include "lib/os/lines.h"

namespace loadstar::agent {
namespace {

struct Sample {
  std::string_view name;
  std::string_view process;  // value of the label "process"; empty: none
  double value = 0;
};

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

void SkipBlanks(std::string_view* text) {
  while (!text->empty() && IsBlank(text->front())) text->remove_prefix(1);
}

// Takes `{name="value",...}` off the front. False when it is not well-formed.
bool TakeLabels(std::string_view* text, std::string_view* process) {
  text->remove_prefix(1);
  for (;;) {
    SkipBlanks(text);
    if (text->empty()) return false;
    if (text->front() == '}') {
      text->remove_prefix(1);
      return true;
    }
    const size_t equals = text->find('=');
    if (equals == std::string_view::npos) return false;
    std::string_view name = text->substr(0, equals);
    while (!name.empty() && IsBlank(name.back())) name.remove_suffix(1);
    text->remove_prefix(equals + 1);
    SkipBlanks(text);
    if (text->empty() || text->front() != '"') return false;
    text->remove_prefix(1);
    size_t end = 0;
    while (end < text->size() && (*text)[end] != '"') end += (*text)[end] == '\\' ? 2 : 1;
    if (end >= text->size()) return false;
    if (name == "process") *process = text->substr(0, end);
    text->remove_prefix(end + 1);
    SkipBlanks(text);
    if (!text->empty() && text->front() == ',') text->remove_prefix(1);
  }
}

bool ParseLine(std::string_view line, Sample* sample) {
  SkipBlanks(&line);
  if (line.empty() || line.front() == '#') return false;
  const size_t name_end = line.find_first_of("{ \t");
  if (name_end == std::string_view::npos) return false;
  sample->name = line.substr(0, name_end);
  line.remove_prefix(name_end);
  SkipBlanks(&line);
  if (!line.empty() && line.front() == '{' && !TakeLabels(&line, &sample->process)) return false;
  SkipBlanks(&line);
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), sample->value);
  if (error != std::errc() || !std::isfinite(sample->value) || sample->value < 0) return false;
  // A time stamp may follow, nothing else.
  return end == line.data() + line.size() || IsBlank(*end) || *end == '\r';
}

// The samples of one metric so far: those of the total, and all others.
struct Sums {
  double total = 0;
  double parts = 0;
  bool has_total = false;
  double value() const { return has_total ? total : parts; }
};

// Counters beyond 2^53 are not exact in this format in any case; beyond 2^64 they are nonsense.
uint64_t ToCount(double value) { return value >= 1.8e19 ? UINT64_MAX : static_cast<uint64_t>(std::round(value)); }

}  // namespace

void ReadPrometheus(std::string_view text, v1::NodeFigures* figures) {
  std::map<std::string_view, Sums> metrics = {
      {"loadstar_target_connections", {}},          {"loadstar_target_accepted_total", {}},
      {"loadstar_target_requests_total", {}},       {"loadstar_target_errors_total", {}},
      {"loadstar_target_bytes_received_total", {}}, {"loadstar_target_bytes_sent_total", {}},
      {"loadstar_target_clock_seconds", {}},        {"process_cpu_seconds_total", {}},
      {"process_resident_memory_bytes", {}}};
  std::map<std::string_view, bool> seen;
  for (const std::string_view line : os::Lines(text)) {
    Sample sample;
    if (ParseLine(line, &sample)) {
      if (const auto found = metrics.find(sample.name); found != metrics.end()) {
        seen[found->first] = true;
        if (sample.process == "total") {
          found->second.has_total = true;
          found->second.total += sample.value;
        } else {
          found->second.parts += sample.value;
        }
      }
    }
  }
  const auto count = [&](const char* name, void (v1::NodeFigures::*set)(uint64_t)) {
    if (seen[name]) (figures->*set)(ToCount(metrics[name].value()));
  };
  count("loadstar_target_connections", &v1::NodeFigures::set_connections);
  count("loadstar_target_accepted_total", &v1::NodeFigures::set_accepted_total);
  count("loadstar_target_requests_total", &v1::NodeFigures::set_requests_total);
  count("loadstar_target_errors_total", &v1::NodeFigures::set_errors_total);
  count("loadstar_target_bytes_received_total", &v1::NodeFigures::set_bytes_received_total);
  count("loadstar_target_bytes_sent_total", &v1::NodeFigures::set_bytes_sent_total);
  count("process_resident_memory_bytes", &v1::NodeFigures::set_rss_bytes);
  if (seen["process_cpu_seconds_total"]) {
    figures->set_cpu_seconds_total(metrics["process_cpu_seconds_total"].value());
  }
  if (seen["loadstar_target_clock_seconds"]) figures->set_clock_s(metrics["loadstar_target_clock_seconds"].value());
}

}  // namespace loadstar::agent
