// Documents for the tests of lib/spec.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/spec/spec.h"

namespace loadstar::spec {

inline constexpr std::string_view kTest = R"(apiVersion: loadstar/v1
kind: Test
name: full
target:
  endpoints: [127.0.0.1:9100]
  protocol: tcp
load:
  connections:
    - {ramp: 5m, to: 100k}
    - {hold: 5m}
  requests:
    model: open
    rate: 1/s per connection
thresholds:
  - latency.p99 < 50ms
)";

inline constexpr std::string_view kStack = R"(apiVersion: loadstar/v1
kind: Stack
name: two
runtime: process
nodes:
  - name: node1
    listen: 9100
    api: 8080
  - name: node2
    listen: 9101
)";

inline v1::Document DocumentOf(std::string_view yaml) {
  v1::Document document;
  document.set_file_name("test.yaml");
  document.set_yaml(std::string(yaml));
  return document;
}

// The text with the first `from` replaced; the test must not compile in a `from` that is not there.
inline std::string With(std::string_view text, std::string_view from, std::string_view to) {
  std::string changed(text);
  return changed.replace(changed.find(from), from.size(), to);
}

inline Parsed ParseText(std::string_view yaml, const std::vector<Override>& overrides = {}) {
  return Parse(DocumentOf(yaml), overrides);
}

}  // namespace loadstar::spec
