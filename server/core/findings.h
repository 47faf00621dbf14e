// What speaks for or against a run, as the rules of server/core/verdict.h find it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "loadstar/v1/run.pb.h"
#include "server/core/verdict.h"

namespace loadstar::server {

class Findings {
 public:
  explicit Findings(const v1::Verdict& recorded) : reasons_(recorded.reasons().begin(), recorded.reasons().end()) {}

  // Under the rule of this code; with a remedy that is nearer to the case than the rule's, when one is given.
  void Add(absl::string_view code, absl::string_view message, absl::string_view remedy = "");
  bool Has(absl::string_view code) const;
  bool empty() const { return reasons_.empty(); }
  // Gravest first.
  Judgement Judged();

 private:
  std::vector<v1::Reason> reasons_;
  std::vector<v1::Reason> notes_;
};

// The rules on workers, hosts and nodes, from the figures beside the load. Each looks only at runs that have totals.
void JudgeWorkers(const RunFacts& facts, Findings* findings);
void JudgeHosts(const RunFacts& facts, Findings* findings);
void JudgeNodes(const RunFacts& facts, Findings* findings);
// The nodes' own counters beside the workers'.
void JudgeTargetLedger(const RunFacts& facts, Findings* findings);

// Whether the target, or part of it, is known to be on the host of this agent.
bool HasTarget(const v1::Run& run, const Strain& strain, const std::string& agent);

}  // namespace loadstar::server
