#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/tuner/colima/colima.h"
#include "agent/tuner/colima/colima_cli.h"

namespace loadstar::agent {

// NAME=VALUE each, of this process. Nothing may set variables meanwhile.
std::vector<std::string> Environment();

// nullopt: of a system that Colima does not run on.
std::optional<HostSystem> OwnSystem();

// What is known of a machine of this user's on this host before any program is asked. FAILED_PRECONDITION: it is not
// known where Colima would have it.
absl::StatusOr<ColimaSettings> SettingsHere(const std::vector<std::string>& environment, HostSystem system,
                                            const std::string& machine);

}  // namespace loadstar::agent
