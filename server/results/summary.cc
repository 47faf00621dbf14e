#include <string>

#include "absl/strings/str_cat.h"
#include "server/results/documents.h"
#include "server/results/summary_parts.h"

namespace loadstar::server::results {

std::string Summary(const v1::Run& run, const std::string& version) {
  return absl::StrCat(VerdictPart(run), ThresholdsPart(run), LedgerPart(run), LatencyPart(run), ErrorsPart(run)) +
         absl::StrCat(NodesPart(run), AgentsPart(run), HostsPart(run), HowPart(run, version));
}

}  // namespace loadstar::server::results
