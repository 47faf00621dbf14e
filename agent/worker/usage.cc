#include "agent/worker/usage.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <ctime>
#include <string_view>

namespace loadstar::worker {
namespace {

uint64_t CpuTime() {
  timespec time{};
  if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) != 0) return 0;
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace

UsageMeter::UsageMeter() : statm_fd_(open("/proc/self/statm", O_RDONLY | O_CLOEXEC)), cpu_ns_(CpuTime()) {}

UsageMeter::~UsageMeter() {
  if (statm_fd_ >= 0) close(statm_fd_);
}

void UsageMeter::Take(v1::WorkerUsage* usage) {
  const uint64_t cpu_ns = CpuTime();
  usage->set_cpu_ns(cpu_ns - cpu_ns_);
  cpu_ns_ = cpu_ns;
  char text[128];
  const ssize_t length = statm_fd_ >= 0 ? pread(statm_fd_, text, sizeof(text), 0) : -1;
  if (length <= 0) return;
  // "total resident ...", in pages.
  const std::string_view fields(text, static_cast<size_t>(length));
  const size_t space = fields.find(' ');
  uint64_t pages = 0;
  if (space == std::string_view::npos) return;
  std::from_chars(fields.data() + space + 1, fields.data() + fields.size(), pages);
  usage->set_rss_bytes(pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
}

}  // namespace loadstar::worker
