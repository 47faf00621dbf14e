#pragma once

#include <string>
#include <string_view>

#include "loadstar/v1/metrics.pb.h"

namespace loadstar::agent {

// Reads what a node says of itself from Prometheus' text format into `figures`: the metrics below, by name; a metric
// that is not there leaves its field absent. Where samples carry process="total" that one counts, else all of them are
// added up (loadstar_target_errors_total has one per kind: those that count are added up). Lines that are not
// understood are skipped: a scrape of somebody else's server is no reason to fail. Pure; any bytes.
//
//   loadstar_target_connections -> connections            loadstar_target_bytes_received_total -> bytes_received_total
//   loadstar_target_accepted_total -> accepted_total      loadstar_target_bytes_sent_total -> bytes_sent_total
//   loadstar_target_requests_total -> requests_total      process_cpu_seconds_total -> cpu_seconds_total
//   loadstar_target_errors_total -> errors_total          process_resident_memory_bytes -> rss_bytes
//   loadstar_target_clock_seconds -> clock_s
void ReadPrometheus(std::string_view text, v1::NodeFigures* figures);

}  // namespace loadstar::agent
