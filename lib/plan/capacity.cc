#include "lib/plan/capacity.h"

#include <algorithm>

namespace loadstar::plan {

void BindLeast(v1::Capacity* capacity) {
  if (capacity->limits().empty()) return;
  std::stable_sort(capacity->mutable_limits()->begin(), capacity->mutable_limits()->end(),
                   [](const auto& a, const auto& b) { return a.connections() < b.connections(); });
  capacity->set_connections(capacity->limits(0).connections());
  capacity->set_binding_limit(capacity->limits(0).name());
}

}  // namespace loadstar::plan
