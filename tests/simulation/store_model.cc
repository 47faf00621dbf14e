#include "tests/simulation/store_model.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace loadstar::simulation {

void StoreModel::Commit(const std::vector<server::Action>& actions) {
  for (const server::Action& action : actions) {
    if (const auto* put = std::get_if<server::PutRun>(&action)) {
      const auto known = runs_.find(put->run.run_id());
      if (known != runs_.end() && known->second.state() == v1::RUN_STATE_FINISHED) {
        violations_.push_back(absl::StrCat("run ", put->run.run_id(), " was written after it had finished"));
      }
      if (known != runs_.end() && put->run.state() < known->second.state()) {
        violations_.push_back(absl::StrCat("run ", put->run.run_id(), " went back in its states"));
      }
      runs_[put->run.run_id()] = put->run;
      if (!put->request_id.empty()) request_ids_[put->request_id] = put->run.run_id();
    } else if (const auto* sample = std::get_if<server::PutSample>(&action)) {
      const auto key = std::make_tuple(sample->sample.run_id(), sample->agent, sample->sample.elapsed_s());
      if (!sample_keys_.emplace(key, samples_.size()).second) {
        violations_.push_back(
            absl::StrCat("second ", sample->sample.elapsed_s(), " of ", sample->agent, " was stored twice"));
      }
      samples_.push_back(*sample);
    } else if (const auto* snapshot = std::get_if<server::PutSnapshot>(&action)) {
      const std::string& run = snapshot->snapshot.run_id();
      const uint32_t k = snapshot->snapshot.to_elapsed_s();
      if (k > 0 && snapshots_.count({run, k - 1}) == 0) {
        violations_.push_back(absl::StrCat("snapshot ", k, " of ", run, " came before the one before it"));
      }
      snapshots_[{run, k}] = snapshot->snapshot;
    } else if (const auto* cursor = std::get_if<server::PutCursor>(&action)) {
      uint64_t& stored = cursors_[{cursor->agent, cursor->instance_id}];
      if (cursor->sequence != stored + 1) {
        violations_.push_back(
            absl::StrCat("cursor of ", cursor->agent, " jumped from ", stored, " to ", cursor->sequence));
      }
      stored = cursor->sequence;
    } else if (const auto* forgotten = std::get_if<server::DeleteCursors>(&action)) {
      std::erase_if(cursors_, [&](const auto& entry) {
        return entry.first.first == forgotten->agent &&
               (forgotten->instance_id.empty() || entry.first.second == forgotten->instance_id);
      });
    } else if (const auto* deployment = std::get_if<server::PutDeployment>(&action)) {
      deployments_[deployment->deployment.name()] = deployment->deployment;
    } else if (const auto* gone = std::get_if<server::DeleteDeployment>(&action)) {
      deployments_.erase(gone->name);
    } else if (const auto* command = std::get_if<server::PutCommand>(&action)) {
      commands_.push_back(*command);
    } else if (const auto* done = std::get_if<server::DeleteCommand>(&action)) {
      std::erase_if(commands_, [&](const auto& c) { return c.command.command_id() == done->command_id; });
    }
  }
}

server::Restored StoreModel::Restore() const {
  server::Restored restored;
  for (const auto& [id, run] : runs_) {
    restored.recent_run_ids.push_back(id);
    if (run.state() != v1::RUN_STATE_FINISHED) restored.unfinished_runs.push_back(run);
  }
  for (const server::PutSample& sample : samples_) {
    if (runs_.at(sample.sample.run_id()).state() != v1::RUN_STATE_FINISHED) restored.samples.push_back(sample);
  }
  for (const auto& [key, sequence] : cursors_) restored.cursors.push_back({{key.first, key.second, sequence}});
  for (const auto& [name, deployment] : deployments_) restored.deployments.push_back(deployment);
  restored.commands = commands_;
  restored.request_ids = request_ids_;
  return restored;
}

std::vector<v1::Snapshot> StoreModel::SnapshotsOf(const std::string& run_id) const {
  std::vector<v1::Snapshot> all;
  for (const auto& [key, snapshot] : snapshots_) {
    if (key.first == run_id) all.push_back(snapshot);
  }
  return all;
}

}  // namespace loadstar::simulation
