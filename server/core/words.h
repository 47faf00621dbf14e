// Names of the API's values as people read them in events and refusals: "preparing", never RUN_STATE_PREPARING.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::server {

inline absl::string_view Words(v1::RunState state) {
  switch (state) {
    case v1::RUN_STATE_PREPARING:
      return "preparing";
    case v1::RUN_STATE_STARTING:
      return "starting";
    case v1::RUN_STATE_RUNNING:
      return "running";
    case v1::RUN_STATE_STOPPING:
      return "stopping";
    case v1::RUN_STATE_FINISHED:
      return "finished";
    default:
      return "in no known state";
  }
}

// What a node or deployment does: "node1 is healthy".
inline absl::string_view Predicate(v1::DeploymentState state) {
  switch (state) {
    case v1::DEPLOYMENT_STATE_STARTING:
      return "is starting";
    case v1::DEPLOYMENT_STATE_HEALTHY:
      return "is healthy";
    case v1::DEPLOYMENT_STATE_UNHEALTHY:
      return "is not healthy";
    case v1::DEPLOYMENT_STATE_STOPPING:
      return "is stopping";
    case v1::DEPLOYMENT_STATE_STOPPED:
      return "is stopped";
    case v1::DEPLOYMENT_STATE_UNKNOWN:
      return "is out of sight";
    default:
      return "has failed";
  }
}

// "1 worker", "2 workers".
inline std::string Counted(size_t count, absl::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

}  // namespace loadstar::server
