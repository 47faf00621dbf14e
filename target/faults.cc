#include "target/faults.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace loadstar::target {
namespace {

using nlohmann::json;

void ReadNumber(const json& value, const std::string& field, double max, double* out, std::vector<FieldError>* errors) {
  if (!value.is_number()) {
    errors->push_back({field, absl::StrCat("expected a number, found ", value.type_name())});
    return;
  }
  const double number = value.get<double>();
  if (!(number >= 0 && number <= max)) {
    errors->push_back({field, absl::StrCat("must be from 0 to ", max, ", is ", value.dump())});
    return;
  }
  *out = number;
}

int64_t PartsOf(double share) { return std::llround(share * static_cast<double>(kWhole)); }

DelayShare ReadDelay(const json& value, const std::string& field, std::vector<FieldError>* errors) {
  DelayShare delay;
  if (!value.is_object()) {
    errors->push_back({field, absl::StrCat("expected an object with ms and share, found ", value.type_name())});
    return delay;
  }
  for (const char* needed : {"ms", "share"}) {
    if (!value.contains(needed)) errors->push_back({absl::StrCat(field, ".", needed), "is missing"});
  }
  for (const auto& [key, number] : value.items()) {
    const std::string place = absl::StrCat(field, ".", key.substr(0, 64));
    if (key == "ms") {
      ReadNumber(number, place, kDelayMax_ms, &delay.ms, errors);
    } else if (key == "share") {
      const size_t before = errors->size();
      ReadNumber(number, place, 1, &delay.share, errors);
      if (errors->size() == before && PartsOf(delay.share) == 0) {
        errors->push_back({place, absl::StrCat("must be at least 1e-9, is ", number.dump())});
      }
    } else {
      errors->push_back({place, "unknown; known are ms, share"});
    }
  }
  return delay;
}

void ReadDelays(const json& value, std::vector<DelayShare>* delays, std::vector<FieldError>* errors) {
  if (!value.is_array() || value.empty() || value.size() > kDelaysMax) {
    errors->push_back({"delays", absl::StrCat("expected an array of 1 to ", kDelaysMax,
                                              R"( objects such as {"ms": 10, "share": 0.999}, found )",
                                              value.is_array() ? absl::StrCat(value.size()) : value.type_name())});
    return;
  }
  const size_t before = errors->size();
  int64_t sum = 0;
  for (const json& row : value) {
    delays->push_back(ReadDelay(row, absl::StrCat("delays[", delays->size(), "]"), errors));
    sum += PartsOf(delays->back().share);
  }
  if (errors->size() > before) return;
  if (std::abs(sum - kWhole) > kWholeMissedMax) {
    const json is = static_cast<double>(sum) / static_cast<double>(kWhole);
    errors->push_back({"delays", absl::StrCat("the shares must sum to 1, they sum to ", is.dump())});
    return;
  }
  const auto largest = std::max_element(delays->begin(), delays->end(),
                                        [](const DelayShare& a, const DelayShare& b) { return a.share < b.share; });
  for (DelayShare& delay : *delays) {
    const int64_t parts = PartsOf(delay.share) + (&delay == &*largest ? kWhole - sum : 0);
    delay.share = static_cast<double>(parts) / static_cast<double>(kWhole);
  }
}

void ReadField(const std::string& key, const json& value, ParsedFaults* parsed) {
  FaultSettings& settings = parsed->settings;
  std::vector<FieldError>* errors = &parsed->errors;
  if (key == "delay_ms") {
    ReadNumber(value, "delay_ms", kDelayMax_ms, &settings.delay_ms, errors);
  } else if (key == "delays") {
    ReadDelays(value, &settings.delays, errors);
  } else if (key == "stall_ms") {
    ReadNumber(value, "stall_ms", kStallMax_ms, &settings.stall_ms, errors);
  } else if (key == "error_ratio") {
    ReadNumber(value, "error_ratio", 1, &settings.error_ratio, errors);
  } else if (key == "close_ratio") {
    ReadNumber(value, "close_ratio", 1, &settings.close_ratio, errors);
  } else if (key == "refuse") {
    if (value.is_boolean()) {
      settings.refuse = value.get<bool>();
    } else {
      errors->push_back({"refuse", absl::StrCat("expected true or false, found ", value.type_name())});
    }
  } else {
    errors->push_back(
        {key.substr(0, 64), "unknown; known are delay_ms, delays, stall_ms, error_ratio, close_ratio, refuse"});
  }
}

}  // namespace

