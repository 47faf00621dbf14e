// Any bytes that a node may answer to a GET, in any pieces: the outcome must not depend on where they are cut.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/fetch/http_response.h"

namespace {

std::string Outcome(std::string_view bytes, size_t piece) {
  loadstar::agent::HttpResponse response(1 << 16);
  while (!bytes.empty()) {
    const size_t take = piece < bytes.size() ? piece : bytes.size();
    const absl::StatusOr<bool> complete = response.Append(bytes.substr(0, take));
    bytes.remove_prefix(take);
    if (!complete.ok()) return "refused";
    if (*complete) return std::to_string(response.status()) + response.body();
  }
  return response.Finish().ok() ? std::to_string(response.status()) + response.body() : "cut short";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (size > (1 << 15)) return 0;
  const std::string whole = Outcome(bytes, size + 1);
  const std::string single = Outcome(bytes, 1);
  // What follows a complete answer is refused by nobody, so only these two may differ: bytes past the end.
  if (whole != single && whole != "refused" && single != "refused") abort();
  return 0;
}
