#include "server/service/switchboard.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "lib/rpc/rpc.h"

namespace loadstar::server {

bool Switchboard::AddSession(SessionId id, const std::weak_ptr<SessionStream>& stream) {
  absl::MutexLock lock(&mutex_);
  if (sessions_.size() >= options_.sessions_max) return false;
  sessions_[id] = {stream, absl::Now(), false};
  return true;
}

void Switchboard::SaidHello(SessionId id) {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(id);
  if (found != sessions_.end()) found->second.hello = true;
}

void Switchboard::RemoveSession(SessionId id) {
  absl::MutexLock lock(&mutex_);
  sessions_.erase(id);
}

void Switchboard::AddCall(CallId id, std::function<void(Reply)> answer) {
  absl::MutexLock lock(&mutex_);
  calls_[id] = std::move(answer);
}

void Switchboard::RemoveCall(CallId id) {
  std::function<void(Reply)> gone;  // destroyed without the lock
  absl::MutexLock lock(&mutex_);
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  gone = std::move(found->second);
  calls_.erase(found);
}

bool Switchboard::AddSubscriber(uint64_t id, const std::string& run_id, const std::weak_ptr<MetricsStream>& stream) {
  absl::MutexLock lock(&mutex_);
  if (subscribers_.size() >= options_.subscribers_max) return false;
  subscribers_[id] = {run_id, stream};
  return true;
}

void Switchboard::RemoveSubscriber(uint64_t id) {
  absl::MutexLock lock(&mutex_);
  subscribers_.erase(id);
}

void Switchboard::Sweep(absl::Time now) {
  std::vector<std::shared_ptr<SessionStream>> silent, sessions;
  std::vector<std::shared_ptr<MetricsStream>> subscribers;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, session] : sessions_) {
      if (auto stream = session.stream.lock()) {
        if (!session.hello && now - session.since > options_.hello_within) silent.push_back(stream);
        sessions.push_back(std::move(stream));
      }
    }
    for (const auto& [id, subscriber] : subscribers_) {
      if (auto stream = subscriber.stream.lock()) subscribers.push_back(std::move(stream));
    }
  }
  for (const auto& stream : silent) {
    stream->Close(rpc::ToGrpc(absl::DeadlineExceededError("a session starts with hello; none came in time")));
  }
  for (const auto& stream : sessions) {
    if (stream->WritePendingFor() <= options_.session_write_max) continue;
    spdlog::warn("session: event=cut-off reason=\"the agent does not read\"");
    stream->Cancel();
  }
  for (const auto& stream : subscribers) {
    if (stream->WritePendingFor() <= options_.subscriber_write_max) continue;
    spdlog::warn("subscriber: event=cut-off reason=\"the client does not read\"");
    stream->Cancel();
  }
}

std::shared_ptr<SessionStream> Switchboard::FindSession(SessionId id) {
  absl::MutexLock lock(&mutex_);
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.stream.lock();
}

void Switchboard::Send(SendToAgent action) {
  // A stream that has ended or overflows reports itself as closed; the core hears of it by SessionClosed.
  if (auto stream = FindSession(action.session)) stream->Send(std::move(action.message));
}

void Switchboard::Close(CloseSession action) {
  if (auto stream = FindSession(action.session)) stream->Close(rpc::ToGrpc(action.status));
}

void Switchboard::Answer(Reply action) {
  std::function<void(Reply)> answer;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = calls_.find(action.call);
    if (found == calls_.end()) return;  // the caller has gone
    if (action.last) {
      answer = std::move(found->second);
      calls_.erase(found);
    } else {
      answer = found->second;
    }
  }
  answer(std::move(action));
}

void Switchboard::Announce(Publish action) {
  std::vector<std::shared_ptr<MetricsStream>> readers;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [id, subscriber] : subscribers_) {
      if (subscriber.run_id != action.run_id) continue;
      if (auto stream = subscriber.stream.lock()) readers.push_back(std::move(stream));
    }
  }
  for (const auto& stream : readers) stream->Wake();
}

}  // namespace loadstar::server
