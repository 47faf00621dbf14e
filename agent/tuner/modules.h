#pragma once

#include <chrono>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/tuner/command.h"
#include "loadstar/v1/tuning.pb.h"

namespace loadstar::agent {

// Modules of the kernel that were loaded for profiles, because they bring settings of theirs. What was loaded is
// unloaded when the last of its profiles goes, if nothing uses it by then. A boot unloads all. Owned by the thread that
// tunes.
class Modules {
 public:
  struct Options {
    std::string record;                                               // path of the record; its folder is there
    std::string era = {};                                             // of the host: see Era
    CommandRunner run = MakeCommandRunner(std::chrono::seconds(30));  // modprobe
    std::string loaded_folder = "/sys/module";                        // has a folder for each module that is loaded
  };
  explicit Modules(Options options) : options_(std::move(options)) {}

  // Reads the record, once, before anything else. What cannot be read of it is not unloaded.
  void Load();

  // Of the step about a module, as a key of its own.
  static std::string KeyOf(const std::string& module) { return "module " + module; }

  // Loads a module that is not loaded, or, for a plan, says that it would. It is in the record before it is loaded. One
  // that is loaded already is refused: it is somebody else's.
  v1::TuneStep Add(const std::string& profile, const std::string& module, bool plans);
  // Unloads what was loaded for the profile, but what `in_use` says that others need. `only`: of these keys alone;
  // empty: of all.
  std::vector<v1::TuneStep> Rollback(const std::string& profile, const std::set<std::string>& only,
                                     const std::function<bool(const std::string& module)>& in_use);
  // A step for each module of each profile.
  std::vector<v1::TuneStep> Status() const;
  // Profiles that modules were loaded for.
  std::set<std::string> Applied() const;

 private:
  using Loaded = std::set<std::pair<std::string, std::string>>;  // profile and module

  absl::Status Record(Loaded loaded);
  bool IsLoaded(const std::string& module) const;

  const Options options_;
  Loaded loaded_;
};

}  // namespace loadstar::agent
