#include "agent/session/session.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "lib/os/clock.h"
#include "lib/rpc/bidi_client.h"
#include "lib/rpc/rpc.h"
#include "loadstar/v1/agent_service.grpc.pb.h"
#include "spdlog/spdlog.h"

namespace loadstar::agent {
namespace {

using Stream = rpc::BidiClient<v1::SessionRequest, v1::SessionResponse>;
constexpr std::chrono::milliseconds kLookEvery{500};

}  // namespace

class Session::Impl {
 public:
  Impl(Options options, Inbox* inbox)
      : options_(std::move(options)), inbox_(inbox), random_(std::random_device{}()), thread_([this] { Run(); }) {}

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void Send(v1::SessionRequest message) {
    // Under the mutex, so that this thread never holds the stream's last reference, whose end would make it wait.
    const std::lock_guard lock(mutex_);
    greeted_ = greeted_ || message.has_hello();
    if (greeted_ && stream_ != nullptr) stream_->Send(std::move(message));  // a full queue ends the stream
  }

 private:
  void Run() {
    int64_t backoff = options_.backoff_first_ns;
    std::string last_problem;
    while (!Stopping()) {
      bool spoke = false;
      const std::string problem = RunStream(&spoke);
      if (Stopping()) return;
      if (spoke) backoff = options_.backoff_first_ns;
      // Said once for each problem: a coordinator may be away for days.
      if (spoke || problem != last_problem) {
        spdlog::warn("session: event=down coordinator={} reason=\"{}\"", options_.coordinator, problem);
        last_problem = problem;
      }
      const double share = std::uniform_real_distribution<double>(0.5, 1.0)(random_);
      Pause(static_cast<int64_t>(static_cast<double>(backoff) * share));
      backoff = std::min(backoff * 2, options_.backoff_max_ns);
    }
  }

  bool Stopping() {
    const std::lock_guard lock(mutex_);
    return stopping_;
  }

  void Pause(int64_t ns) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::nanoseconds(ns), [&] { return stopping_; });
  }

  // One stream from dial to end. Returns why it ended; *spoke: the coordinator said something on it.
  std::string RunStream(bool* spoke) {
    // A channel of its own, so that the time of the next attempt is decided here and not by gRPC's backoff as well.
    const std::shared_ptr<grpc::Channel> channel = rpc::MakeChannel(options_.coordinator);
    if (!Connect(channel.get())) return "cannot be reached";
    const std::unique_ptr<v1::AgentService::Stub> stub = v1::AgentService::NewStub(channel);

    std::unique_lock lock(mutex_);
    ended_.reset();
    greeted_ = false;
    heard_ = false;
    heard_ns_ = os::MonotonicNs();
    flooded_ = false;
    stream_ = Stream::Start(
        [&](grpc::ClientContext* context, grpc::ClientBidiReactor<v1::SessionRequest, v1::SessionResponse>* reactor) {
          stub->async()->Session(context, reactor);
        },
        {.on_message = [this](v1::SessionResponse message) { OnMessage(std::move(message)); },
         .on_done = [this](const grpc::Status& status) { OnDone(status); }},
        options_.queue_max);
    const std::shared_ptr<Stream> stream = stream_;
    lock.unlock();
    inbox_->Push(SessionUp{});

    std::string ended_because;
    lock.lock();
    while (!ended_) {
      changed_.wait_for(lock, kLookEvery, [&] { return ended_.has_value() || stopping_; });
      if (ended_) break;
      std::string reason;
      if (stopping_) {
        reason = "the agent stops";
      } else if (flooded_) {
        reason = "it sent more than the agent could take";
      } else if (os::MonotonicNs() - heard_ns_ > options_.silence_ns) {
        reason = "it is silent";
      } else if (absl::ToInt64Nanoseconds(stream->WritePendingFor()) > options_.stall_ns) {
        reason = "it does not read";
      }
      if (reason.empty()) continue;
      if (ended_because.empty()) ended_because = reason;
      lock.unlock();
      stream->Cancel();
      // on_done has nothing to wait for after a cancel; without its end the callbacks could outlive this object.
      while (!stream->Wait(absl::Seconds(10)))
        spdlog::error("session: event=stuck reason=\"gRPC does not end the stream\"");
      lock.lock();
    }
    stream_ = nullptr;
    *spoke = heard_;
    if (ended_because.empty()) ended_because = *ended_;
    lock.unlock();
    // on_done has been entered: returns at once. The channel ends with this function, on this thread.
    stream->Wait(absl::InfiniteDuration());
    inbox_->Push(SessionDown{});
    return ended_because;
  }

  // Waits until the channel stands; false when it cannot, in time or at all.
  bool Connect(grpc::Channel* channel) {
    const int64_t deadline = os::MonotonicNs() + options_.connect_timeout_ns;
    grpc_connectivity_state state = channel->GetState(true);
    while (!Stopping() && os::MonotonicNs() < deadline) {
      if (state == GRPC_CHANNEL_READY) return true;
      if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) return false;
      channel->WaitForStateChange(state, std::chrono::system_clock::now() + std::chrono::milliseconds(100));
      state = channel->GetState(true);
    }
    return false;
  }

  // ---- On gRPC's threads

  void OnMessage(v1::SessionResponse message) {
    const bool taken = inbox_->TryPush(CoordinatorSaid{std::move(message)});
    const std::lock_guard lock(mutex_);
    heard_ = true;
    heard_ns_ = os::MonotonicNs();
    if (!taken) {
      // What comes after a message that was lost must not be taken either.
      flooded_ = true;
      changed_.notify_all();
    }
  }

  void OnDone(const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    ended_ = status.ok() ? std::string("it ended the session")
                         : std::string(rpc::FromGrpc(status).ToString(absl::StatusToStringMode::kWithNoExtraData));
    changed_.notify_all();
  }

  const Options options_;
  Inbox* const inbox_;
  std::mt19937_64 random_;  // the thread's own

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  std::shared_ptr<Stream> stream_;
  std::optional<std::string> ended_;  // of the current stream: why
  bool greeted_ = false;
  bool heard_ = false;
  bool flooded_ = false;
  int64_t heard_ns_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

Session::Session(Options options, Inbox* inbox) : impl_(std::make_unique<Impl>(std::move(options), inbox)) {}
Session::~Session() = default;
void Session::Send(v1::SessionRequest message) { impl_->Send(std::move(message)); }

}  // namespace loadstar::agent
