// What the coordinator's store does, in memory: commits the writes of a batch at once and gives back what a restarted
// core needs. It checks on the way what every history of writes must keep.
#pragma once

#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "server/core/coordinator_core.h"

namespace loadstar::simulation {

class StoreModel {
 public:
  void Commit(const std::vector<server::Action>& actions);
  server::Restored Restore() const;

  const std::map<std::string, v1::Run>& runs() const { return runs_; }
  const std::vector<server::PutSample>& samples() const { return samples_; }
  const std::map<std::string, v1::Deployment>& deployments() const { return deployments_; }
  const std::vector<server::PutCommand>& commands() const { return commands_; }
  std::vector<v1::Snapshot> SnapshotsOf(const std::string& run_id) const;
  // What broke a rule of the store; empty: nothing.
  const std::vector<std::string>& violations() const { return violations_; }

 private:
  std::map<std::string, v1::Run> runs_;
  std::vector<server::PutSample> samples_;
  std::map<std::tuple<std::string, std::string, uint32_t>, size_t> sample_keys_;
  std::map<std::pair<std::string, uint32_t>, v1::Snapshot> snapshots_;
  std::map<std::pair<std::string, std::string>, uint64_t> cursors_;
  std::map<std::string, v1::Deployment> deployments_;
  std::vector<server::PutCommand> commands_;
  std::map<std::string, std::string> request_ids_;
  std::vector<std::string> violations_;
};

}  // namespace loadstar::simulation
