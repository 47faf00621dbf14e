#include "lib/plan/split.h"

#include <algorithm>
#include <numeric>

namespace loadstar::plan {

Split::Split(uint32_t workers, uint32_t endpoints, uint32_t sources)
    : workers_(std::max<uint32_t>(workers, 1)),
      endpoints_(std::max<uint32_t>(endpoints, 1)),
      sources_(std::max<uint32_t>(sources, 1)),
      lcm_(std::lcm<uint64_t, uint64_t>(workers_, endpoints_)) {}

uint64_t Split::ShareOf(uint32_t worker, uint64_t total) const {
  return total > worker ? (total - worker - 1) / workers_ + 1 : 0;
}

uint64_t Split::GlobalOf(uint32_t worker, uint64_t local) const { return local * workers_ + worker; }

uint32_t Split::EndpointOf(uint64_t k) const { return static_cast<uint32_t>((k + k / lcm_) % endpoints_); }

uint32_t Split::SourceOf(uint64_t k) const { return static_cast<uint32_t>(k / endpoints_ % sources_); }

}  // namespace loadstar::plan
