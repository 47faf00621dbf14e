#include "agent/tuner/colima/this_host.h"

#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string_view>

#include "agent/tuner/colima/colima_config.h"
#include "lib/os/proc.h"

namespace loadstar::agent {
namespace {

bool IsFolder(const std::string& path) {
  struct stat facts {};
  return stat(path.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode);
}

}  // namespace

std::vector<std::string> Environment() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
  return variables;
}

std::optional<HostSystem> OwnSystem() {
  utsname names{};
  if (uname(&names) != 0) return std::nullopt;
  const std::string_view name = names.sysname;
  if (name == "Darwin") return HostSystem::kMacOs;
  return name == "Linux" ? std::optional(HostSystem::kLinux) : std::nullopt;
}

absl::StatusOr<ColimaSettings> SettingsHere(const std::vector<std::string>& environment, HostSystem system,
                                            const std::string& machine) {
  ColimaSettings settings{.machine = machine, .config_path = ConfigPath(environment, system, machine, IsFolder)};
  if (settings.config_path.empty()) {
    return absl::FailedPreconditionError(
        "HOME is not set, so Colima's folder is not known; set it, or COLIMA_HOME, to that of the user who runs "
        "Colima");
  }
  settings.folder = settings.config_path.substr(0, settings.config_path.rfind('/'));
  // A file that is kept elsewhere and linked to is replaced where it is, and not the link.
  std::error_code unresolved;
  const std::filesystem::path real = std::filesystem::weakly_canonical(settings.config_path, unresolved);
  if (!unresolved) settings.config_path = real.string();
  if (system == HostSystem::kLinux) {
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    settings.host_cores = cores > 0 ? static_cast<uint64_t>(cores) : 0;
    if (const auto text = os::Proc().Read("meminfo"); text.ok()) {
      std::map<std::string, uint64_t> meminfo = os::ParseMeminfo(*text);
      settings.host_memory_bytes = meminfo["MemTotal"];
    }
    settings.hardware_virtualization = access("/dev/kvm", R_OK | W_OK) == 0;
  }
  return settings;
}

}  // namespace loadstar::agent
