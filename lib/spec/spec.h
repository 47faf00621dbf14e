// lib/spec: the documents a user writes. YAML -> proto with line and column, units, defaults, validation. Pure
// functions over text and messages; only ReadDocument touches a file and only ResolveEndpoints asks the resolver.
//
// Every problem of a document is reported at once, each with its place, what was expected and the nearest valid key.
// Bounds: 1 MiB of text, depth 32, 10,000 YAML nodes (aliases are refused outright, which ends alias bombs), names of
// 63 bytes, 10^8 connections, 10^9 requests a second, 31 days.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "loadstar/v1/spec.pb.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::spec {

using Problems = std::vector<v1::DocumentProblem>;

// What a document holds; exactly one of the messages is set when problems is empty.
struct Parsed {
  enum class Kind { kNone, kTest, kStack, kTuningProfile } kind = Kind::kNone;
  v1::TestSpec test;
  v1::StackSpec stack;
  v1::TuningProfile tuning_profile;
  Problems problems;
};

// A change a user asks for on the command line: "load.connections[0].to=1k". The value is YAML. Mappings that are
// missing on the way are made, a list grows by one when the index is its length, and an empty value takes the key out.
struct Override {
  std::string path;
  std::string value;
};
absl::StatusOr<Override> ParseOverride(std::string_view text);

// Reads a document from a path. Errors: missing (with near names in the folder), a directory, larger than 1 MiB,
// binary.
absl::StatusOr<v1::Document> ReadDocument(const std::string& path);

// Parses and validates. Overrides are applied to the YAML tree first; their problems name "--set PATH". Defaults of
// spec.proto are filled in, so that the message says everything that will be done.
Parsed Parse(const v1::Document& document, const std::vector<Override>& overrides = {});

// Checks a message (from a gRPC client) by the same rules and fills in its defaults.
Problems Complete(v1::TestSpec* test);
Problems Complete(v1::StackSpec* stack);
Problems Complete(v1::TuningProfile* profile);

// "FILE:LINE:COLUMN: FIELD: MESSAGE. REMEDY", without the parts that are not known.
std::string ToString(const v1::DocumentProblem& problem);
// Numbered list of all of them.
std::string ToString(const Problems& problems);

// Multiplies every stage's connections and a total rate, and the bounds of thresholds on connections.* counts and
// requests.rate, by 0 < scale <= 1 (anything else changes nothing). Whole numbers stay whole: bounds are rounded so
// that rounding never makes a threshold harder, and a stage with connections keeps at least one.
void Scale(double scale, v1::TestSpec* test);

// The patch that "update RUN --set" means: paths "connections", "ramp" and "rate".
absl::StatusOr<v1::LoadUpdate> ParseLoadUpdate(const std::vector<Override>& changes);

// Names to numbers: "localhost:9100" -> "127.0.0.1:9100" (IPv4 where a name has both). Asks the system's resolver and
// so may block for as long as that does. An error names every host that does not resolve.
absl::StatusOr<std::vector<std::string>> ResolveEndpoints(const std::vector<std::string>& endpoints);

// Units as people write them. ParseDuration: "500us", "1500ms", "5m", "1h30m". ParseCount: "100k", "2M", "10000".
// ParseSize: "64", "4KiB", "4GiB", "2MB". All refuse blanks, signs and unknown units, and say which they know.
// Fractions and powers of ten are fine as long as the result is whole: "1.5s", "2.5k", "1e5".
absl::StatusOr<absl::Duration> ParseDuration(std::string_view text);
absl::StatusOr<uint64_t> ParseCount(std::string_view text);
absl::StatusOr<uint64_t> ParseSize(std::string_view text);
std::string FormatDuration(absl::Duration duration);
std::string FormatCount(uint64_t count);  // "100k", "12,345"

// The nearest of `candidates` by edit distance, or empty when none is near enough to be worth suggesting.
std::string Nearest(std::string_view word, const std::vector<std::string>& candidates);

// Metrics that a threshold may name, in their base units. latency|service_time|schedule_lag|connect_time|handshake_time
// .p50|.p90|.p95|.p99|.p999|.max|.mean (us); errors.ratio (failed requests / sent); connections.peak, .failed, .lost;
// requests.rate (answered per second over the run), requests.answered, requests.failed.
const std::vector<std::string>& ThresholdMetrics();

}  // namespace loadstar::spec
