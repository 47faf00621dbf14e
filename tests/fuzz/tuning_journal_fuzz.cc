// Replays arbitrary lines as a tuning journal, each with the checksum that it should have, so that what is behind the
// checksum is reached. Whatever is known afterwards must survive being written and read again.
#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/tuner/journal.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::string text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() == rest.size() ? line.size() : line.size() + 1);
    const uLong sum = crc32(0, reinterpret_cast<const Bytef*>(line.data()), static_cast<uInt>(line.size()));
    char digits[16];
    (void)std::snprintf(digits, sizeof(digits), "%08lx ", sum);
    text.append(digits).append(line).append("\n");
  }
  using loadstar::agent::Replay;
  const loadstar::agent::Era era{.of_host = "b", .of_network_namespace = "b/n"};
  const loadstar::agent::Replayed replayed = Replay(text, era);
  uint64_t sequence = 0;
  loadstar::agent::Replayed again = Replay(Compacted(replayed.keys, &sequence), era);
  if (!again.problems.empty() || again.torn_end || again.keys.size() != replayed.keys.size()) std::abort();
  for (auto& [key, tuned] : again.keys) tuned.order = replayed.keys.at(key).order;
  if (again.keys != replayed.keys) std::abort();
  return 0;
}
