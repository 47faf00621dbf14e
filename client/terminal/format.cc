#include "client/terminal/format.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace loadstar::client::terminal {
namespace {

// "RUN_STATE_RUNNING" without its prefix, in small letters and with spaces.
std::string EnumWords(absl::string_view name, absl::string_view prefix) {
  if (name.substr(0, prefix.size()) == prefix) {
    name.remove_prefix(prefix.size());
  }
  std::string words = absl::AsciiStrToLower(name);
  absl::StrReplaceAll({{"_", " "}}, &words);
  return words.empty() || words == "unspecified" ? std::string(kAbsent) : words;
}

}  // namespace

std::string Grouped(uint64_t number) {
  std::string digits = std::to_string(number);
  for (size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

std::string Rate(double per_second) {
  if (!std::isfinite(per_second) || per_second < 0 || per_second > 1e18) {
    return std::string(kAbsent);
  }
  if (per_second >= 100 || per_second == std::floor(per_second)) {
    return Grouped(static_cast<uint64_t>(std::llround(per_second)));
  }
  return absl::StrFormat("%.1f", per_second);
}

std::string Latency(uint64_t us) {
  if (us < 1'000) {
    return absl::StrFormat("%d us", us);
  }
  // Three significant digits, as many as the histogram holds.
  const bool seconds = us >= 999'500;
  const double value = static_cast<double>(us) / (seconds ? 1e6 : 1e3);
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f %s", decimals, value, seconds ? "s" : "ms");
}

std::string Latency(const v1::Percentiles& percentiles, uint64_t us) {
  return percentiles.count() == 0 ? std::string(kAbsent) : Latency(us);
}

std::string Bytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrFormat("%d B", bytes) : absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string Clock(int64_t seconds) {
  if (seconds < 0) {
    seconds = 0;
  }
  if (seconds < 3600) {
    return absl::StrFormat("%d:%02d", seconds / 60, seconds % 60);
  }
  return absl::StrFormat("%d:%02d:%02d", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

std::string Age(absl::Duration age) {
  if (age < absl::Minutes(1)) {
    return absl::StrFormat("%d s", std::max<int64_t>(0, absl::ToInt64Seconds(age)));
  }
  if (age < absl::Hours(1)) {
    return absl::StrFormat("%d min", absl::ToInt64Minutes(age));
  }
  if (age < absl::Hours(24)) {
    return absl::StrFormat("%d h", absl::ToInt64Hours(age));
  }
  return absl::StrFormat("%d d", absl::ToInt64Hours(age) / 24);
}

std::string LocalTime(absl::Time time, absl::TimeZone zone) {
  return time == absl::InfinitePast() ? std::string(kAbsent) : absl::FormatTime("%Y-%m-%d %H:%M:%S", time, zone);
}

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0 && time.nanos() == 0) {
    return absl::InfinitePast();
  }
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

std::string Words(v1::RunState state) { return EnumWords(v1::RunState_Name(state), "RUN_STATE_"); }
std::string Words(v1::VerdictKind verdict) { return EnumWords(v1::VerdictKind_Name(verdict), "VERDICT_KIND_"); }
std::string Words(v1::DeploymentState state) { return EnumWords(v1::DeploymentState_Name(state), "DEPLOYMENT_STATE_"); }
std::string Words(v1::Side side) { return EnumWords(v1::Side_Name(side), "SIDE_"); }

std::string ErrorName(const v1::ErrorCount& error) {
  const std::string phase = EnumWords(v1::ErrorPhase_Name(error.phase()), "ERROR_PHASE_");
  std::string kind = EnumWords(v1::ErrorKind_Name(error.kind()), "ERROR_KIND_");
  // "connect timeout" and "request timeout" name their phase already.
  std::string name = kind.compare(0, phase.size() + 1, phase + " ") == 0 ? kind : absl::StrCat(phase, " ", kind);
  if (!error.detail().empty()) {
    absl::StrAppend(&name, " ", Printable(error.detail()));
  }
  return name;
}

std::string Printable(absl::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    clean.push_back(byte < 0x20 || byte == 0x7f ? ' ' : c);
  }
  return clean;
}

}  // namespace loadstar::client::terminal
