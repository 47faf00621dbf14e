// Documents for tests of the program.
#pragma once

namespace loadstar::client {

inline constexpr char kTestYaml[] = R"(apiVersion: loadstar/v1
kind: Test
name: smoke
target:
  endpoints: [127.0.0.1:9100]
  protocol: tcp
load:
  connections:
    - {ramp: 2s, to: 100}
    - {hold: 3s}
  requests:
    model: open
    rate: 1/s per connection
thresholds:
  - latency.p99 < 50ms
)";

inline constexpr char kStackYaml[] = R"(apiVersion: loadstar/v1
kind: Stack
name: two-nodes
runtime: process
nodes:
  - {name: node1, listen: 9100, api: 8080}
  - {name: node2, listen: 9101, api: 8081}
)";

}  // namespace loadstar::client
