#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/rpc/rpc.h"

namespace loadstar::rpc {
namespace {

using ::testing::HasSubstr;

TEST(CheckAddress, LoopbackNeedsNoFlag) {
  for (const char* address : {"127.0.0.1:7400", "127.9.8.7:1", "[::1]:7400", "localhost:0", "unix:/tmp/socket"}) {
    EXPECT_TRUE(CheckAddress(address, false).ok()) << address;
  }
}

TEST(CheckAddress, AnythingElseIsRefusedWithTheRemedyAndAllowedWhenInsecure) {
  for (const char* address : {"0.0.0.0:7400", "10.0.0.1:7400", "[::]:7400", "example.com:7400", "128.0.0.1:1"}) {
    const absl::Status status = CheckAddress(address, false);
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << address;
    EXPECT_THAT(std::string(status.message()), HasSubstr("--insecure"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(address));
    EXPECT_TRUE(CheckAddress(address, true).ok()) << address;
  }
}

TEST(CheckAddress, MalformedIsInvalidEvenWhenInsecure) {
  for (const char* address : {"", "7400", ":7400", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:x",
                              "::1:80", "[::1:80", "[]:80", "unix:", "dns:///a:1", "a b:1"}) {
    EXPECT_EQ(CheckAddress(address, true).code(), absl::StatusCode::kInvalidArgument) << address;
  }
}

}  // namespace
}  // namespace loadstar::rpc
