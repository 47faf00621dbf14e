// Values as people write them, with what is wrong and what to write instead told apart (spec.h has the same as
// statuses).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "lib/spec/flaw.h"
#include "loadstar/v1/spec.pb.h"

namespace loadstar::spec {

// "5m", "1h30m", "1.5s"; whole nanoseconds, less than 292 years.
MaybeFlaw ReadDuration(std::string_view text, absl::Duration* out);
// "100k", "2M", "1e5"; a whole number below 2^64.
MaybeFlaw ReadCount(std::string_view text, uint64_t* out);
// "64", "4KiB"; a whole number of bytes below 2^64.
MaybeFlaw ReadSize(std::string_view text, uint64_t* out);
// "0.5", "20k"; any number that is not negative.
MaybeFlaw ReadNumber(std::string_view text, double* out);
// "0.1%" or "0.001".
MaybeFlaw ReadRatio(std::string_view text, double* out);
// "20k/s", "6/m", "100/h"; per second.
MaybeFlaw ReadRate(std::string_view text, double* out);
// A rate and what it is the rate of: "1/s per connection", "100k/s total".
MaybeFlaw ReadScopedRate(std::string_view text, double* per_s, v1::RateScope* scope);

// "12.5k/s" for people.
std::string FormatRate(double per_s);
// A number without needless digits.
std::string FormatNumber(double value);

absl::Duration FromProto(const google::protobuf::Duration& duration);
void ToProto(absl::Duration duration, google::protobuf::Duration* out);

}  // namespace loadstar::spec
