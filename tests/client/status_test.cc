#include <gtest/gtest.h>

#include "client/exit_code.h"
#include "client/status_text.h"
#include "lib/rpc/rpc.h"

namespace loadstar::client {
namespace {

TEST(ExitCode, OfEveryVerdict) {
  EXPECT_EQ(ExitCodeOf(v1::VERDICT_KIND_PASSED), ExitCode::kPassed);
  EXPECT_EQ(ExitCodeOf(v1::VERDICT_KIND_FAILED), ExitCode::kThresholdFailed);
  EXPECT_EQ(ExitCodeOf(v1::VERDICT_KIND_NOT_TRUSTWORTHY), ExitCode::kNotTrustworthy);
  EXPECT_EQ(ExitCodeOf(v1::VERDICT_KIND_NOT_CARRIED_OUT), ExitCode::kNotCarriedOut);
  EXPECT_EQ(ExitCodeOf(v1::VERDICT_KIND_STOPPED), ExitCode::kNotCarriedOut);
  EXPECT_EQ(ExitCodeOf(v1::VERDICT_KIND_UNSPECIFIED), ExitCode::kNotCarriedOut);
}

TEST(ExitCode, TheCallersMistakeIsInvalidInputAndTheRestCouldNotBeCarriedOut) {
  EXPECT_EQ(ExitCodeOf(absl::InvalidArgumentError("")), ExitCode::kInvalidInput);
  EXPECT_EQ(ExitCodeOf(absl::NotFoundError("")), ExitCode::kInvalidInput);
  EXPECT_EQ(ExitCodeOf(absl::UnavailableError("")), ExitCode::kNotCarriedOut);
  EXPECT_EQ(ExitCodeOf(absl::FailedPreconditionError("")), ExitCode::kNotCarriedOut);
  EXPECT_EQ(ExitCodeOf(absl::DeadlineExceededError("")), ExitCode::kNotCarriedOut);
}

TEST(StatusText, SaysEveryDetailThatTheMessageDoesNot) {
  google::rpc::BadRequest details;
  auto* violation = details.add_field_violations();
  violation->set_field("load.connections[0].to");
  violation->set_description("1e12 is more than 100,000,000");
  const absl::Status status =
      rpc::FromGrpc(rpc::ToGrpc(rpc::WithBadRequest(absl::InvalidArgumentError("the test is invalid"), details)));
  EXPECT_EQ(Describe(status), "the test is invalid\n  load.connections[0].to: 1e12 is more than 100,000,000");
  const absl::Status twice =
      rpc::WithBadRequest(absl::InvalidArgumentError("the test is invalid: 1e12 is more than 100,000,000"), details);
  EXPECT_EQ(Describe(twice), "the test is invalid: 1e12 is more than 100,000,000");
}

TEST(StatusText, SaysWhatAPreconditionAsksFor) {
  const absl::Status status =
      rpc::FromGrpc(rpc::ToGrpc(rpc::Precondition("CAPACITY", "descriptors", "host1 holds 20,000")));
  EXPECT_EQ(Describe(status), "host1 holds 20,000");
}

}  // namespace
}  // namespace loadstar::client
