#include "lib/os/ports.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "lib/os/fd.h"

namespace loadstar::os {
namespace {

Fd Listen(const std::string& address) {
  const absl::StatusOr<SocketAddress> resolved = Resolve(address);
  EXPECT_TRUE(resolved.ok()) << resolved.status();
  Fd fd(socket(resolved->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // As the target does, whose processes share their listener.
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  EXPECT_EQ(bind(fd.get(), resolved->get(), resolved->length), 0);
  EXPECT_EQ(listen(fd.get(), 1), 0);
  return fd;
}

TEST(CheckPortFree, NamesTheProcessThatListens) {
  const Fd listener = Listen("127.0.0.1:26001");
  const absl::Status status = CheckPortFree("127.0.0.1:26001");
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_NE(status.message().find(absl::StrCat("held by process ", getpid(), " (os_test)")), absl::string_view::npos)
      << status;
}

TEST(CheckPortFree, SeesAListenerOnAnyAddress) {
  const Fd listener = Listen("0.0.0.0:26002");
  EXPECT_EQ(CheckPortFree("127.0.0.1:26002").code(), absl::StatusCode::kAlreadyExists);
}

TEST(CheckPortFree, IsOkAndLeavesThePortFree) {
  EXPECT_TRUE(CheckPortFree("127.0.0.1:26003").ok());
  EXPECT_TRUE(CheckPortFree("127.0.0.1:26003").ok());
}

TEST(CheckPortFree, RefusesAForeignAddress) {
  EXPECT_EQ(CheckPortFree("192.0.2.1:26003").code(), absl::StatusCode::kFailedPrecondition);
}

TEST(Resolve, TakesBothFamiliesAndRefusesTheRest) {
  EXPECT_EQ(Resolve("127.0.0.1:80")->storage.ss_family, AF_INET);
  EXPECT_EQ(Resolve("[::1]:80")->storage.ss_family, AF_INET6);
  for (const char* text : {"", "80", ":80", "127.0.0.1", "127.0.0.1:http", "256.0.0.1:80"}) {
    EXPECT_FALSE(Resolve(text).ok()) << text;
  }
}

}  // namespace
}  // namespace loadstar::os
