#pragma once

#include <string>
#include <vector>

#include "lib/spec/spec.h"
#include "lib/spec/tree.h"

namespace loadstar::spec {

// "--set PATH", as problems name it.
std::string LabelOf(const Override& override);

// Applies the overrides in order. A mapping or list that is missing on the way is made, a list grows by one when the
// index is its length, and an empty value takes the key out. What cannot be applied is reported.
void ApplyOverrides(const std::vector<Override>& overrides, Node* root, Report* report);

}  // namespace loadstar::spec
