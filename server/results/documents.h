#pragma once

#include <string>

#include "loadstar/v1/run.pb.h"

namespace loadstar::server::results {

// run.json: the whole run in protobuf's JSON, field names as in the .proto, with "program_version" before it. Counters
// that are zero are written; what was not measured is not there.
std::string RunJson(const v1::Run& run, const std::string& version);

// summary.txt: one screen for people.
std::string Summary(const v1::Run& run, const std::string& version);

}  // namespace loadstar::server::results
