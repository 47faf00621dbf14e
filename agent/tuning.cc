#include "agent/tuning.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "agent/tuner/era.h"
#include "agent/tuner/host_tuner.h"
#include "lib/os/ports.h"
#include "spdlog/spdlog.h"

namespace loadstar::agent {

class Tuning::Impl {
 public:
  Impl(Options options, Era era, Sink sink)
      : sink_(std::move(sink)),
        on_changed_(std::move(options.on_changed)),
        tree_(MakeProcSysctlTree()),
        journal_(MakeJournalFile(options.folder + "/tuning.journal")),
        files_(MakeHostFiles()),
        descriptors_(files_.get(), {.record = options.folder + "/descriptors.record"}),
        tuner_(tree_.get(), journal_.get(), &descriptors_, std::move(era),
               {.persistable = InFirstNetworkNamespace(),
                .allowed = std::move(options.allowed),
                .listening = os::ListeningPorts}),
        thread_([this] { Run(); }) {}

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    ordered_.notify_all();
    thread_.join();
  }

  void Carry(Tune order) {
    {
      const std::lock_guard lock(mutex_);
      orders_.push_back(std::move(order));
    }
    ordered_.notify_all();
  }

 private:
  void Run() {
    tuner_.Load();
    std::unique_lock lock(mutex_);
    while (true) {
      ordered_.wait(lock, [&] { return stopping_ || !orders_.empty(); });
      if (stopping_) return;
      const Tune order = std::move(orders_.front());
      orders_.pop_front();
      lock.unlock();
      Do(order);
      lock.lock();
    }
  }

  void Do(const Tune& order) {
    const bool acts = order.order.action() == v1::TUNE_ACTION_APPLY || order.order.action() == v1::TUNE_ACTION_ROLLBACK;
    size_t changed = 0;
    const absl::Status status = tuner_.CarryOut(order.order, [&](v1::TuneStep step) {
      changed += acts && step.before() != step.after() ? 1 : 0;
      sink_(TuneStepMade{.command_id = order.command_id, .step = std::move(step)});
    });
    spdlog::info("agent: event=tuned action={} profile={} changed={} status=\"{}\"",
                 v1::TuneAction_Name(order.order.action()),
                 order.order.has_profile() ? order.order.profile().name() : order.order.profile_name(), changed,
                 status.ToString());
    if (changed > 0) on_changed_();
    sink_(TuneEnded{.command_id = order.command_id, .status = status});
  }

  const Sink sink_;
  const std::function<void()> on_changed_;
  const std::unique_ptr<SysctlTree> tree_;
  const std::unique_ptr<JournalStore> journal_;
  const std::unique_ptr<HostFiles> files_;
  Descriptors descriptors_;  // the thread's
  HostTuner tuner_;          // the thread's

  std::mutex mutex_;
  std::condition_variable ordered_;
  std::deque<Tune> orders_;  // guarded by mutex_; bounded by the coordinator's pending commands
  bool stopping_ = false;    // guarded by mutex_
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<Tuning>> Tuning::Create(Options options, Sink sink) {
  absl::StatusOr<Era> era = ReadEra(os::Proc());
  if (!era.ok()) return era.status();
  return std::unique_ptr<Tuning>(
      new Tuning(std::make_unique<Impl>(std::move(options), *std::move(era), std::move(sink))));
}

Tuning::Tuning(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tuning::~Tuning() = default;
void Tuning::Carry(Tune order) { impl_->Carry(std::move(order)); }

}  // namespace loadstar::agent
