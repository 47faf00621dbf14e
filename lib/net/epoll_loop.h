#pragma once

#include <sys/epoll.h>

#include <array>
#include <memory>
#include <string>

#include "lib/net/socket_loop.h"

namespace loadstar::net {

// The loop on epoll: edge-triggered, every descriptor registered once for all it may ever need, so that a connection
// costs one epoll_ctl in its life.
//
// A turn: tick; wait; then the events of one batch; then the sockets on the ready list. Edge-triggered means that the
// kernel tells of readiness once, so a socket that was left with work remembers it (`readable`, `failed`) and stands on
// the ready list.
class EpollLoop final : public SocketLoop {
 public:
  // `reason`: why it is epoll, for backend_reason.
  static absl::StatusOr<std::unique_ptr<Loop>> Create(const LoopOptions& options, std::string reason);
  ~EpollLoop() override;

  std::string backend() const override { return "epoll"; }
  std::string backend_reason() const override { return reason_; }
  bool Send(SocketId id, std::span<const std::byte> bytes) override;
  size_t QueuedBytes(SocketId id) const override;
  void ResumeReceive(SocketId id) override;
  void Close(SocketId id) override;
  void FinishSending(SocketId id) override;

 private:
  EpollLoop(const LoopOptions& options, int epoll_fd, int reserve_fd, std::string reason);

  int Watch(SocketId id, const Address* peer, int* connect_error) override;
  void CloseDescriptor(Socket* socket, bool reset) override;
  void Turn(int64_t wait_ns) override;
  void HandleReady(EventToken token) override;
  void ResumeListener(EventToken token) override;

  int Wait(int64_t wait_ns);
  void HandleEvent(EventToken token, uint32_t events);
  void HandleConnect(EventToken token, uint32_t events);
  void Read(EventToken token);
  void Flush(EventToken token);
  void Accept(EventToken token);

  std::string reason_;
  const int epoll_fd_;
  bool nanosecond_wait_ = true;  // false: kernel before 5.11, waits are rounded up to milliseconds
  std::unique_ptr<std::byte[]> receive_buffer_;
  std::array<epoll_event, 512> events_;
};

}  // namespace loadstar::net
