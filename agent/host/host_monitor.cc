#include "agent/host/host_monitor.h"

#include <utility>

#include "agent/host/host_facts.h"

namespace loadstar::agent {

HostMonitor::HostMonitor(os::Proc proc, os::DescriptorLimit limit, Sink sink, std::chrono::milliseconds every)
    : proc_(std::move(proc)), limit_(limit), sink_(std::move(sink)), every_(every) {
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

void HostMonitor::ReadNow() const {
  v1::HostFacts host = ReadHostFacts(proc_, limit_);
  v1::Capacity capacity = ComputeCapacity(host, ReadHostUse(proc_));
  sink_(HostRead{.host = std::move(host), .capacity = std::move(capacity)});
}

void HostMonitor::Run() {
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, every_, [&] { return stopping_; })) {
    lock.unlock();
    ReadNow();
    lock.lock();
  }
}

}  // namespace loadstar::agent
