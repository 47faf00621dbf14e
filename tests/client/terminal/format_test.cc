#include "client/terminal/format.h"

#include <gtest/gtest.h>

namespace loadstar::client::terminal {
namespace {

TEST(Format, NumbersAreGroupedByThousands) {
  EXPECT_EQ(Grouped(0), "0");
  EXPECT_EQ(Grouped(999), "999");
  EXPECT_EQ(Grouped(1'000), "1,000");
  EXPECT_EQ(Grouped(123'456'789), "123,456,789");
  EXPECT_EQ(Grouped(UINT64_MAX), "18,446,744,073,709,551,615");
}

TEST(Format, SmallRatesKeepADecimalAndImpossibleOnesAreAbsent) {
  EXPECT_EQ(Rate(0), "0");
  EXPECT_EQ(Rate(0.5), "0.5");
  EXPECT_EQ(Rate(12), "12");
  EXPECT_EQ(Rate(19'999.6), "20,000");
  EXPECT_EQ(Rate(-1), "-");
  EXPECT_EQ(Rate(1.0 / 0.0), "-");
}

TEST(Format, LatencyKeepsThreeDigitsAndNeverRoundsIntoTheWrongUnit) {
  EXPECT_EQ(Latency(0), "0 us");
  EXPECT_EQ(Latency(999), "999 us");
  EXPECT_EQ(Latency(1'000), "1.00 ms");
  EXPECT_EQ(Latency(9'994), "9.99 ms");
  EXPECT_EQ(Latency(9'996), "10.0 ms");
  EXPECT_EQ(Latency(12'345), "12.3 ms");
  EXPECT_EQ(Latency(99'960), "100 ms");
  EXPECT_EQ(Latency(999'400), "999 ms");
  EXPECT_EQ(Latency(999'600), "1.00 s");
  EXPECT_EQ(Latency(3'600'000'000), "3600 s");
}

TEST(Format, LatencyOfNothingIsAbsentAndNotZero) {
  v1::Percentiles none;
  EXPECT_EQ(Latency(none, none.p99_us()), "-");
  none.set_count(1);
  EXPECT_EQ(Latency(none, none.p99_us()), "0 us");
}

TEST(Format, BytesClockAndAge) {
  EXPECT_EQ(Bytes(1'023), "1023 B");
  EXPECT_EQ(Bytes(25'125'558'681), "23.4 GiB");
  EXPECT_EQ(Clock(65), "1:05");
  EXPECT_EQ(Clock(3'723), "1:02:03");
  EXPECT_EQ(Clock(-3), "0:00");
  EXPECT_EQ(Age(absl::Seconds(-1)), "0 s");
  EXPECT_EQ(Age(absl::Seconds(61)), "1 min");
  EXPECT_EQ(Age(absl::Hours(49)), "2 d");
}

TEST(Format, AnInstantThatIsNotSetIsAbsent) {
  EXPECT_EQ(LocalTime(ToTime({}), absl::UTCTimeZone()), "-");
  google::protobuf::Timestamp time;
  time.set_seconds(1'764'016'833);
  EXPECT_EQ(LocalTime(ToTime(time), absl::UTCTimeZone()), "2025-11-24 20:40:33");
}

TEST(Format, EnumeratorsAreWords) {
  EXPECT_EQ(Words(v1::RUN_STATE_RUNNING), "running");
  EXPECT_EQ(Words(v1::VERDICT_KIND_NOT_TRUSTWORTHY), "not trustworthy");
  EXPECT_EQ(Words(v1::DEPLOYMENT_STATE_HEALTHY), "healthy");
  EXPECT_EQ(Words(v1::SIDE_GENERATOR), "generator");
  EXPECT_EQ(Words(v1::VERDICT_KIND_UNSPECIFIED), "-");
}

TEST(Format, ErrorsNameTheirPhaseOnce) {
  const auto name = [](v1::ErrorPhase phase, v1::ErrorKind kind, const std::string& detail = "") {
    v1::ErrorCount error;
    error.set_phase(phase);
    error.set_kind(kind);
    error.set_detail(detail);
    return ErrorName(error);
  };
  EXPECT_EQ(name(v1::ERROR_PHASE_CONNECT, v1::ERROR_KIND_REFUSED), "connect refused");
  EXPECT_EQ(name(v1::ERROR_PHASE_CONNECT, v1::ERROR_KIND_CONNECT_TIMEOUT), "connect timeout");
  EXPECT_EQ(name(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_REQUEST_TIMEOUT), "request timeout");
  EXPECT_EQ(name(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_RPC_ERROR, "-32601"), "request rpc error -32601");
  EXPECT_EQ(name(v1::ERROR_PHASE_REQUEST, v1::ERROR_KIND_HTTP_STATUS, "503"), "request http status 503");
  EXPECT_EQ(name(v1::ERROR_PHASE_CONNECTION, v1::ERROR_KIND_CLOSED_BY_PEER), "connection closed by peer");
}

TEST(Format, ControlBytesOfOthersDoNotReachTheTerminal) {
  EXPECT_EQ(Printable("a\x1b[2Jb\nc\x7f"), "a [2Jb c ");
  EXPECT_EQ(Printable("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
}

}  // namespace
}  // namespace loadstar::client::terminal
