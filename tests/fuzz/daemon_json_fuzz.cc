// Merges a limit into arbitrary text. Whatever is merged must be JSON in which nothing else changed and nothing went
// down, merging again must change nothing, and what JSON readers refuse must be refused here, too.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "agent/tuner/daemon_json.h"
#include "agent/tuner/descriptor_limit.h"

namespace {

using nlohmann::json;

constexpr char kUlimits[] = "default-ulimits";

bool IsBlank(std::string_view text) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

json WithoutLimit(json document) {
  if (document.contains(kUlimits)) {
    document[kUlimits].erase("nofile");
    if (document[kUlimits].empty()) document.erase(kUlimits);
  }
  return document;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using loadstar::agent::MergeDaemonJson;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const loadstar::os::DescriptorLimit wanted = {.soft = 1000, .hard = 2000};
  const auto before = loadstar::agent::ReadDaemonJson("daemon.json", text);
  const auto merged = MergeDaemonJson("daemon.json", text, wanted);
  if (merged.ok() != before.ok()) std::abort();
  if (!merged.ok()) {
    if (merged.status().code() != absl::StatusCode::kInvalidArgument) std::abort();
    return 0;
  }
  if (before->text != text || !merged->limit.has_value()) std::abort();
  const loadstar::os::DescriptorLimit most =
      loadstar::agent::Most(before->limit.value_or(loadstar::os::DescriptorLimit{}), wanted);
  if (merged->limit->soft != most.soft || merged->limit->hard != most.hard) std::abort();
  const json after = json::parse(merged->text, nullptr, false);
  if (after.is_discarded()) std::abort();
  if (!IsBlank(text)) {
    const json old = json::parse(text.begin(), text.end(), nullptr, false);
    if (old.is_discarded() || WithoutLimit(old) != WithoutLimit(after)) std::abort();
  }
  const auto again = MergeDaemonJson("daemon.json", merged->text, wanted);
  if (!again.ok() || again->text != merged->text) std::abort();
  return 0;
}
