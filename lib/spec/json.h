#pragma once

#include <string>

#include "lib/spec/tree.h"

namespace loadstar::spec {

// A tree as JSON, in the order of the document. Plain (unquoted) scalars that JSON knows as a number, true, false or
// null become that; everything else is a string.
std::string ToJson(const Node& node);

}  // namespace loadstar::spec
