#include "agent/observer/observer.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "agent/fetch/fetcher.h"
#include "agent/observer/prometheus.h"
#include "lib/os/clock.h"

namespace loadstar::agent {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

}  // namespace

class Observer::Impl {
 public:
  Impl(std::function<std::vector<NodeApi>(const std::string&)> apis, Sink sink)
      : apis_(std::move(apis)), sink_(std::move(sink)), thread_([this] { Run(); }) {}

  ~Impl() {
    fetcher_.Stop();
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void Start(const Observe& order) {
    const std::lock_guard lock(mutex_);
    // Begins with the second that is on, when told late: the seconds before it are nobody's to measure any more.
    const int64_t elapsed = std::max<int64_t>(0, os::MonotonicNs() - order.start_monotonic_ns);
    runs_[order.run_id] = {.deployment = order.deployment,
                           .start_ns = order.start_monotonic_ns,
                           .next = static_cast<uint32_t>(elapsed / kSecondNs)};
    changed_.notify_all();
  }

  void Stop(const StopObserving& order) {
    const std::lock_guard lock(mutex_);
    runs_.erase(order.run_id);
  }

 private:
  struct Watched {
    std::string deployment;
    int64_t start_ns = 0;
    uint32_t next = 0;  // the second whose end comes next
    int64_t due_ns() const { return start_ns + (int64_t{next} + 1) * kSecondNs; }
  };
  // The answers to one second's questions. Shared by the callbacks, which all run on the fetcher's thread.
  struct Round {
    NodesObserved observed;
    size_t missing = 0;
  };

  void Run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      int64_t next = INT64_MAX;
      for (const auto& [id, run] : runs_) next = std::min(next, run.due_ns());
      if (next == INT64_MAX) {
        changed_.wait(lock);
        continue;
      }
      changed_.wait_until(lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(next)));
      std::vector<std::pair<std::string, Watched>> due;
      const int64_t now = os::MonotonicNs();
      for (auto& [id, run] : runs_) {
        while (run.due_ns() <= now) {
          due.emplace_back(id, run);
          ++run.next;
        }
      }
      lock.unlock();
      for (const auto& [id, run] : due) {
        // What is asked later than half a second after the end would be the figure of another second.
        Ask(id, run, now - run.due_ns() < kSecondNs / 2);
      }
      lock.lock();
    }
  }

  void Ask(const std::string& run_id, const Watched& run, bool in_time) {
    auto round = std::make_shared<Round>();
    round->observed.run_id = run_id;
    round->observed.elapsed_s = run.next;
    if (in_time) {
      const std::vector<NodeApi> apis = apis_(run.deployment);
      std::vector<NodeApi> asked;
      std::copy_if(apis.begin(), apis.end(), std::back_inserter(asked),
                   [](const NodeApi& api) { return !api.api_address.empty(); });
      round->missing = asked.size();
      round->observed.nodes.resize(asked.size());
      for (size_t i = 0; i < asked.size(); ++i) {
        round->observed.nodes[i].set_node(asked[i].node);
        fetcher_.Get({.address = asked[i].api_address, .path = "/metrics", .timeout_ns = kTimeoutNs},
                     [this, round, i](const FetchResult& result) {
                       v1::NodeFigures& figures = round->observed.nodes[i];
                       figures.set_reachable(result.error.empty() && result.status == 200);
                       if (figures.reachable()) ReadPrometheus(result.body, &figures);
                       if (--round->missing == 0) sink_(std::move(round->observed));
                     });
      }
      if (!asked.empty()) return;
    }
    sink_(std::move(round->observed));
  }

  const std::function<std::vector<NodeApi>(const std::string&)> apis_;
  const Sink sink_;
  Fetcher fetcher_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Watched> runs_;  // guarded by mutex_
  bool stopping_ = false;                // guarded by mutex_
  std::thread thread_;
};

Observer::Observer(std::function<std::vector<NodeApi>(const std::string&)> apis, Sink sink)
    : impl_(std::make_unique<Impl>(std::move(apis), std::move(sink))) {}
Observer::~Observer() = default;
void Observer::Start(const Observe& order) { impl_->Start(order); }
void Observer::Stop(const StopObserving& order) { impl_->Stop(order); }

}  // namespace loadstar::agent
