#include "agent/tuning.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "agent/tuner/colima/machine_tuner.h"
#include "agent/tuner/colima/program_runner.h"
#include "agent/tuner/colima/this_host.h"
#include "agent/tuner/era.h"
#include "agent/tuner/host_tuner.h"
#include "agent/tuner/settings_lock.h"
#include "lib/os/fd.h"
#include "lib/os/ports.h"
#include "spdlog/spdlog.h"

namespace loadstar::agent {

class Tuning::Impl {
 public:
  Impl(Options options, const Era& era, os::Fd stop, Sink sink)
      : stop_(std::move(stop)),
        runner_(MakeProgramRunner(Environment(), stop_.get())),
        machine_(
            runner_.get(), HostSystem::kLinux,
            [name = std::move(options.machine)] { return SettingsHere(Environment(), HostSystem::kLinux, name); },
            options.allowed),
        sink_(std::move(sink)),
        on_changed_(std::move(options.on_changed)),
        tree_(MakeProcSysctlTree()),
        journal_(MakeJournalFile(options.folder + "/tuning.journal")),
        files_(MakeHostFiles()),
        descriptors_(files_.get(), {.record = options.folder + "/descriptors.record"}),
        modules_({.record = options.folder + "/modules.record", .era = era.of_host}),
        tuner_(tree_.get(), journal_.get(), &descriptors_, &modules_, era,
               {.persistable = InFirstNetworkNamespace(),
                .allowed = std::move(options.allowed),
                .kernel = ReadKernelFacts(os::Proc()),
                .listening = os::ListeningPorts,
                .claim = [this](v1::SysctlScope scope) { return lock_.Take(scope); },
                .may_claim = [this](v1::SysctlScope scope) { return lock_.Ask(scope); },
                .keep_claims = [this](const std::set<v1::SysctlScope>& scopes) { lock_.Keep(scopes); },
                .other_tuners = [] { return FindOtherTuners("", os::Proc()); }}),
        thread_([this] { Run(); }) {}

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    ordered_.notify_all();
    eventfd_write(stop_.get(), 1);
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
    const absl::Status status = Dispatch(order.order, [&](v1::TuneStep step) {
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

  absl::Status Dispatch(const v1::TuneHost& order, const HostTuner::Tell& tell) {
    if (order.has_profile()) {
      return order.profile().has_virtual_machine() ? machine_.CarryOut(order, tell) : tuner_.CarryOut(order, tell);
    }
    const std::string& name = order.profile_name();
    if (!machine_.HasApplied(name)) return tuner_.CarryOut(order, tell);
    // A host that it is not applied to has nothing to say, which is no obstacle when the machine has.
    const bool nothing = (order.action() == v1::TUNE_ACTION_VERIFY || !name.empty()) && !tuner_.HasApplied(name);
    const absl::Status of_host = nothing ? absl::OkStatus() : tuner_.CarryOut(order, tell);
    const absl::Status of_machine = machine_.CarryOut(order, tell);
    return of_host.ok() ? of_machine : of_host;
  }

  const os::Fd stop_;  // readable when it ends
  const std::unique_ptr<ProgramRunner> runner_;
  MachineTuner machine_;  // the thread's
  const Sink sink_;
  const std::function<void()> on_changed_;
  const std::unique_ptr<SysctlTree> tree_;
  const std::unique_ptr<JournalStore> journal_;
  const std::unique_ptr<HostFiles> files_;
  SettingsLock lock_;        // the thread's
  Descriptors descriptors_;  // the thread's
  Modules modules_;          // the thread's
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
  os::Fd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return absl::ErrnoToStatus(errno, "eventfd");
  return std::unique_ptr<Tuning>(
      new Tuning(std::make_unique<Impl>(std::move(options), *era, std::move(stop), std::move(sink))));
}

Tuning::Tuning(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tuning::~Tuning() = default;
void Tuning::Carry(Tune order) { impl_->Carry(std::move(order)); }

}  // namespace loadstar::agent
