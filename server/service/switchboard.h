// server/service: gRPC on one side, the engine on the other. Handlers check, convert, hand over and map the error.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "lib/rpc/bidi_server.h"
#include "lib/rpc/pull_writer.h"
#include "loadstar/v1/agent_service.pb.h"
#include "loadstar/v1/coordinator_service.pb.h"
#include "server/engine/engine.h"

namespace loadstar::server {

using SessionStream = rpc::BidiServer<v1::SessionRequest, v1::SessionResponse>;
using MetricsStream = rpc::PullWriter<v1::StreamMetricsResponse>;

// Finds the stream or call that an action of the core is meant for. Streams are held weakly: gRPC owns them.
// Thread-safe; its lock is never held while a stream or callback is used.
class Switchboard final : public Outlet {
 public:
  struct Options {
    size_t sessions_max = 1024;
    size_t subscribers_max = 1024;
    // A session says hello within this.
    absl::Duration hello_within = absl::Seconds(10);
    // An agent that does not read for so long is cut off; it dials again.
    absl::Duration session_write_max = absl::Seconds(30);
    // A subscriber that does not read for so long is cut off.
    absl::Duration subscriber_write_max = absl::Minutes(5);
  };
  explicit Switchboard(Options options) : options_(options) {}
  Switchboard() : Switchboard(Options()) {}

  // Of every number given out, none is given again.
  uint64_t NextId() { return ++last_id_; }

  // A session that has not said hello yet; false when there are too many.
  bool AddSession(SessionId id, const std::weak_ptr<SessionStream>& stream);
  void SaidHello(SessionId id);
  void RemoveSession(SessionId id);

  // Calls `answer` for each Reply to the call, up to and including the last.
  void AddCall(CallId id, std::function<void(Reply)> answer);
  void RemoveCall(CallId id);

  // A reader of a run; false when there are too many.
  bool AddSubscriber(uint64_t id, const std::string& run_id, const std::weak_ptr<MetricsStream>& stream);
  void RemoveSubscriber(uint64_t id);

  // Cuts off whoever keeps us waiting; called about once a second.
  void Sweep(absl::Time now);

  void Send(SendToAgent action) override;
  void Close(CloseSession action) override;
  void Answer(Reply action) override;
  void Announce(Publish action) override;

 private:
  struct Session {
    std::weak_ptr<SessionStream> stream;
    absl::Time since;
    bool hello = false;
  };
  struct Subscriber {
    std::string run_id;
    std::weak_ptr<MetricsStream> stream;
  };
  std::shared_ptr<SessionStream> FindSession(SessionId id);

  const Options options_;
  std::atomic<uint64_t> last_id_{0};
  absl::Mutex mutex_;
  std::map<SessionId, Session> sessions_ ABSL_GUARDED_BY(mutex_);
  std::map<CallId, std::function<void(Reply)>> calls_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Subscriber> subscribers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace loadstar::server
