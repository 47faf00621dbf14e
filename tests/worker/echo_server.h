// An echo server on lib/net in a thread of its own, that can be made to stall as a stopped process does.
#pragma once

#include <atomic>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lib/net/loop.h"

namespace loadstar::worker {

class EchoServer final : public net::SocketHandler, public net::TickHandler {
 public:
  // Listens on that many ports of 127.0.0.1.
  explicit EchoServer(size_t listeners) {
    net::LoopOptions options;
    options.max_sockets = 2000;
    auto loop = net::Loop::Create(options, "epoll");  // io_uring keeps to the thread that made it
    if (!loop.ok()) return;
    loop_ = *std::move(loop);
    const auto any = net::ParseAddress("127.0.0.1:0");
    for (size_t i = 0; i < listeners; ++i) {
      const auto id = loop_->Listen(*any, false, 1024, this, i);
      if (!id.ok()) return;
      endpoints_.push_back(net::ToString(*loop_->LocalAddress(*id)));
    }
    accepted_ = std::vector<std::atomic<uint64_t>>(listeners);
    loop_->SetTickHandler(this);
    thread_ = std::thread([this] {
      while (!stop_) loop_->RunOnce(20'000'000);
    });
  }
  ~EchoServer() override {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  const std::vector<std::string>& endpoints() const { return endpoints_; }
  uint64_t accepted(size_t listener) const { return accepted_[listener]; }
  // Serves nothing at all between two instants of CLOCK_MONOTONIC.
  void Stall(int64_t from_ns, int64_t until_ns) {
    stall_until_ns_ = until_ns;
    stall_from_ns_ = from_ns;
  }

 private:
  Accepted OnAccepted(uint64_t listener_tag, net::SocketId /*id*/) override {
    ++accepted_[listener_tag];
    return {this, listener_tag};
  }
  void OnReceived(uint64_t /*tag*/, net::SocketId id, std::span<const std::byte> bytes) override {
    SleepThroughStall();
    loop_->Send(id, bytes);
  }
  void OnClosed(uint64_t /*tag*/, net::SocketId /*id*/, int /*error*/) override {}
  int64_t OnTick(int64_t now_ns) override {
    SleepThroughStall();
    return now_ns + 1'000'000;
  }
  void SleepThroughStall() {
    if (net::Loop::ReadClock() < stall_from_ns_ || net::Loop::ReadClock() >= stall_until_ns_) return;
    const timespec until{stall_until_ns_ / 1'000'000'000, stall_until_ns_ % 1'000'000'000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
  }

  std::unique_ptr<net::Loop> loop_;
  std::vector<std::string> endpoints_;
  std::vector<std::atomic<uint64_t>> accepted_;
  std::atomic<int64_t> stall_from_ns_ = INT64_MAX;
  std::atomic<int64_t> stall_until_ns_ = INT64_MAX;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace loadstar::worker
