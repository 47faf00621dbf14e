#include "agent/host/host_monitor.h"

#include <chrono>
#include <utility>

#include "agent/host/host_facts.h"

namespace loadstar::agent {

HostMonitor::HostMonitor(os::Proc proc, os::DescriptorLimit limit, Sink sink)
    : proc_(std::move(proc)), limit_(limit), sink_(std::move(sink)) {
  first_host_ = ReadHostFacts(proc_, limit_);
  first_capacity_ = ComputeCapacity(first_host_, ReadHostUse(proc_));
  thread_ = std::thread([this] { Run(); });
}

HostMonitor::~HostMonitor() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

void HostMonitor::Run() {
  constexpr std::chrono::seconds kEvery{10};
  v1::HostFacts told = first_host_;
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, kEvery, [&] { return stopping_; })) {
    lock.unlock();
    const v1::HostFacts host = ReadHostFacts(proc_, limit_);
    if (DiffersWorthTelling(told, host)) {
      told = host;
      sink_(HostRead{.host = host, .capacity = ComputeCapacity(host, ReadHostUse(proc_))});
    }
    lock.lock();
  }
}

}  // namespace loadstar::agent
