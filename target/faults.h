#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace loadstar::target {

// What a node does wrong on purpose. All off is the default and what {} means.
struct FaultSettings {
  double delay_ms = 0;     // every answer is held back that long; the order on a connection stays
  double stall_ms = 0;     // nothing at all is served for that long, accepting included
  double error_ratio = 0;  // share of requests answered with an error (tcp: with the first byte inverted)
  double close_ratio = 0;  // share of requests on which the connection is closed instead
  bool refuse = false;     // stops listening: new connections are refused, open ones are served on

  friend bool operator==(const FaultSettings&, const FaultSettings&) = default;
};

inline constexpr double kDelayMax_ms = 60'000;
inline constexpr double kStallMax_ms = 600'000;

struct FieldError {
  std::string field;  // empty: the document as a whole
  std::string reason;
};

struct ParsedFaults {
  FaultSettings settings;
  std::vector<FieldError> errors;  // empty: settings hold
};

// Reads the body of POST /fault: a JSON object that replaces whatever was on; {} and "clear" turn everything off. All
// errors are reported at once.
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

}  // namespace loadstar::target
