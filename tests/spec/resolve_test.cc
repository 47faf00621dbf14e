#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lib/spec/spec.h"

namespace loadstar::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ResolveEndpoints, KeepsNumbersAndResolvesNames) {
  const auto resolved = ResolveEndpoints({"127.0.0.1:9100", "[::1]:9101", "localhost:9102"});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_THAT(*resolved, ElementsAre("127.0.0.1:9100", "[::1]:9101", "127.0.0.1:9102"));
}

// ".invalid" never resolves (RFC 2606), with or without a name server.
TEST(ResolveEndpoints, NamesEveryHostThatDoesNotResolve) {
  const auto resolved = ResolveEndpoints({"no-such-host.invalid:9100", "127.0.0.1:1", "neither-this.invalid:1"});
  ASSERT_FALSE(resolved.ok());
  EXPECT_EQ(resolved.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(resolved.status().message());
  EXPECT_THAT(
      message,
      HasSubstr("endpoint \"no-such-host.invalid:9100\": the host name \"no-such-host.invalid\" does not resolve"));
  EXPECT_THAT(message, HasSubstr("neither-this.invalid"));
  EXPECT_THAT(message, HasSubstr("or write the address itself"));
}

TEST(ResolveEndpoints, RefusesWhatIsNoEndpoint) {
  const auto resolved = ResolveEndpoints({"localhost"});
  ASSERT_FALSE(resolved.ok());
  EXPECT_THAT(std::string(resolved.status().message()), HasSubstr("has no port"));
}

}  // namespace
}  // namespace loadstar::spec
