#pragma once

#include <cstdint>

namespace loadstar::plan {

// Which connections are whose: worker i of n takes connection k when k mod n = i. Immutable, thread-safe. See
// docs/architecture.md.
class Split {
 public:
  // workers, endpoints >= 1; sources >= 0 (0: the kernel chooses the source address).
  Split(uint32_t workers, uint32_t endpoints, uint32_t sources);

  // Number of k < total with k mod n = worker.
  uint64_t ShareOf(uint32_t worker, uint64_t total) const;
  // Global number k of the worker's local connection j: j * n + worker.
  uint64_t GlobalOf(uint32_t worker, uint64_t local) const;
  // Endpoint of connection k: (k + k div lcm(n, m)) mod m. Over any prefix the endpoints differ by at most one
  // connection, at multiples of m by none.
  uint32_t EndpointOf(uint64_t k) const;
  // Source address of connection k: (k div m) mod s, so that over any prefix the pairs of source and endpoint differ by
  // at most one connection. 0 when s is 0.
  uint32_t SourceOf(uint64_t k) const;

 private:
  uint32_t workers_, endpoints_, sources_;
  uint64_t lcm_;
};

}  // namespace loadstar::plan
