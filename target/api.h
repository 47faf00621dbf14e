#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "lib/net/loop.h"
#include "target/options.h"
#include "target/shared_state.h"
#include "target/supervisor.h"

namespace loadstar::target {

// The node's HTTP API, in threads of its own: GET /health, GET /metrics, GET and POST /fault, POST / (JSON-RPC). It is
// served by the parent, so it answers even while every serving process is stalled.
class Api {
 public:
  // Binds the address, so that a taken port is known before anything is started. ALREADY_EXISTS names who holds it.
  static absl::StatusOr<std::unique_ptr<Api>> Bind(const net::Address& address);
  ~Api();

  const net::Address& address() const;
  // Begins to answer. What is given outlives this object.
  void Start(const Options* options, const SharedState* state, Supervisor* supervisor);
  // Ends the threads. Returns false when a client kept one of them busy for longer than `patience_ms`: then this object
  // must not be destroyed any more, only the process ended.
  bool Stop(int patience_ms);

 private:
  class Impl;
  explicit Api(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace loadstar::target
