#include "client/terminal/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loadstar/v1/coordinator_service.pb.h"
#include "tests/client/terminal/sample_run.h"

namespace loadstar::client::terminal {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Calls `write` with an output to a stream and gives what arrived there.
template <typename Write>
std::string Written(bool json, Write write) {
  std::FILE* stream = std::tmpfile();
  Output output(json, stream, stderr);
  write(output);
  std::fseek(stream, 0, SEEK_END);
  const size_t size = static_cast<size_t>(std::ftell(stream));
  std::rewind(stream);
  std::string all(size, '\0');
  EXPECT_EQ(std::fread(all.data(), 1, size, stream), size);
  std::fclose(stream);
  return all;
}

TEST(Output, JsonModeHasObjectsAloneAndTextModeHasNone) {
  const auto write = [](Output& output) {
    output.Text("for people");
    output.Json(v1::ListAgentsResponse());
  };
  EXPECT_EQ(Written(true, write), "{\"agents\":[]}\n");
  EXPECT_EQ(Written(false, write), "for people\n");
}

TEST(Output, JsonKeepsNamesOfTheProtoMeasuredZeroesAndAbsence) {
  v1::StreamMetricsResponse message;
  *message.mutable_snapshot() = SampleSnapshot(0);
  message.mutable_snapshot()->clear_latency();
  const std::string json = ToJson(message);
  EXPECT_THAT(json, HasSubstr("{\"snapshot\":{"));
  EXPECT_THAT(json, HasSubstr("\"requests_dropped\":\"0\""));
  EXPECT_THAT(json, HasSubstr("\"from_elapsed_s\":0"));
  EXPECT_THAT(json, Not(HasSubstr("\"run\":")));
  // Not said by the node: absent, not zero.
  EXPECT_THAT(json, HasSubstr("\"connections\":\"37499\""));
  EXPECT_THAT(json, Not(HasSubstr("cpu_seconds_total")));
  EXPECT_THAT(json, Not(HasSubstr("\n")));
}

TEST(Output, JsonStringsAreEscaped) { EXPECT_EQ(JsonString("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\u000a\\u0001\""); }

TEST(Output, AFullDiskIsNoticed) {
  std::FILE* full = std::fopen("/dev/full", "w");
  ASSERT_NE(full, nullptr);
  Output output(false, full, stderr);
  EXPECT_TRUE(output.ok());
  output.Text("lost");
  EXPECT_FALSE(output.ok());
  std::fclose(full);
}

TEST(Output, AFileIsNeitherLiveNorColoured) {
  Written(false, [](Output& output) {
    EXPECT_FALSE(output.live());
    EXPECT_FALSE(output.colour());
    EXPECT_EQ(output.size().columns, 80u);
  });
}

}  // namespace
}  // namespace loadstar::client::terminal