ParsedFaults ParseFaults(std::string_view body) {
  ParsedFaults parsed;
  if (absl::StripAsciiWhitespace(absl::string_view(body.data(), body.size())) == "clear") {
    return parsed;
  }
  const json document = json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) {
    parsed.errors.push_back({"", R"(not JSON; send an object such as {"delay_ms": 50}, or {} to clear)"});
    return parsed;
  }
  if (document == "clear") {
    return parsed;
  }
  if (!document.is_object()) {
    parsed.errors.push_back({"", absl::StrCat("expected a JSON object, found ", document.type_name())});
    return parsed;
  }
  for (const auto& [key, value] : document.items()) {
    ReadField(key, value, &parsed);
  }
  if (document.contains("delay_ms") && document.contains("delays")) {
    parsed.errors.push_back({"delays", "cannot be given beside delay_ms"});
  }
  return parsed;
}

std::string FaultsToJson(const FaultSettings& settings) {
  json document{{"stall_ms", settings.stall_ms},
                {"error_ratio", settings.error_ratio},
                {"close_ratio", settings.close_ratio},
                {"refuse", settings.refuse}};
  if (settings.delays.empty()) document["delay_ms"] = settings.delay_ms;
  for (const DelayShare& delay : settings.delays) {
    document["delays"].push_back({{"ms", delay.ms}, {"share", delay.share}});
  }
  return document.dump();
}

std::string FieldErrorsToJson(const std::vector<FieldError>& errors) {
  json list = json::array();
  for (const FieldError& error : errors) {
    list.push_back({{"field", error.field}, {"reason", error.reason}});
  }
  return json{{"errors", list}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

void RatioDice::SetRatio(double ratio) {
  if (ratio != ratio_) {
    ratio_ = ratio;
    owed_ = 0;
  }
}

bool RatioDice::Hits() {
  if (ratio_ <= 0) {
    return false;
  }
  // A hair above, so that ten times 0.1 is one hit although the sum of floats is not 1.
  owed_ += ratio_ + 1e-12;
  if (owed_ < 1) {
    return false;
  }
  owed_ -= 1;
  return true;
}

void DelayDice::SetRows(std::span<const Row> rows) {
  const auto same = [](const Dealt& dealt, const Row& row) { return dealt.row == row; };
  if (std::equal(rows_.begin(), rows_.end(), rows.begin(), rows.end(), same)) {
    return;
  }
  rows_.clear();
  int64_t sum = 0;
  for (const Row& row : rows) {
    rows_.push_back({row});
    sum += row.share;
  }
  if (sum != kWhole) rows_.clear();
  enough_ = rows_.size() > 1 ? kWhole / static_cast<int64_t>(2 * (rows_.size() - 1)) : 0;
}

int64_t DelayDice::Deal_ns() {
  // What a row lacks until it must be dealt: of those that are owed enough to be dealt now (there is one, since kWhole
  // is owed in all), the one which comes there first.
  const auto lacks = [this](const Dealt& dealt) { return kWhole - enough_ - dealt.owed; };
  Dealt* next = nullptr;
  for (Dealt& dealt : rows_) {
    dealt.owed += dealt.row.share;
    if (dealt.owed < enough_) continue;
    if (next == nullptr || lacks(dealt) * next->row.share < lacks(*next) * dealt.row.share) next = &dealt;
  }
  next->owed -= kWhole;
  return next->row.delay_ns;
}

}  // namespace loadstar::target
