// The kinds of documents: from the tree to the message. What can be read is read, so that the message can be checked
// as a whole (complete.h) even when parts of it are spoilt.
#pragma once

#include <string_view>

#include "lib/spec/report.h"
#include "lib/spec/tree.h"
#include "loadstar/v1/spec.pb.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::spec {

void ReadTest(const Node& root, Report* report, v1::TestSpec* test);
void ReadStack(const Node& root, Report* report, v1::StackSpec* stack);
void ReadTuningProfile(const Node& root, Report* report, v1::TuningProfile* profile);

// As documents have it; empty for one that is not known.
std::string_view WordOf(v1::SysctlPolicy policy);

}  // namespace loadstar::spec
