#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "lib/os/fd.h"

namespace loadstar::server {

// The gRPC server and its watchdog. gRPC 1.51 stops accepting for good once accept() has met the limit of descriptors
// (grpc#16058); so every second the watchdog connects to its own port, and when nobody speaks there while calls over a
// connection that stands are still answered, it takes the server down and builds a fresh one on the same port, within 5
// s. Clients and agents dial again. A process that is merely starved of CPU answers neither way and is left alone, up
// to rebuild_after.
class Listener {
 public:
  using Services = std::vector<std::unique_ptr<grpc::Service>>;
  struct Options {
    std::string address;  // checked by rpc::CheckAddress
    absl::Duration probe_every = absl::Seconds(1);
    absl::Duration probe_timeout = absl::Seconds(2);
    absl::Duration shutdown_within = absl::Seconds(2);  // calls still open then are cancelled
    absl::Duration rebuild_after = absl::Seconds(30);   // of silence both ways
  };
  // `make_services` is called for each server that is built: a gRPC service belongs to one. `each_second` is called by
  // the watchdog.
  Listener(Options options, std::function<Services()> make_services, std::function<void()> each_second);
  ~Listener();

  // Listens. ALREADY_EXISTS: the port is taken, by whom if that can be seen.
  absl::Status Start();
  // Stops listening, cancels what is open after shutdown_within, waits for it; bounded.
  void Stop();

  int port() const { return port_; }
  // The address with the port that was really taken.
  std::string address() const;
  // How often a dead listener was replaced.
  int rebuilds() const;

 private:
  absl::Status Build();
  void TearDown(absl::Duration within);
  void Watch();
  // Whether somebody answers over the connection that the watchdog keeps.
  bool AnswersOnStandingConnection();
  void HoldReserve();
  bool IsStopping() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_; }

  const Options options_;
  const std::function<Services()> make_services_;
  const std::function<void()> each_second_;
  int port_ = 0;  // constant after Start

  // Used by Start and Stop while the watchdog does not run, else by the watchdog.
  Services services_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> standing_;
  std::vector<os::Fd> reserve_;  // given up while a probe or a rebuild needs descriptors

  std::thread watchdog_;
  mutable absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  int rebuilds_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace loadstar::server
