#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::agent {

// What must be known of a deployment after a crash of the agent: FOLDER/journal.json, replaced atomically. It is
// written before the first process is started, after every start, and when the deployment stands.
struct Journal {
  struct Node {
    v1::NodeSpec spec;
    pid_t pid = 0;             // 0: not started, or not known
    uint64_t start_ticks = 0;  // with pid, the process's identity
    uint32_t restarts = 0;
  };
  std::string deployment;
  bool complete = false;  // every node was healthy once: the deployment is to be taken over by the next life
  std::vector<Node> nodes;
};

absl::Status WriteJournal(const std::string& folder, const Journal& journal);
// NOT_FOUND when there is none; an error when it is not understood.
absl::StatusOr<Journal> ReadJournal(const std::string& folder);
absl::Status RemoveJournal(const std::string& folder);

}  // namespace loadstar::agent
