// The rules that a message is held to, whether it came from YAML or from a client, and the defaults it is given.
// Problems name fields as the YAML does.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"
#include "google/protobuf/duration.pb.h"
#include "lib/spec/report.h"
#include "loadstar/v1/spec.pb.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::spec {

inline constexpr uint64_t kMaxConnections = 100'000'000;
inline constexpr double kMaxRequestsPerSecond = 1e9;
inline constexpr absl::Duration kMaxRunTime = absl::Hours(31 * 24);

void CompleteTest(v1::TestSpec* test, Report* report);
void CompleteStack(v1::StackSpec* stack, Report* report);
void CompleteTuningProfile(v1::TuningProfile* profile, Report* report);

// Parts of CompleteTest.
void CompleteTarget(v1::TargetSpec* target, Report* report);
void CompleteHttp(v1::HttpOptions* http, Report* report);
void CompleteMcpHttp(v1::HttpOptions* http, Report* report);
void CompleteLoad(v1::LoadSpec* load, Report* report);
void CheckClosingHttp(const v1::TestSpec& test, Report* report);

// Shared by the above.
// [a-z0-9][a-z0-9-]{0,62}; `example` is what the remedy proposes when there is nothing nearer.
void CheckName(std::string_view field, std::string_view name, std::string_view example, Report* report);
struct DurationBounds {
  absl::Duration least, most;
};
void CheckDuration(std::string_view field, const google::protobuf::Duration& duration, DurationBounds bounds,
                   Report* report);
// Text shown to people: at most `most` bytes, one line.
void CheckText(std::string_view field, std::string_view text, size_t most, Report* report);

}  // namespace loadstar::spec
