#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/net/loop.h"

namespace loadstar::net {
namespace {

using ::testing::HasSubstr;

TEST(AddressTest, NumericAddressesSurviveTheRoundTrip) {
  for (const char* text : {"127.0.0.1:9100", "0.0.0.0:0", "10.1.2.3:65535", "[::1]:80", "[2001:db8::5]:443"}) {
    const absl::StatusOr<Address> address = ParseAddress(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(ToString(*address), text);
  }
}

TEST(AddressTest, HostAloneHasPortZero) {
  EXPECT_EQ(ToString(*ParseHost("127.0.0.7")), "127.0.0.7:0");
  EXPECT_EQ(ToString(*ParseHost("::1")), "[::1]:0");
  EXPECT_FALSE(ParseHost("127.0.0.7:1").ok());
  EXPECT_FALSE(ParseHost("").ok());
}

struct BadAddress {
  const char* text;
  const char* reason;
};

class BadAddressTest : public ::testing::TestWithParam<BadAddress> {};

TEST_P(BadAddressTest, IsRefusedWithTheReason) {
  const absl::StatusOr<Address> address = ParseAddress(GetParam().text);
  ASSERT_FALSE(address.ok());
  EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(address.status().message()), HasSubstr(GetParam().reason));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadAddressTest,
    ::testing::Values(BadAddress{"127.0.0.1", "has no port"}, BadAddress{"", "has no port"},
                      BadAddress{"127.0.0.1:", "is not a number"}, BadAddress{"127.0.0.1:65536", "is not a number"},
                      BadAddress{"127.0.0.1:-1", "is not a number"}, BadAddress{"127.0.0.1: 80", "is not a number"},
                      BadAddress{"127.0.0.1:99999999999999999999", "is not a number"},
                      BadAddress{"localhost:80", "not a numeric IP address"},
                      BadAddress{"256.0.0.1:80", "not a numeric IP address"}, BadAddress{"::1:80", "[HOST]:PORT"},
                      BadAddress{"[127.0.0.1]:80", "brackets are for IPv6"},
                      BadAddress{":80", "not a numeric IP address"}));

TEST(AddressTest, LoopbackIsToldFromTheRest) {
  for (const char* host : {"127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"}) {
    EXPECT_TRUE(IsLoopback(*ParseHost(host))) << host;
  }
  for (const char* host : {"0.0.0.0", "128.0.0.1", "10.0.0.1", "::", "::2", "::ffff:10.0.0.1", "fe80::1"}) {
    EXPECT_FALSE(IsLoopback(*ParseHost(host))) << host;
  }
}

}  // namespace
}  // namespace loadstar::net
