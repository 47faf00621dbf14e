#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

#include "lib/os/fd.h"
#include "lib/os/ports.h"

namespace loadstar::agent {

// A listener on a loopback port that hands each accepted connection to a function, on its own thread.
class TestServer {
 public:
  TestServer(const std::string& address, const std::function<void(os::Fd)>& serve) : address_(address) {
    const auto resolved = os::Resolve(address);
    EXPECT_TRUE(resolved.ok()) << resolved.status();
    listener_.Reset(socket(resolved->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    EXPECT_EQ(bind(listener_.get(), resolved->get(), resolved->length), 0) << address;
    EXPECT_EQ(listen(listener_.get(), 64), 0);
    stop_.Reset(eventfd(0, EFD_CLOEXEC));
    thread_ = std::thread([this, serve] {
      for (;;) {
        pollfd polled[2] = {{.fd = listener_.get(), .events = POLLIN, .revents = 0},
                            {.fd = stop_.get(), .events = POLLIN, .revents = 0}};
        poll(polled, 2, -1);
        if (polled[1].revents != 0) return;
        os::Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (fd) serve(std::move(fd));
      }
    });
  }
  ~TestServer() {
    const uint64_t one = 1;
    EXPECT_EQ(write(stop_.get(), &one, sizeof one), 8);
    thread_.join();
  }

  const std::string& address() const { return address_; }

  // Reads a request and answers it with 200 and a body.
  static std::function<void(os::Fd)> Answer(const std::string& body) {
    return [body](os::Fd fd) {
      char buffer[4096];
      if (read(fd.get(), buffer, sizeof buffer) <= 0) return;
      const std::string answer =
          "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
      EXPECT_EQ(write(fd.get(), answer.data(), answer.size()), static_cast<ssize_t>(answer.size()));
    };
  }

 private:
  const std::string address_;
  os::Fd listener_;
  os::Fd stop_;
  std::thread thread_;
};

}  // namespace loadstar::agent
