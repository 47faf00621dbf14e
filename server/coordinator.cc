#include "server/coordinator.h"

#include <spdlog/spdlog.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "server/service/agent_service.h"
#include "server/service/coordinator_service.h"

namespace loadstar::server {
namespace {

constexpr size_t kReaders = 3;
constexpr size_t kReadQueueMax = 4096;  // one task per subscriber and call
constexpr size_t kPreparers = 2;
constexpr size_t kPrepareQueueMax = 64;  // each holds a document of up to 1 MiB
// Between steps of tidying up while there is more to do, and when there was nothing.
constexpr absl::Duration kTidySoon = absl::Milliseconds(100);
constexpr absl::Duration kTidyLater = absl::Minutes(1);

absl::Duration TidyUp(Store* store, const Retention& keep, absl::Time now) {
  const absl::StatusOr<Tidied> tidied = store->Tidy(keep, now);
  if (!tidied.ok()) {
    spdlog::warn("store: event=not-tidied error=\"{}\"", std::string(tidied.status().message()));
    return kTidyLater;
  }
  if (!tidied->run_id.empty()) {
    spdlog::info("store: event=run-deleted run={} reason=\"{}\" keep_runs={} keep_days={}", tidied->run_id, tidied->why,
                 keep.runs, absl::ToInt64Hours(keep.age) / 24);
  }
  return tidied->more ? kTidySoon : kTidyLater;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(Options options) {
  std::unique_ptr<Coordinator> self(new Coordinator(options));
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(options.state_folder);
  if (!store.ok()) return store.status();
  self->store_ = std::move(*store);
  absl::StatusOr<absl::Time> last = self->store_->LastNow();
  if (!last.ok()) return last.status();
  self->clock_ = std::make_unique<SteadyWallClock>(absl::Now(), *last);
  const absl::Time now = self->clock_->Now();
  absl::StatusOr<Restored> restored = self->store_->Load(now);
  if (!restored.ok()) return restored.status();
  self->core_ = std::make_unique<CoordinatorCore>(options.core, std::move(*restored), now);
  absl::StatusOr<std::unique_ptr<Readers>> readers = Readers::Open(self->store_->path(), kReaders);
  if (!readers.ok()) return readers.status();
  self->readers_ = std::move(*readers);

  Decider decider{[core = self->core_.get()](Input input, absl::Time at, std::vector<Action>* actions) {
                    core->Handle(std::move(input), at, actions);
                  },
                  [core = self->core_.get()] { return core->NextTick(); },
                  [into = self->store_.get()](const std::vector<Action>& actions, absl::Time at) {
                    return into->Apply(actions, at);
                  },
                  [core = self->core_.get()](CallId call) { core->Revoke(call); },
                  [store = self->store_.get(), keep = options.keep](absl::Time at) { return TidyUp(store, keep, at); }};
  self->engine_ = std::make_unique<Engine>(
      std::move(decider), [clock = self->clock_.get()] { return clock->Now(); }, &self->switchboard_);
  self->read_pool_ = std::make_unique<WorkPool>(kReaders, kReadQueueMax);
  self->prepare_pool_ = std::make_unique<WorkPool>(kPreparers, kPrepareQueueMax);

  Backend backend{self->engine_.get(),    &self->switchboard_,       self->readers_.get(),
                  self->read_pool_.get(), self->prepare_pool_.get(), LOADSTAR_VERSION};
  options.listener.address = options.listen;
  self->listener_ = std::make_unique<Listener>(
      options.listener,
      [backend] {
        Listener::Services services;
        services.push_back(std::make_unique<AgentServiceImpl>(backend.engine, backend.switchboard));
        services.push_back(std::make_unique<CoordinatorServiceImpl>(backend));
        return services;
      },
      [switchboard = &self->switchboard_] { switchboard->Sweep(absl::Now()); });
  self->engine_->Start();
  if (absl::Status status = self->listener_->Start(); !status.ok()) return status;
  return self;
}

Coordinator::~Coordinator() { Stop(); }

void Coordinator::Stop() {
  if (listener_ != nullptr) listener_->Stop();
  if (prepare_pool_ != nullptr) prepare_pool_->Stop();
  if (read_pool_ != nullptr) read_pool_->Stop();
  if (engine_ != nullptr) engine_->Stop();
}

}  // namespace loadstar::server
