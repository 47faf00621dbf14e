#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace loadstar::target {

// A row of a distribution of delays.
struct DelayShare {
  double ms = 0;
  double share = 0;  // of the requests; a whole number of billionths

  friend bool operator==(const DelayShare&, const DelayShare&) = default;
};

// What a node does wrong on purpose. All off is the default and what {} means.
struct FaultSettings {
  double delay_ms = 0;     // every answer is held back that long; the order on a connection stays
  double stall_ms = 0;     // nothing at all is served for that long, accepting included
  double error_ratio = 0;  // share of requests answered with an error (tcp: with the first byte inverted)
  double close_ratio = 0;  // share of requests on which the connection is closed instead
  bool refuse = false;     // stops listening: new connections are refused, open ones are served on
  // In place of delay_ms, or empty: how long the answers to requests are held back, each in its share, so that the
  // exact quantiles of the delay are known. What is no request (a handshake) is not held back. The order on a
  // connection stays here too: answers to requests that were read at once leave together, after the longest of their
  // delays. In JSON: "delays": [{"ms": 10, "share": 0.999}, {"ms": 200, "share": 0.001}].
  std::vector<DelayShare> delays = {};

  friend bool operator==(const FaultSettings&, const FaultSettings&) = default;
};

inline constexpr double kDelayMax_ms = 60'000;
inline constexpr double kStallMax_ms = 600'000;
inline constexpr size_t kDelaysMax = 16;
// Shares are counted in parts of one in so many; of those that are read, the sum may miss it by so many.
inline constexpr int64_t kWhole = 1'000'000'000;
inline constexpr int64_t kWholeMissedMax = 1'000;

struct FieldError {
  std::string field;  // empty: the document as a whole
  std::string reason;
};

struct ParsedFaults {
  FaultSettings settings;
  std::vector<FieldError> errors;  // empty: settings hold
};

// Reads the body of POST /fault: a JSON object that replaces whatever was on; {} and "clear" turn everything off. All
// errors are reported at once. What the shares of the delays miss of the whole, by rounding, goes to the largest.
ParsedFaults ParseFaults(std::string_view body);

// The JSON object of GET /fault.
std::string FaultsToJson(const FaultSettings& settings);

// The JSON object of a refused POST /fault.
std::string FieldErrorsToJson(const std::vector<FieldError>& errors);

// Decides which requests a ratio hits: exactly the ratio of any long series, evenly spread and without a random
// generator, so that a test can count on it.
class RatioDice {
 public:
  void SetRatio(double ratio);
  bool Hits();
  bool idle() const { return ratio_ <= 0; }

 private:
  double ratio_ = 0;
  double owed_ = 0;
};

// Deals a distribution of delays out to requests, without a random generator either: after any number of requests each
// delay has been dealt to its share of them, but for less than one request (Tijdeman's algorithm, "The chairman
// assignment problem", 1980).
class DelayDice {
 public:
  struct Row {
    int64_t delay_ns = 0;
    int64_t share = 0;  // of kWhole, above 0

    friend bool operator==(const Row&, const Row&) = default;
  };

  // The same rows again do not start over. Rows whose shares do not sum to kWhole, such as some that were read while
  // others were being written in their place, deal nothing.
  void SetRows(std::span<const Row> rows);
  // The next request's. Not when idle.
  int64_t Deal_ns();
  bool idle() const { return rows_.empty(); }

 private:
  struct Dealt {
    Row row;
    int64_t owed = 0;  // share of the requests so far, less those it was dealt to; of kWhole
  };

  std::vector<Dealt> rows_;
  int64_t enough_ = 0;  // what a row has to be owed to be dealt
};

}  // namespace loadstar::target
