#include "target/shared_state.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace loadstar::target {
namespace {

constexpr double kNanosecondsPerMillisecond = 1e6;

int64_t ToNs(double ms) { return std::llround(ms * kNanosecondsPerMillisecond); }

void* Map(int fd, size_t size) { return mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); }

}  // namespace

void FaultCells::Apply(const FaultSettings& settings, int64_t now_ns) {
  delay_ns.store(ToNs(settings.delay_ms));
  for (size_t i = 0; i < delays.size(); ++i) {
    const DelayShare delay = i < settings.delays.size() ? settings.delays[i] : DelayShare();
    delays[i].delay_ns.store(ToNs(delay.ms));
    delays[i].share.store(std::llround(delay.share * static_cast<double>(kWhole)));
  }
  error_ratio.store(settings.error_ratio);
  close_ratio.store(settings.close_ratio);
  refuse.store(settings.refuse);
  stall_until_ns.store(settings.stall_ms > 0 ? now_ns + ToNs(settings.stall_ms) : 0);
}

FaultSettings FaultCells::Read(int64_t now_ns) const {
  FaultSettings settings;
  settings.delay_ms = static_cast<double>(delay_ns.load()) / kNanosecondsPerMillisecond;
  for (const DelayDice::Row& row : Delays()) {
    settings.delays.push_back({.ms = static_cast<double>(row.delay_ns) / kNanosecondsPerMillisecond,
                               .share = static_cast<double>(row.share) / static_cast<double>(kWhole)});
  }
  settings.stall_ms =
      static_cast<double>(std::max<int64_t>(stall_until_ns.load() - now_ns, 0)) / kNanosecondsPerMillisecond;
  settings.error_ratio = error_ratio.load();
  settings.close_ratio = close_ratio.load();
  settings.refuse = refuse.load();
  return settings;
}

std::vector<DelayDice::Row> FaultCells::Delays() const {
  std::vector<DelayDice::Row> rows;
  for (const DelayCell& cell : delays) {
    const DelayDice::Row row{.delay_ns = cell.delay_ns.load(), .share = cell.share.load()};
    if (row.share == 0) break;
    rows.push_back(row);
  }
  return rows;
}

absl::StatusOr<SharedState> SharedState::Create(uint32_t processes) {
  if (processes == 0 || processes > kMaxProcesses) {
    return absl::InvalidArgumentError(absl::StrCat("processes must be from 1 to ", kMaxProcesses, ", is ", processes));
  }
  os::Fd fd(memfd_create("loadstar-target", MFD_CLOEXEC));
  if (!fd || ftruncate(fd.get(), sizeof(Layout)) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make the memory shared with the serving processes");
  }
  void* memory = Map(fd.get(), sizeof(Layout));
  if (memory == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, "cannot map the memory shared with the serving processes");
  }
  auto* layout = new (memory) Layout();
  layout->parent = getpid();
  layout->processes = processes;
  return SharedState(std::move(fd), layout);
}

absl::StatusOr<SharedState> SharedState::Open(int fd) {
  os::Fd owned(fd);
  void* memory = Map(fd, sizeof(Layout));
  if (memory == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, absl::StrCat("descriptor ", fd, " is not the parent's shared memory"));
  }
  // The parent made the objects; every one of them is an atomic or was constant before the fork.
  return SharedState(std::move(owned), std::launder(static_cast<Layout*>(memory)));
}

SharedState::SharedState(SharedState&& other) noexcept
    : fd_(std::move(other.fd_)), layout_(std::exchange(other.layout_, nullptr)) {}

SharedState::~SharedState() {
  if (layout_ != nullptr) {
    munmap(layout_, sizeof(Layout));
  }
}

}  // namespace loadstar::target
