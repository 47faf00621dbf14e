// Parses arbitrary bytes as a document and, after a line "---set PATH=VALUE" each, with overrides. Whatever comes out
// must be either problems or a message that is complete: completing it again finds nothing and changes nothing.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "lib/spec/spec.h"

namespace {

template <typename Message>
void CheckComplete(Message message) {
  const std::string before = message.SerializeAsString();
  if (!loadstar::spec::Complete(&message).empty() || message.SerializeAsString() != before) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr std::string_view kSet = "\n---set ";
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::vector<loadstar::spec::Override> overrides;
  for (size_t at = rest.rfind(kSet); at != std::string_view::npos && overrides.size() < 8; at = rest.rfind(kSet)) {
    if (auto override = loadstar::spec::ParseOverride(rest.substr(at + kSet.size())); override.ok()) {
      overrides.push_back(*std::move(override));
    }
    rest = rest.substr(0, at);
  }
  loadstar::v1::Document document;
  document.set_file_name("fuzz.yaml");
  document.set_yaml(std::string(rest));
  loadstar::spec::Parsed parsed = loadstar::spec::Parse(document, overrides);
  if (parsed.problems.empty() != (parsed.kind != loadstar::spec::Parsed::Kind::kNone)) std::abort();
  if (parsed.kind == loadstar::spec::Parsed::Kind::kTest) {
    CheckComplete(parsed.test);
    loadstar::spec::Scale(0.37, &parsed.test);
  } else if (parsed.kind == loadstar::spec::Parsed::Kind::kStack) {
    CheckComplete(parsed.stack);
  } else if (parsed.kind == loadstar::spec::Parsed::Kind::kTuningProfile) {
    CheckComplete(parsed.tuning_profile);
  }
  if (!parsed.problems.empty() && loadstar::spec::ToString(parsed.problems).empty()) std::abort();
  return 0;
}
