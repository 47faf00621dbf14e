#pragma once

#include "loadstar/v1/spec.pb.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::plan {

// The tuning profile that a test needs of a host that has both ends of it, and no more: computed from its connections,
// their ramps, its endpoints and its source addresses. Every setting says in its effect which figure it follows from.
// Values are at least what is needed: a host that has more keeps it. `test` is valid; the nodes of a stack are taken
// for one endpoint, because how many there are is not in the test. The profile's name is "for-" and the test's.
v1::TuningProfile TuningNeed(const v1::TestSpec& test);

}  // namespace loadstar::plan
