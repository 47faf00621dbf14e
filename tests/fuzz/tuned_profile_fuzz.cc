// Reads arbitrary text as a profile of tuned. Whatever is found must be a sysctl's name.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/tuner/other_tuners.h"
#include "lib/spec/sysctl_key.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const loadstar::agent::TunedProfile profile = loadstar::agent::ReadTunedProfile(text);
  const bool names = std::all_of(profile.keys.begin(), profile.keys.end(), loadstar::spec::IsSysctlKey);
  if (!names || profile.keys.size() > size || profile.includes.size() > size) std::abort();
  return 0;
}
