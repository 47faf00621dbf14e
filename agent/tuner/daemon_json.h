#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lib/os/limits.h"

namespace loadstar::agent {

// Docker's configuration file with the limit of open files that its containers begin with (default-ulimits, nofile).
struct DaemonJson {
  std::string text;
  std::optional<os::DescriptorLimit> limit = {};  // nullopt: it says nothing of it
};

// The limit that the text of a daemon.json asks for; `text` is returned as it is. `file` is for errors.
// INVALID_ARGUMENT with "FILE:LINE:COLUMN: ": it is no JSON, has a key twice, or its default-ulimits is not of the form
// that Docker takes. Empty text is a file without settings, as it is for Docker.
absl::StatusOr<DaemonJson> ReadDaemonJson(const std::string& file, std::string_view text);

// The text with the limit raised to what is wanted, number by number; what is higher already stays. Everything else is
// kept byte for byte, and what is added is laid out as its neighbours are. A text that fulfils it is returned
// unchanged. Errors as above. `wanted`: soft at least 1 and at most hard, hard at most INT64_MAX.
absl::StatusOr<DaemonJson> MergeDaemonJson(const std::string& file, std::string_view text,
                                           const os::DescriptorLimit& wanted);

}  // namespace loadstar::agent
