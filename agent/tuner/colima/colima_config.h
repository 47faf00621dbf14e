// What a machine's colima.yaml has to say for a tuning profile. Pure: texts in, texts out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/tuner/colima/colima_cli.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// What a colima.yaml says of the machine; 0 and empty where it says nothing.
struct ColimaConfig {
  uint64_t cpus = 0;
  double memory_gib = 0;
  uint64_t disk_gib = 0;
  std::string arch;
  std::string runtime;
  std::string vm_type;
  std::string mount_type;
  uint64_t soft_descriptors = 0;  // of the engine, docker.default-ulimits.nofile
  uint64_t hard_descriptors = 0;
  bool ours = false;  // it has our provision script
};
// An empty text is a configuration that says nothing. INVALID_ARGUMENT: it is no YAML, or none that can be kept as it
// is (anchors, aliases, tags), or a value is not of its kind; with place and remedy.
absl::StatusOr<ColimaConfig> ReadConfig(std::string_view text);

// The configuration with what `profile` and `options` ask for; every other key and value stays, quotes included, but
// comments do not. Returns `existing` itself, byte for byte, when that asks for all of it already. A script of ours is
// replaced where it is. Limits of descriptors are raised, never lowered. Errors as ReadConfig.
absl::StatusOr<std::string> MergeConfig(std::string_view existing, const v1::TuningProfile& profile,
                                        const StartOptions& options);

// What a setting wants, as the kernel would show it: "1024 65535", "8080,9100-9103".
std::string WantedText(const v1::SysctlSetting& setting);

// Whether two configurations say the same.
bool SameConfig(std::string_view one, std::string_view other);

struct RestoredConfig {
  std::string text;
  std::vector<std::string> kept;  // keys of ours that somebody else changed since
};
// The opposite of MergeConfig: what is ours in `now` becomes what it was in `before` (the configuration before
// Loadstar; empty: there was none), and everything else stays. A key that does not say what it says in `left` (what we
// left behind) is somebody else's by now, and stays as well; our scripts go in any case. Errors as ReadConfig.
absl::StatusOr<RestoredConfig> RestoreConfig(std::string_view now, std::string_view left, std::string_view before);

// The script that makes a profile's settings at each boot, for sh(1): what is wanted at least is only raised, ranges
// are only widened, lists only get longer, all else is set. What cannot be had is told to standard error, and the
// machine comes up all the same. `root` is "/proc/sys" but in tests. The profile is one that spec::Complete found
// nothing wrong with: its keys and modules are then words without any meaning to a shell.
std::string ProvisionScript(const v1::TuningProfile& profile, const std::string& root = "/proc/sys");

// Where Colima looks for the configuration of a machine, given its environment (NAME=VALUE) and whether a folder is
// there. Empty when not even a home is known.
std::string ConfigPath(const std::vector<std::string>& environment, HostSystem system, const std::string& machine,
                       bool (*is_folder)(const std::string& path));

}  // namespace loadstar::agent
