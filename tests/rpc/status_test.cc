#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "google/rpc/status.pb.h"
#include "lib/rpc/rpc.h"

namespace loadstar::rpc {
namespace {

using ::testing::HasSubstr;

template <class T>
T Detail(const absl::Status& status) {
  T detail;
  const auto payload =
      status.GetPayload(absl::StrCat("type.googleapis.com/", std::string(T::descriptor()->full_name())));
  EXPECT_TRUE(payload.has_value());
  if (payload.has_value()) {
    EXPECT_TRUE(detail.ParseFromString(std::string(*payload)));
  }
  return detail;
}

TEST(Status, EveryCodeSurvivesTheWayThereAndBack) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), code == 0 ? "" : "why");
    EXPECT_EQ(FromGrpc(ToGrpc(status)), status);
  }
}

TEST(Status, DetailsSurviveTheWayThereAndBack) {
  const absl::Status status = Precondition("agent-missing", "host1", "no agent is connected; start one");
  const grpc::Status outside = ToGrpc(status);
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(outside.error_details()));
  EXPECT_EQ(details.code(), 9);
  EXPECT_EQ(details.message(), "no agent is connected; start one");
  EXPECT_EQ(details.details_size(), 2);
  EXPECT_EQ(FromGrpc(outside), status);
  EXPECT_EQ(Detail<google::rpc::ErrorInfo>(FromGrpc(outside)).domain(), "loadstar");
  EXPECT_EQ(Detail<google::rpc::PreconditionFailure>(status).violations(0).subject(), "host1");
}

TEST(Status, DetailsThatAreNoStatusAreIgnored) {
  const grpc::Status status(grpc::StatusCode::INTERNAL, "text", "\xff\xff");
  EXPECT_EQ(FromGrpc(status), absl::InternalError("text"));
}

TEST(Status, InvalidDocumentNamesEveryFieldAndItsPlace) {
  v1::DocumentProblem problem;
  problem.set_file_name("a.yaml");
  problem.set_line(3);
  problem.set_column(7);
  problem.set_field("load.connections[0].ramp");
  problem.set_message("\"5 minute\" is no duration");
  problem.set_remedy("write 5m");
  v1::DocumentProblem bare;
  bare.set_message("nothing in it");
  const absl::Status status = InvalidDocument({problem, bare});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("a.yaml:3:7: load.connections[0].ramp: \"5 minute\" is no duration. write 5m\nnothing in it"));
  const auto details = Detail<google::rpc::BadRequest>(status);
  ASSERT_EQ(details.field_violations_size(), 2);
  EXPECT_EQ(details.field_violations(0).field(), "load.connections[0].ramp");
}

// A client with gRPC's defaults refuses more than 8 KiB of trailing metadata.
TEST(Status, AThousandProblemsFitAForeignClientsMetadata) {
  std::vector<v1::DocumentProblem> problems(1000);
  for (auto& problem : problems) {
    problem.set_field(std::string(300, 'f'));
    problem.set_message(std::string(3000, 'm'));
  }
  const grpc::Status status = ToGrpc(InvalidDocument(problems));
  EXPECT_LT(status.error_message().size() + status.error_details().size() * 4 / 3, 7500u);
  EXPECT_THAT(status.error_message(), HasSubstr("and 999 more"));
  EXPECT_FALSE(status.error_details().empty());
}

TEST(Status, ALongMessageIsCutBetweenCharacters) {
  std::string text;
  while (text.size() < 5000) text += "\xc3\xa9";
  const grpc::Status status = ToGrpc(absl::InternalError("x" + text));
  EXPECT_LE(status.error_message().size(), 2048u);
  EXPECT_EQ((status.error_message().size() - 4) % 2, 0u);
}

}  // namespace
}  // namespace loadstar::rpc
