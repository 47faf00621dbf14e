#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "loadstar/v1/worker.pb.h"

namespace loadstar::worker {

// The beginning of a request to each endpoint of the plan, rendered once: the request line, Host, and the headers of
// the test. Further headers, the empty line and the body follow.
std::vector<std::string> RenderHttpHeads(const v1::WorkerPlan& plan, std::string_view method);

// The test asks for "Connection: close": every answer is its connection's last.
bool AsksForClose(const v1::HttpOptions& options);

}  // namespace loadstar::worker
