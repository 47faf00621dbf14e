#pragma once

#include <string>
#include <vector>

#include "loadstar/v1/metrics.pb.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::server::results {

// A table of the results folder, second by second: a header with units, and what each snapshot adds to it.
struct Table {
  std::string file_name;
  std::string header;
  void (*append)(const v1::Run& run, const v1::Snapshot& snapshot, std::string* out);
};

// connections.csv: one row a second. `closed` counts every established connection that ended, by us or otherwise; so
//   opened - closed, summed, is what is established. `failed` counts connects that never got there.
// latency.csv: one row a second. `requests` counts the answers; percentiles are of answers and of requests that were
//   given up together, by the second in which that was. service_* counts from the actual send, lag_* is the generator's
//   own delay.
// node-metrics.csv: one row a node and second. workers_*: what the workers saw of the node (requests: answers; errors:
//   failed connects, lost connections and failed requests together); node_*: what its own /metrics said.
// host-metrics.txt: one line a host and second, for people: what the host's kernel counted. "-": it does not say.
const std::vector<Table>& Tables();

}  // namespace loadstar::server::results
