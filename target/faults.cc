#include "target/faults.h"

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace loadstar::target {
namespace {

using nlohmann::json;

void ReadNumber(const json& value, const char* field, double max, double* out, std::vector<FieldError>* errors) {
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

void ReadField(const std::string& key, const json& value, ParsedFaults* parsed) {
  FaultSettings& settings = parsed->settings;
  std::vector<FieldError>* errors = &parsed->errors;
  if (key == "delay_ms") {
    ReadNumber(value, "delay_ms", kDelayMax_ms, &settings.delay_ms, errors);
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
    errors->push_back({key.substr(0, 64), "unknown; known are delay_ms, stall_ms, error_ratio, close_ratio, refuse"});
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
  return parsed;
}

std::string FaultsToJson(const FaultSettings& settings) {
  return json{{"delay_ms", settings.delay_ms},
              {"stall_ms", settings.stall_ms},
              {"error_ratio", settings.error_ratio},
              {"close_ratio", settings.close_ratio},
              {"refuse", settings.refuse}}
      .dump();
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

}  // namespace loadstar::target
