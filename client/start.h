// Begins a run, once: StartTest, repeated with its request_id while the answer to it is lost.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/coordinator_client.h"
#include "client/interrupts.h"
#include "client/terminal/output.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::client {

struct StartOptions {
  v1::StartTestRequest request;  // with a request_id
  // How long after the first answer that was lost the request is repeated.
  absl::Duration patience = absl::Seconds(60);
};

struct StartOutcome {
  enum class Kind {
    kStarted,
    kLeft,    // on request, before it was known whether the run began
    kFailed,  // status says why
  } kind = Kind::kFailed;
  v1::Run run;
  // A Ctrl-C came meanwhile: the run is to be stopped. It could not be sooner, as only the answer names the run; to
  // give the call up would leave a run behind that may have begun.
  bool stop = false;
  absl::Status status;
};

// The second Ctrl-C leaves at once.
StartOutcome Start(const StartOptions& options, CoordinatorClient* client, Interrupts* interrupts,
                   terminal::Output* output);

}  // namespace loadstar::client
