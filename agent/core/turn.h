// One turn of the agent's core: one input, one instant, one list of actions.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/core/agent_core.h"
#include "agent/core/clock_sync.h"
#include "agent/core/command_log.h"
#include "agent/core/report_log.h"

namespace loadstar::agent {

struct Turn {
  int64_t now_ns;
  const AgentOptions& options;
  const ClockSync& clock;
  ReportLog& log;
  CommandLog& commands;
  WorkerId& last_worker;
  std::vector<Action>* actions;

  void Do(Action action) const { actions->push_back(std::move(action)); }
  uint64_t Report(v1::Report report) const { return log.Append(std::move(report)); }
  void End(const std::string& command_id, const absl::Status& status) const { commands.End(command_id, status, &log); }
};

}  // namespace loadstar::agent
