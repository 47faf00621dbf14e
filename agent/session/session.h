#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "agent/inbox.h"
#include "loadstar/v1/agent_service.pb.h"

namespace loadstar::agent {

// The agent's stream to its coordinator: dialled, watched and dialled again for as long as the object lives.
//
// One thread connects and watches. For each stream the inbox gets SessionUp, then CoordinatorSaid for each message,
// then SessionDown; the next stream follows after a jittered backoff (first to max, doubling; back to first after a
// stream on which the coordinator spoke). A stream is ended, and so begun anew, when the coordinator is silent for
// `silence_ns` (it answers a heartbeat every two seconds), when a write is pending for `stall_ns` (gRPC itself would
// wait for ever), or when a queue is full. Nothing that was lost in that way matters: the core sends its reports again.
class Session {
 public:
  struct Options {
    std::string coordinator;
    int64_t backoff_first_ns = 200'000'000;
    int64_t backoff_max_ns = 5'000'000'000;
    int64_t connect_timeout_ns = 5'000'000'000;
    int64_t silence_ns = 15'000'000'000;
    int64_t stall_ns = 10'000'000'000;
    size_t queue_max = 16'384;  // messages that wait to be sent
  };

  // `inbox` outlives the session.
  Session(Options options, Inbox* inbox);
  // Ends the stream and waits for gRPC to be done with it.
  ~Session();

  // Queues a message for the stream that is up. Dropped when none is, and on a new stream until the core has said hello
  // on it: what was meant for the stream before has no place there. Never blocks.
  void Send(v1::SessionRequest message);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace loadstar::agent
