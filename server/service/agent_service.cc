#include "server/service/agent_service.h"

#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "lib/rpc/rpc.h"
#include "server/service/names.h"

namespace loadstar::server {
namespace {

// Messages of one session that wait for the engine; more are not read from the wire.
constexpr int kUnhandledMax = 16;
constexpr size_t kOutgoingMax = 1024;

// One session's part between gRPC and the engine. Invariant: SessionOpened is offered before any SessionSaid of it, and
// SessionClosed last, if and only if SessionOpened was taken.
class AgentSession : public std::enable_shared_from_this<AgentSession> {
 public:
  AgentSession(SessionId id, Engine* engine, Switchboard* switchboard)
      : id_(id), engine_(engine), switchboard_(switchboard) {}

  // True: read on.
  bool OnMessage(SessionStream& stream, v1::SessionRequest message) {
    Input input;
    if (!opened_) {
      if (absl::Status status = CheckHello(message); !status.ok()) {
        stream.Close(rpc::ToGrpc(status));
        return false;
      }
      switchboard_->SaidHello(id_);
      spdlog::info("session: event=hello session={} agent={} instance={} version={}", id_, message.hello().name(),
                   message.hello().instance_id(), message.hello().version());
      input = SessionOpened{id_, std::move(*message.mutable_hello())};
    } else if (message.has_heartbeat() || message.has_report()) {
      input = SessionSaid{id_, std::move(message)};
    } else {
      stream.Close(rpc::ToGrpc(absl::InvalidArgumentError(
          "a session says hello once, then heartbeats and reports; this message was none of them")));
      return false;
    }
    const int unhandled = ++unhandled_;
    absl::Status status = engine_->Offer(std::move(input), [self = shared_from_this(), weak = stream.weak_from_this()] {
      // Reading goes on when the engine has caught up to half.
      if (--self->unhandled_ != kUnhandledMax / 2) return;
      if (auto open = weak.lock()) open->Resume();
    });
    if (!status.ok()) {
      stream.Close(rpc::ToGrpc(status));
      return false;
    }
    opened_ = true;
    return unhandled < kUnhandledMax;
  }

  void OnDone() {
    switchboard_->RemoveSession(id_);
    // Refused only while the engine stops, and then it is of no interest any more.
    if (opened_) engine_->Offer(SessionClosed{id_}).IgnoreError();
    spdlog::info("session: event=closed session={}", id_);
  }

 private:
  static absl::Status CheckHello(const v1::SessionRequest& message) {
    if (!message.has_hello())
      return absl::InvalidArgumentError("a session starts with hello; this message was another");
    const v1::AgentHello& hello = message.hello();
    if (!IsValidName(hello.name())) return NameError("hello.name", hello.name());
    if (hello.instance_id().empty() || hello.instance_id().size() > 128) {
      return absl::InvalidArgumentError("hello.instance_id has 1 to 128 bytes");
    }
    if (hello.active_runs_size() > 1000 || hello.deployments_size() > 1000) {
      return absl::InvalidArgumentError("hello names more than 1,000 runs or deployments");
    }
    return absl::OkStatus();
  }

  const SessionId id_;
  Engine* const engine_;
  Switchboard* const switchboard_;
  bool opened_ = false;  // reactions of the stream alone, one at a time
  std::atomic<int> unhandled_{0};
};

}  // namespace

grpc::ServerBidiReactor<v1::SessionRequest, v1::SessionResponse>* AgentServiceImpl::Session(
    grpc::CallbackServerContext* context) {
  const SessionId id = switchboard_->NextId();
  auto session = std::make_shared<AgentSession>(id, engine_, switchboard_);
  auto stream = SessionStream::Create(context,
                                      {[session](SessionStream& self, v1::SessionRequest message) {
                                         return session->OnMessage(self, std::move(message));
                                       },
                                       [session] { session->OnDone(); }},
                                      kOutgoingMax);
  // Known before it is started, so that an answer to its first word finds it.
  const bool room = switchboard_->AddSession(id, stream);
  stream->Begin();
  if (!room) stream->Close(rpc::ToGrpc(absl::ResourceExhaustedError("the coordinator has too many agents; try again")));
  return stream->reactor();
}

}  // namespace loadstar::server
