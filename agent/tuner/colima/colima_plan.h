// What has to be done with a virtual machine so that it is what a profile wants. Pure: facts in, steps out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/tuner/colima/colima_cli.h"
#include "agent/tuner/colima/colima_config.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// The engine's limits of open files, as its daemon.json has them; UINT64_MAX: no limit. 0: it says nothing.
struct EngineLimits {
  uint64_t soft = 0;
  uint64_t hard = 0;
};
// The engine's daemon.json, whose names Go takes in any case. Nothing is said by a text that is no JSON.
EngineLimits ReadEngineLimits(std::string_view daemon_json);

// What is known before anything is done. What only a running machine tells is absent when it does not run or did not
// tell.
struct MachineFacts {
  std::optional<Machine> machine;
  std::optional<MachineDetails> details;
  std::optional<EngineLimits> limits;
  std::optional<uint64_t> containers;  // that run in it
  ColimaConfig config;
  uint64_t host_cores = 0;  // 0: not known
  uint64_t host_memory_bytes = 0;
  bool hardware_virtualization = true;
};

struct MachinePlan {
  enum class Action : uint8_t {
    kNothing,  // it runs and is left running
    kCreate,
    kStart,
    kRestart,
    kBlocked,  // what is wanted cannot be had of this machine: nothing may be done
  };
  Action action = Action::kNothing;
  // What a start is told and the configuration has to say: the larger of what is wanted and what is there.
  StartOptions options;
  // One for each property, with the reason where it is not as wanted. They say what is done: of those with an obstacle,
  // nothing.
  std::vector<v1::TuneStep> steps;
};

// What a restart is for.
enum class Restart : uint8_t {
  kNever,    // the machine is not started either
  kRefused,  // it is started when it does not run
  kAllowed,
};

// The machine is never made smaller: more than is wanted is left. `vm_type` may be empty: whatever it is. Runtime,
// architecture, type and kind of mount cannot change after it was created: each that differs from what is wanted or
// configured is an obstacle, and runtime and type, which the profile depends on or the user asks for, block the plan.
MachinePlan PlanMachine(const MachineFacts& facts, const v1::TuningProfile& profile, const std::string& vm_type,
                        Restart restart);

}  // namespace loadstar::agent
