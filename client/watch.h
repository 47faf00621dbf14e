// Follows a run to its end: the stream of its seconds to the live view, Ctrl-C to the coordinator, a lost coordinator
// to patience.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/coordinator_client.h"
#include "client/interrupts.h"
#include "client/terminal/output.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::client {

struct WatchOptions {
  std::string run_id;
  // True for the one who started the run: the first Ctrl-C (or SIGTERM) asks it to stop and goes on watching, the
  // second leaves it. False for an onlooker: the first leaves it.
  bool own = false;
  // The run is to be stopped from the start, as if the first Ctrl-C had come already.
  bool stop = false;
  // How long a coordinator that went away is tried again before giving up.
  absl::Duration patience = absl::Seconds(60);
};

struct WatchOutcome {
  enum class Kind {
    kFinished,  // run is final
    kDetached,  // left on request; the run goes on
    kFailed,    // status says why
  } kind = Kind::kFailed;
  v1::Run run;  // as last seen
  absl::Status status;
};

// `run`, when it has a run_id, is shown until the stream brings more. On return the live block stands as it was last.
WatchOutcome Watch(const WatchOptions& options, v1::Run run, CoordinatorClient* client, Interrupts* interrupts,
                   terminal::Output* output);

}  // namespace loadstar::client
