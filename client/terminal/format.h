// Numbers, times and names as people read them. What is absent is shown as "-", never as zero.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "loadstar/v1/metrics.pb.h"
#include "loadstar/v1/run.pb.h"

namespace loadstar::client::terminal {

inline constexpr absl::string_view kAbsent = "-";

std::string Grouped(uint64_t number);                                  // "12,345"
std::string Rate(double per_second);                                   // "12,345", below 100 with one decimal
std::string Latency(uint64_t us);                                      // "850 us", "12.3 ms", "1.23 s"
std::string Latency(const v1::Percentiles& percentiles, uint64_t us);  // "-" when nothing was observed
std::string Bytes(uint64_t bytes);                                     // "23.4 GiB"
std::string Clock(int64_t seconds);                                    // "1:05", "1:02:03"
std::string Age(absl::Duration age);                                   // "12 s", "3 min", "2 h", "4 d"
std::string LocalTime(absl::Time time, absl::TimeZone zone = absl::LocalTimeZone());  // "2026-11-24 20:40:33"

// Instants and durations of messages. An instant that is not set is InfinitePast.
absl::Time ToTime(const google::protobuf::Timestamp& time);
absl::Duration ToDuration(const google::protobuf::Duration& duration);

// Enumerators in words: "running", "not trustworthy", "healthy", "passed".
std::string Words(v1::RunState state);
std::string Words(v1::VerdictKind verdict);
std::string Words(v1::DeploymentState state);
std::string Words(v1::Side side);
// "connect refused", "request timeout", "connection reset", "request rpc error -32601".
std::string ErrorName(const v1::ErrorCount& error);

// Replaces control bytes, so that no text from elsewhere can move the cursor or change the terminal.
std::string Printable(absl::string_view text);

}  // namespace loadstar::client::terminal
