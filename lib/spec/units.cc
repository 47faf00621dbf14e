#include "lib/spec/units.h"

#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "lib/spec/spec.h"
#include "lib/spec/text.h"

namespace loadstar::spec {
namespace {

__extension__ typedef unsigned __int128 Wide;

constexpr size_t kMaxLength = 64;
constexpr int kMaxExponent = 30;

constexpr std::string_view kDurationExample =
    "Write a number and a unit (ns, us, ms, s, m, h, d), such as 500us, 5m or 1h30m";
constexpr std::string_view kCountExample = "Write a whole number, with k, M or G for thousands, such as 10000 or 100k";
constexpr std::string_view kSizeExample =
    "Write a whole number of bytes or a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), such as 64 or 4KiB";
constexpr std::string_view kNumberExample = "Write a number, with k, M or G for thousands, such as 0.5 or 20k";
constexpr std::string_view kRateExample = "Write a number and /s, /m or /h, such as 20k/s";

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr std::array kDurationUnits = {
    Unit{"d", 86'400'000'000'000},
    Unit{"h", 3'600'000'000'000},
    Unit{"m", 60'000'000'000},
    Unit{"s", 1'000'000'000},
    Unit{"ms", 1'000'000},
    Unit{"us", 1'000},
    Unit{"ns", 1},
};
constexpr std::array kCountUnits = {Unit{"", 1}, Unit{"k", 1'000}, Unit{"M", 1'000'000}, Unit{"G", 1'000'000'000}};
constexpr std::array kSizeUnits = {
    Unit{"", 1},
    Unit{"B", 1},
    Unit{"kB", 1'000},
    Unit{"MB", 1'000'000},
    Unit{"GB", 1'000'000'000},
    Unit{"TB", 1'000'000'000'000},
    Unit{"KiB", uint64_t{1} << 10},
    Unit{"MiB", uint64_t{1} << 20},
    Unit{"GiB", uint64_t{1} << 30},
    Unit{"TiB", uint64_t{1} << 40},
};

// What people write instead of a unit's name.
struct Synonym {
  std::string_view word, unit;
};
constexpr std::array kDurationWords = {
    Synonym{"day", "d"},     Synonym{"days", "d"},          Synonym{"hour", "h"},    Synonym{"hours", "h"},
    Synonym{"hr", "h"},      Synonym{"min", "m"},           Synonym{"mins", "m"},    Synonym{"minute", "m"},
    Synonym{"minutes", "m"}, Synonym{"sec", "s"},           Synonym{"secs", "s"},    Synonym{"second", "s"},
    Synonym{"seconds", "s"}, Synonym{"msec", "ms"},         Synonym{"millis", "ms"}, Synonym{"milliseconds", "ms"},
    Synonym{"usec", "us"},   Synonym{"microseconds", "us"},
};

// mantissa * 10^exponent
struct Decimal {
  uint64_t mantissa = 0;
  int exponent = 0;
};

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }

// Takes digits[.digits][e[+|-]digits] from the front of `text`; false when there are none or too many.
bool TakeDecimal(std::string_view* text, Decimal* out) {
  size_t at = 0, digits = 0;
  bool point = false;
  for (; at < text->size(); ++at) {
    const char c = (*text)[at];
    if (c == '.' && !point && at > 0) {
      point = true;
      continue;
    }
    if (!IsDigit(c)) break;
    if (out->mantissa > (std::numeric_limits<uint64_t>::max() - 9) / 10) return false;
    out->mantissa = out->mantissa * 10 + static_cast<uint64_t>(c - '0');
    if (point) --out->exponent;
    ++digits;
  }
  if (digits == 0 || (*text)[at - 1] == '.') return false;
  if (at < text->size() && ((*text)[at] == 'e' || (*text)[at] == 'E')) {
    size_t digit = at + 1;
    const bool negative = digit < text->size() && (*text)[digit] == '-';
    if (digit < text->size() && ((*text)[digit] == '-' || (*text)[digit] == '+')) ++digit;
    if (digit >= text->size() || !IsDigit((*text)[digit])) return false;
    int exponent = 0;
    for (; digit < text->size() && IsDigit((*text)[digit]); ++digit) {
      exponent = exponent * 10 + ((*text)[digit] - '0');
      if (exponent > kMaxExponent) return false;
    }
    out->exponent += negative ? -exponent : exponent;
    at = digit;
  }
  text->remove_prefix(at);
  return true;
}

std::string_view TakeUnit(std::string_view* text) {
  size_t length = 0;
  while (length < text->size() && absl::ascii_isalpha(static_cast<unsigned char>((*text)[length]))) ++length;
  const std::string_view unit = text->substr(0, length);
  text->remove_prefix(length);
  return unit;
}

enum class Whole { kExact, kFraction, kTooLarge };

// decimal * factor as a whole number of at most `most`.
Whole ToWhole(Decimal decimal, uint64_t factor, uint64_t most, uint64_t* out) {
  if (decimal.mantissa == 0) {
    *out = 0;
    return Whole::kExact;
  }
  Wide value = static_cast<Wide>(decimal.mantissa) * factor;
  for (; decimal.exponent < 0; ++decimal.exponent) {
    if (value % 10 != 0) return Whole::kFraction;
    value /= 10;
  }
  for (; decimal.exponent > 0 && value <= most; --decimal.exponent) value *= 10;
  if (value > most) return Whole::kTooLarge;
  *out = static_cast<uint64_t>(value);
  return Whole::kExact;
}

const Unit* FindUnit(absl::Span<const Unit> units, std::string_view name) {
  for (const Unit& unit : units) {
    if (unit.name == name) return &unit;
  }
  return nullptr;
}

// What is wrong with any number at first sight.
MaybeFlaw AtFirstSight(std::string_view text, std::string_view example) {
  if (text.empty()) return Flaw{"there is no value", std::string(example)};
  if (text.size() > kMaxLength) return Flaw{Cat(Quoted(text), " is too long for a number"), std::string(example)};
  if (text[0] == '-') return Flaw{Cat(Quoted(text), " is negative"), std::string(example)};
  if (text[0] == '+') return Flaw{Cat(Quoted(text), " has a sign"), std::string(example)};
  if (!IsDigit(text[0])) return Flaw{Cat(Quoted(text), " does not start with a digit"), std::string(example)};
  if (text.find_first_of(" \t\r\n") != std::string_view::npos) {
    return Flaw{Cat(Quoted(text), " contains a blank"), std::string(example)};
  }
  return std::nullopt;
}

Flaw UnknownUnit(std::string_view text, std::string_view unit, std::string_view example) {
  return Flaw{Cat(Quoted(text), " has the unknown unit ", Quoted(unit)), std::string(example)};
}

// "5 minute" and "5minutes" to "5m", when that is what they mean.
std::optional<std::string> MeantDuration(std::string_view text) {
  Decimal decimal;
  std::string_view rest = text;
  if (!TakeDecimal(&rest, &decimal)) return std::nullopt;
  const std::string_view number = text.substr(0, text.size() - rest.size());
  const std::string word = Lower(Trim(rest));
  for (const Unit& unit : kDurationUnits) {
    if (unit.name == word) return Cat(number, unit.name);
  }
  for (const Synonym& synonym : kDurationWords) {
    if (synonym.word == word) return Cat(number, synonym.unit);
  }
  return std::nullopt;
}

MaybeFlaw ReadWhole(std::string_view text, absl::Span<const Unit> units, std::string_view example, uint64_t* out) {
  if (MaybeFlaw flaw = AtFirstSight(text, example)) return flaw;
  std::string_view rest = text;
  Decimal decimal;
  if (!TakeDecimal(&rest, &decimal)) return Flaw{Cat(Quoted(text), " is not a number"), std::string(example)};
  const Unit* unit = FindUnit(units, rest);
  if (unit == nullptr) return UnknownUnit(text, rest, example);
  switch (ToWhole(decimal, unit->factor, std::numeric_limits<uint64_t>::max(), out)) {
    case Whole::kExact:
      return std::nullopt;
    case Whole::kFraction:
      return Flaw{Cat(Quoted(text), " is not a whole number"), std::string(example)};
    case Whole::kTooLarge:
      return Flaw{Cat(Quoted(text), " is absurdly large"), std::string(example)};
  }
  return std::nullopt;
}

template <typename T>
absl::StatusOr<T> ToStatusOr(MaybeFlaw flaw, T value) {
  if (flaw) return absl::InvalidArgumentError(Cat(flaw->message, ". ", flaw->remedy));
  return value;
}

}  // namespace

MaybeFlaw ReadDuration(std::string_view text, absl::Duration* out) {
  const auto with_guess = [text](Flaw flaw) {
    if (const auto meant = MeantDuration(text)) flaw.remedy = Cat("Write ", *meant);
    return flaw;
  };
  if (MaybeFlaw flaw = AtFirstSight(text, kDurationExample)) return with_guess(*flaw);
  if (text == "0") {
    *out = absl::ZeroDuration();
    return std::nullopt;
  }
  constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  uint64_t total_ns = 0;
  const Unit* last = nullptr;
  for (std::string_view rest = text; !rest.empty();) {
    Decimal decimal;
    if (!TakeDecimal(&rest, &decimal)) {
      return with_guess(Flaw{Cat(Quoted(text), " is not a duration"), std::string(kDurationExample)});
    }
    const std::string_view name = TakeUnit(&rest);
    if (name.empty() && rest.empty()) {
      return Flaw{Cat(Quoted(text), " has no unit"), Cat("Write ", text, "s for seconds, or m, h, ms")};
    }
    const Unit* unit = FindUnit(kDurationUnits, name);
    if (unit == nullptr) return with_guess(UnknownUnit(text, name.empty() ? rest : name, kDurationExample));
    if (last != nullptr && unit->factor >= last->factor) {
      return Flaw{Cat(Quoted(text), " does not go from the larger unit to the smaller"), std::string(kDurationExample)};
    }
    last = unit;
    uint64_t ns = 0;
    switch (ToWhole(decimal, unit->factor, kMost, &ns)) {
      case Whole::kExact:
        break;
      case Whole::kFraction:
        return Flaw{Cat(Quoted(text), " is finer than a nanosecond"), std::string(kDurationExample)};
      case Whole::kTooLarge:
        return Flaw{Cat(Quoted(text), " is absurdly long"), std::string(kDurationExample)};
    }
    total_ns += ns;
    if (total_ns > kMost) return Flaw{Cat(Quoted(text), " is absurdly long"), std::string(kDurationExample)};
  }
  *out = absl::Nanoseconds(static_cast<int64_t>(total_ns));
  return std::nullopt;
}

MaybeFlaw ReadCount(std::string_view text, uint64_t* out) { return ReadWhole(text, kCountUnits, kCountExample, out); }

MaybeFlaw ReadSize(std::string_view text, uint64_t* out) { return ReadWhole(text, kSizeUnits, kSizeExample, out); }

MaybeFlaw ReadNumber(std::string_view text, double* out) {
  if (MaybeFlaw flaw = AtFirstSight(text, kNumberExample)) return flaw;
  std::string_view rest = text;
  Decimal decimal;
  if (!TakeDecimal(&rest, &decimal)) {
    return Flaw{Cat(Quoted(text), " is not a number"), std::string(kNumberExample)};
  }
  const Unit* unit = FindUnit(kCountUnits, rest);
  if (unit == nullptr) return UnknownUnit(text, rest, kNumberExample);
  // One rounding where it matters: 0.1 is 1 / 10, not 1 * 0.1.
  const double scaled = static_cast<double>(decimal.mantissa) * static_cast<double>(unit->factor);
  *out = decimal.exponent < 0 ? scaled / std::pow(10.0, -decimal.exponent) : scaled * std::pow(10.0, decimal.exponent);
  return std::nullopt;
}

MaybeFlaw ReadRatio(std::string_view text, double* out) {
  std::string_view number = text;
  const bool percent = number.ends_with('%');
  if (percent) number.remove_suffix(1);
  if (ReadNumber(number, out)) {
    return Flaw{Cat(Quoted(text), " is not a ratio"),
                "Write a percentage or a number from 0 to 1, such as 0.1% or 0.001"};
  }
  if (percent) *out /= 100;
  return std::nullopt;
}

MaybeFlaw ReadRate(std::string_view text, double* out) {
  const size_t slash = text.rfind('/');
  if (slash == std::string_view::npos) {
    return Flaw{Cat(Quoted(text), " does not say per what time"), std::string(kRateExample)};
  }
  const std::string_view unit = text.substr(slash + 1);
  double seconds = 0;
  if (unit == "s") {
    seconds = 1;
  } else if (unit == "m" || unit == "min") {
    seconds = 60;
  } else if (unit == "h") {
    seconds = 3600;
  } else {
    return Flaw{Cat(Quoted(text), " is per the unknown unit ", Quoted(unit)), std::string(kRateExample)};
  }
  if (MaybeFlaw flaw = ReadNumber(text.substr(0, slash), out)) {
    return Flaw{std::move(flaw->message), std::string(kRateExample)};
  }
  *out /= seconds;
  return std::nullopt;
}

MaybeFlaw ReadScopedRate(std::string_view text, double* per_s, v1::RateScope* scope) {
  constexpr std::string_view kExample = "Write it such as \"1/s per connection\" or \"100k/s total\"";
  const std::string_view trimmed = Trim(text);
  const size_t blank = trimmed.find_first_of(" \t");
  if (MaybeFlaw flaw = ReadRate(trimmed.substr(0, blank), per_s)) {
    return Flaw{std::move(flaw->message), std::string(kExample)};
  }
  const std::string_view rest = blank == std::string_view::npos ? "" : Trim(trimmed.substr(blank + 1));
  if (rest == "per connection") {
    *scope = v1::RATE_SCOPE_PER_CONNECTION;
  } else if (rest == "total") {
    *scope = v1::RATE_SCOPE_TOTAL;
  } else if (rest.empty()) {
    return Flaw{Cat(Quoted(text), " does not say whether it is per connection or total"), std::string(kExample)};
  } else {
    return Flaw{Cat(Quoted(text), " ends in the unknown ", Quoted(rest)), std::string(kExample)};
  }
  return std::nullopt;
}

std::string FormatNumber(double value) {
  if (value >= 0 && value < 1e15 && value == std::floor(value)) return FormatCount(static_cast<uint64_t>(value));
  return absl::StrFormat("%.6g", value);
}

std::string FormatRate(double per_s) { return Cat(FormatNumber(per_s), "/s"); }

absl::Duration FromProto(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

void ToProto(absl::Duration duration, google::protobuf::Duration* out) {
  const int64_t seconds = absl::IDivDuration(duration, absl::Seconds(1), &duration);
  out->set_seconds(seconds);
  out->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

absl::StatusOr<absl::Duration> ParseDuration(std::string_view text) {
  absl::Duration value;
  MaybeFlaw flaw = ReadDuration(text, &value);
  return ToStatusOr(std::move(flaw), value);
}

absl::StatusOr<uint64_t> ParseCount(std::string_view text) {
  uint64_t value = 0;
  MaybeFlaw flaw = ReadCount(text, &value);
  return ToStatusOr(std::move(flaw), value);
}

absl::StatusOr<uint64_t> ParseSize(std::string_view text) {
  uint64_t value = 0;
  MaybeFlaw flaw = ReadSize(text, &value);
  return ToStatusOr(std::move(flaw), value);
}

std::string FormatDuration(absl::Duration duration) {
  return duration == absl::ZeroDuration() ? "0s" : absl::FormatDuration(duration);
}

std::string FormatCount(uint64_t count) {
  if (count >= 1'000'000'000 && count % 1'000'000'000 == 0) return Cat(count / 1'000'000'000, "G");
  if (count >= 1'000'000 && count < 1'000'000'000 && count % 1'000'000 == 0) {
    return Cat(count / 1'000'000, "M");
  }
  if (count >= 1'000 && count < 1'000'000 && count % 1'000 == 0) return Cat(count / 1'000, "k");
  std::string digits = Cat(count);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

}  // namespace loadstar::spec
