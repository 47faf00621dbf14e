#include "agent/observer/observer.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "agent/fetch/fetcher.h"
#include "agent/host/host_counters.h"
#include "agent/observer/prometheus.h"
#include "lib/os/clock.h"

namespace loadstar::agent {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

}  // namespace

class Observer::Impl {
 public:
  Impl(std::function<std::vector<NodeApi>(const std::string&)> apis, os::Proc proc, Sink sink)
      : apis_(std::move(apis)), proc_(std::move(proc)), sink_(std::move(sink)), thread_([this] { Run(); }) {}

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
    const int64_t elapsed = os::MonotonicNs() - order.start_monotonic_ns;
    const std::lock_guard lock(mutex_);
    // Begins with the second that is on, when told late: the seconds before it are nobody's to measure any more.
    runs_[order.run_id] = {.deployment = order.deployment,
                           .start_ns = order.start_monotonic_ns,
                           .next = elapsed < 0 ? -1 : elapsed / kSecondNs,
                           .look_before = elapsed < 0};
    changed_.notify_all();
  }

  void Stop(const StopObserving& order) {
    const std::lock_guard lock(mutex_);
    runs_.erase(order.run_id);
    readings_.erase(order.run_id);
  }

 private:
  struct Watched {
    std::string deployment;
    int64_t start_ns = 0;
    int64_t next = 0;          // the second whose end comes next; -1: the start
    bool look_before = false;  // at once, how things stand ahead of the load
    int64_t due_ns() const { return start_ns + (next + 1) * kSecondNs; }
  };
  struct Reading {
    int64_t second = 0;
    HostCounters counters;
  };
  // The answers to one question to all nodes. Shared by the callbacks, which all run on the fetcher's thread.
  struct Round {
    NodesObserved observed;
    size_t missing = 0;
    int64_t until_ns = INT64_MAX;  // of no use later
  };

  void Run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      int64_t next = INT64_MAX;
      for (const auto& [id, run] : runs_) next = std::min(next, run.look_before ? 0 : run.due_ns());
      if (next == INT64_MAX) {
        changed_.wait(lock);
        continue;
      }
      changed_.wait_until(lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(next)));
      std::vector<std::pair<std::string, Watched>> due;
      std::vector<std::pair<std::string, int64_t>> read;  // the last second that is due, of each run
      const int64_t now = os::MonotonicNs();
      std::vector<std::pair<std::string, Watched>> before_load;
      for (auto& [id, run] : runs_) {
        if (std::exchange(run.look_before, false)) before_load.emplace_back(id, run);
        if (run.due_ns() > now) continue;
        for (; run.due_ns() <= now; ++run.next) due.emplace_back(id, run);
        read.emplace_back(id, run.next - 1);
      }
      lock.unlock();
      std::map<std::string, Reading> readings;
      for (const auto& [id, second] : read) readings[id] = {second, ReadHostCounters(proc_)};
      for (const auto& [id, run] : before_load) LookBefore(id, run);
      std::vector<HostObserved> observed;
      lock.lock();
      for (auto& [id, reading] : readings) {
        if (runs_.count(id) == 0) continue;  // stopped meanwhile
        const auto before = readings_.find(id);
        if (before != readings_.end()) {
          const auto seconds = static_cast<uint32_t>(reading.second - before->second.second);
          observed.push_back({id, static_cast<uint32_t>(reading.second),
                              FiguresBetween(before->second.counters, reading.counters, seconds)});
        }
        readings_[id] = std::move(reading);
      }
      lock.unlock();
      for (HostObserved& each : observed) sink_(std::move(each));
      for (const auto& [id, run] : due) {
        if (run.next < 0 || run.deployment.empty()) continue;
        // What is asked later than half a second after the end would be the figure of another second.
        Ask(id, run, now - run.due_ns() < kSecondNs / 2);
      }
      lock.lock();
    }
  }

  void LookBefore(const std::string& run_id, const Watched& run) {
    const HostCounters counters = ReadHostCounters(proc_);
    if (os::MonotonicNs() >= run.start_ns) return;  // too late: it may be of the load
    sink_(HostObserved{run_id, 0, FiguresBetween(counters, counters, 0), true});
    if (run.deployment.empty()) return;
    auto round = std::make_shared<Round>();
    round->observed.run_id = run_id;
    round->observed.before = true;
    round->until_ns = run.start_ns;
    (void)AskNodes(run.deployment, round);
  }

  void Ask(const std::string& run_id, const Watched& run, bool in_time) {
    auto round = std::make_shared<Round>();
    round->observed.run_id = run_id;
    round->observed.elapsed_s = static_cast<uint32_t>(run.next);
    if (in_time && AskNodes(run.deployment, round)) return;
    sink_(std::move(round->observed));
  }

  // False when there is nobody to ask: then nothing follows.
  bool AskNodes(const std::string& deployment, const std::shared_ptr<Round>& round) {
    const std::vector<NodeApi> apis = apis_(deployment);
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
                     if (--round->missing == 0 && os::MonotonicNs() < round->until_ns) {
                       sink_(std::move(round->observed));
                     }
                   });
    }
    return !asked.empty();
  }

  const std::function<std::vector<NodeApi>(const std::string&)> apis_;
  const os::Proc proc_;
  const Sink sink_;
  Fetcher fetcher_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Watched> runs_;      // guarded by mutex_
  std::map<std::string, Reading> readings_;  // of the host, the last of each run; guarded by mutex_
  bool stopping_ = false;                    // guarded by mutex_
  std::thread thread_;
};

Observer::Observer(std::function<std::vector<NodeApi>(const std::string&)> apis, os::Proc proc, Sink sink)
    : impl_(std::make_unique<Impl>(std::move(apis), std::move(proc), std::move(sink))) {}
Observer::~Observer() = default;
void Observer::Start(const Observe& order) { impl_->Start(order); }
void Observer::Stop(const StopObserving& order) { impl_->Stop(order); }

}  // namespace loadstar::agent
