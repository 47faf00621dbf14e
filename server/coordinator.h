#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/core/coordinator_core.h"
#include "server/engine/clock.h"
#include "server/engine/engine.h"
#include "server/service/listener.h"
#include "server/service/switchboard.h"
#include "server/service/work_pool.h"
#include "server/store/reader.h"
#include "server/store/store.h"

namespace loadstar::server {

// The whole coordinator in one process: store, core, engine, services, listener. Start and Stop are called by one
// thread.
//
// Order at the end, because each refers to what follows it: listener (no call is left), pools, engine (what was taken
// is decided and durable), store.
class Coordinator {
 public:
  struct Options {
    std::string listen;
    std::string state_folder;
    CoordinatorOptions core;
    Retention keep;
    Switchboard::Options limits;
    Listener::Options listener;  // its address is `listen`
  };

  // Opens the store, restores the core and listens.
  static absl::StatusOr<std::unique_ptr<Coordinator>> Start(Options options);
  ~Coordinator();
  // Bounded; everything that was acknowledged is durable.
  void Stop();

  const Listener& listener() const { return *listener_; }

 private:
  explicit Coordinator(const Options& options) : switchboard_(options.limits) {}

  std::unique_ptr<Store> store_;
  std::unique_ptr<SteadyWallClock> clock_;
  std::unique_ptr<CoordinatorCore> core_;
  std::unique_ptr<Readers> readers_;
  Switchboard switchboard_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<WorkPool> read_pool_;
  std::unique_ptr<WorkPool> prepare_pool_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace loadstar::server
