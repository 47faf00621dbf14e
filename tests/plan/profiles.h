// Profiles for the tests of lib/plan.
#pragma once

#include <cstdint>
#include <vector>

#include "loadstar/v1/spec.pb.h"

namespace loadstar::plan {

struct StageOf {
  int64_t duration_ns;
  uint64_t to;
};

inline void SetNs(google::protobuf::Duration* duration, int64_t ns) {
  duration->set_seconds(ns / 1'000'000'000);
  duration->set_nanos(static_cast<int32_t>(ns % 1'000'000'000));
}

inline v1::LoadSpec LoadOf(const std::vector<StageOf>& stages) {
  v1::LoadSpec load;
  for (const StageOf& stage : stages) {
    v1::Stage* added = load.add_connections();
    SetNs(added->mutable_duration(), stage.duration_ns);
    added->set_to_connections(stage.to);
  }
  return load;
}

inline v1::LoadUpdate UpdateOf(uint64_t connections, int64_t ramp_ns) {
  v1::LoadUpdate update;
  update.set_connections(connections);
  SetNs(update.mutable_ramp(), ramp_ns);
  return update;
}

}  // namespace loadstar::plan
