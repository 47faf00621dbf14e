#include "agent/worker/usage.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "lib/os/clock.h"

namespace loadstar::worker {
namespace {

// The first numbers of a file of numbers; false when it has fewer.
template <size_t kCount>
bool ReadNumbers(const os::Fd& file, std::array<uint64_t, kCount>* numbers) {
  std::array<char, 128> text{};
  const ssize_t length = file ? pread(file.get(), text.data(), text.size(), 0) : -1;
  if (length <= 0) return false;
  std::string_view rest(text.data(), static_cast<size_t>(length));
  for (uint64_t& number : *numbers) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (error != std::errc()) return false;
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  }
  return true;
}

}  // namespace

UsageMeter::UsageMeter(const std::string& self)
    : statm_(open((self + "/statm").c_str(), O_RDONLY | O_CLOEXEC)),
      schedstat_(open((self + "/schedstat").c_str(), O_RDONLY | O_CLOEXEC)) {}

UsageMeter::Reading UsageMeter::Read(int64_t now_ns, const net::LoopStats& loop) const {
  Reading reading{.now_ns = now_ns, .cpu_ns = static_cast<uint64_t>(os::ProcessCpuNs()), .loop = loop};
  // Time on a core, time of waiting for one, slices; of this process's only thread.
  std::array<uint64_t, 3> schedule{};
  // A kernel that does not count them writes zeros, and this process has had a slice.
  reading.has_core_wait = ReadNumbers(schedstat_, &schedule) && schedule[2] > 0;
  reading.core_wait_ns = schedule[1];
  return reading;
}

void UsageMeter::Begin(int64_t now_ns, const net::LoopStats& loop) { last_ = Read(now_ns, loop); }

void UsageMeter::Take(int64_t now_ns, const net::LoopStats& loop, v1::WorkerUsage* usage) {
  const Reading now = Read(now_ns, loop);
  usage->set_interval_ns(static_cast<uint64_t>(now.now_ns - last_.now_ns));
  usage->set_cpu_ns(now.cpu_ns - last_.cpu_ns);
  if (now.has_core_wait && last_.has_core_wait) usage->set_core_wait_ns(now.core_wait_ns - last_.core_wait_ns);
  usage->set_loop_turns(now.loop.turns - last_.loop.turns);
  usage->set_queue_overflows(now.loop.queue_overflows - last_.loop.queue_overflows);
  last_ = now;
  // All pages, resident ones, and of those the ones of files and shared memory: what is left is RssAnon.
  std::array<uint64_t, 3> pages{};
  if (!ReadNumbers(statm_, &pages)) return;
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  usage->set_rss_bytes(pages[1] * page);
  if (pages[1] >= pages[2]) usage->set_rss_anon_bytes((pages[1] - pages[2]) * page);
}

}  // namespace loadstar::worker
