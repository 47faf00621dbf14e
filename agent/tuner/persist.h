#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace loadstar::agent {

// Settings that outlive a boot: one file for each profile in etc/sysctl.d, which systemd-sysctl reads (sysctl.d(5)).
// `root` is "/" but in tests. A profile's name is safe as part of a file's name (lib/spec/name.h).
using PersistentValues = std::vector<std::pair<std::string, std::string>>;  // key and value, in order

// Writes the file, in place of an earlier one of the profile. The old one or the new one is there whatever happens.
absl::Status Persist(const std::string& root, const std::string& profile, const PersistentValues& values);
// Whether the file is there and holds exactly these.
bool Holds(const std::string& root, const std::string& profile, const PersistentValues& values);
// The file's path, as it is without `root`, and whether it is there.
std::string PersistentPath(const std::string& profile);
bool IsPersisted(const std::string& root, const std::string& profile);
// Profiles that have a file, by name.
std::vector<std::string> PersistedProfiles(const std::string& root);
// Removes it; OK when there is none.
absl::Status Unpersist(const std::string& root, const std::string& profile);
// Removes what an interrupted Persist left beside the files.
void TidyPersisted(const std::string& root);

// A line of somebody else's that sets one of the keys to another value and is read after ours, so that it wins at boot.
struct Rival {
  std::string key;
  std::string value;
  std::string file;  // as it would be without `root`
  size_t line = 0;   // the first one is 1
};
// By file and line. Files are read in the order of their names whatever their folder, and one in etc hides those of the
// same name in run and usr. Patterns with "*" and "?" count for every key that they match. What cannot be read is left
// out.
std::vector<Rival> FindRivals(const std::string& root, const std::string& profile, const PersistentValues& values);

}  // namespace loadstar::agent
